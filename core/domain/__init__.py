"""Frozen domain types; standard library and numpy only."""
