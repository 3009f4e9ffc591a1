"""One module per user intention."""
