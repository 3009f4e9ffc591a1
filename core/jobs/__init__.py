"""Typed messages, shared arrays, supervisor and persistent queue."""
