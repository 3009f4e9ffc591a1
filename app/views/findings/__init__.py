"""The findings of a result, and sending them out."""
