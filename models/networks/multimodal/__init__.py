"""Networks that read an image and the report that goes with it."""
