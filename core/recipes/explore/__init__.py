"""The report of a data set: what is in it, how it looks, what is wrong with it."""
