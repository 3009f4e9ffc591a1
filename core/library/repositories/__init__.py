"""One repository per kind of record; sessions and rows stay inside."""
