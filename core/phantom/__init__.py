"""Procedural anatomy: seeded phantoms with known truth."""
