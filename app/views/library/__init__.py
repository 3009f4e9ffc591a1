"""Retention, backup and the check of the library."""
