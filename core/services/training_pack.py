"""Whether this installation can train."""

from __future__ import annotations

import importlib.util

MODULES = ("torch", "lightning", "monai", "onnx", "onnxscript", "sklearn", "matplotlib")


def missing_training_pack() -> tuple[str, ...]:
    """Return the libraries of the training pack that aren't installed; none is imported by asking."""
    return tuple(name for name in MODULES if importlib.util.find_spec(name) is None)
