"""The models that fit the open series."""
