"""Sliding-window and image inference."""
