"""Attribution maps and their sanity checks."""
