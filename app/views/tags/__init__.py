"""The elements of a file."""
