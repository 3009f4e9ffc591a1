"""Layers and networks for several tasks on magnetic resonance volumes."""
