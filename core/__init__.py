"""The headless engine: no Qt."""
