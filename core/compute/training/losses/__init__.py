"""Losses by name, with one calling convention: logits ``(N, C, …)`` and integer targets ``(N, …)``."""
