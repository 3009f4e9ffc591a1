"""Checkpoints: written atomically, read without unpickling objects."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 (the exception only; nothing is unpickled here)
from typing import Any

import torch

from core.config.atomic import atomic_path
from core.domain.errors import InputError


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write tensors and plain values so that a crash leaves either the old or the new file."""
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain containers are accepted.

    Raises
    ------
    InputError
        ``training.checkpoint`` when the file isn't such a checkpoint.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, ValueError, EOFError, UnpicklingError) as error:
        raise InputError(
            "training.checkpoint", f"The checkpoint {path.name} can't be read.", "Remove it to start anew."
        ) from error
    if not isinstance(state, dict):
        raise InputError(
            "training.checkpoint", f"{path.name} isn't a checkpoint.", "Remove it to start anew."
        )
    return state
