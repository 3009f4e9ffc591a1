"""Objects that others made: their list, and panes to read them."""
