"""Checkpoints: atomic, hashed, two in turn, read without unpickling objects."""

from __future__ import annotations

import hashlib
from pathlib import Path
from pickle import UnpicklingError  # noqa: TID251 (the exception only; nothing is unpickled here)
from typing import Any

import torch

from core.config.atomic import atomic_path, atomic_write_text, sweep_parts
from core.domain.errors import EnvironmentFault, InputError

LAST_FILES = ("last-0.ckpt", "last-1.ckpt")
_BLOCK = 1 << 20


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def save_checkpoint(path: Path, state: dict[str, Any]) -> str:
    """Write tensors and plain values with their hash beside them; returns the hash.

    A crash at any moment leaves the old or the new file, flushed to the disk, and a list of hashes that holds its own:
    the list names the new hash before the file takes its place and keeps the old one.

    Raises
    ------
    EnvironmentFault
        ``training.disk`` when it can't be written; the old file stays.
    """
    sidecar = path.with_name(path.name + ".sha256")
    try:
        with atomic_path(path) as part:
            torch.save(state, part)
            digest = sha256_of(part)
            known = [digest, *[h for h in _hashes(sidecar) if h != digest]][:2]
            atomic_write_text(sidecar, "".join(f"{h}  {path.name}\n" for h in known))
    except (OSError, RuntimeError) as error:
        raise EnvironmentFault(
            "training.disk",
            f"The checkpoint {path.name} can't be written; the one before it stays.",
            "Free space on the disk and resume the training.",
        ) from error
    return digest


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; only tensors and plain containers are accepted.

    Raises
    ------
    InputError
        ``training.checkpoint`` when the file isn't whole or isn't such a checkpoint.
    """
    hashes = _hashes(path.with_name(path.name + ".sha256"))
    if hashes and sha256_of(path) not in hashes:
        raise InputError(
            "training.checkpoint",
            f"The checkpoint {path.name} is damaged: its hash is another.",
            "Remove it; the other one is used.",
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, ValueError, EOFError, KeyError, UnpicklingError) as error:
        raise InputError(
            "training.checkpoint", f"The checkpoint {path.name} can't be read.", "Remove it to start anew."
        ) from error
    if not isinstance(state, dict):
        raise InputError(
            "training.checkpoint", f"{path.name} isn't a checkpoint.", "Remove it to start anew."
        )
    return state


class Checkpoints:
    """The checkpoints of one run: ``last-0`` and ``last-1`` in turn, ``best-…`` as told.

    Parameters
    ----------
    folder : pathlib.Path
        ``checkpoints/`` of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        sweep_parts(folder)
        self._next = 0

    def clear(self) -> None:
        """Delete what another run left."""
        for path in self.folder.glob("*.ckpt*"):
            path.unlink()
        self._next = 0

    @property
    def upcoming(self) -> str:
        """Name of the file that ``save_last`` writes next."""
        return LAST_FILES[self._next]

    def save_last(self, state: dict[str, Any]) -> str:
        """Write the state over the older of the two files; returns the file's name."""
        name = LAST_FILES[self._next]
        save_checkpoint(self.folder / name, state)
        self._next = 1 - self._next
        return name

    def load_last(self) -> tuple[dict[str, Any] | None, list[str]]:
        """Return the newest readable state (None: there is none) and the names of damaged files."""
        present = [self.folder / name for name in LAST_FILES if (self.folder / name).is_file()]
        states: list[tuple[int, Path, dict[str, Any]]] = []
        damaged = []
        for path in present:
            try:
                state = load_checkpoint(path)
                states.append((int(state["position"]["drawn"]), path, state))
            except (InputError, KeyError, TypeError):
                damaged.append(path.name)
        if not states:
            return None, damaged
        _, newest, state = max(states, key=lambda item: item[0])
        self._next = 1 - LAST_FILES.index(newest.name)
        return state, damaged

    def save_best(self, name: str, state: dict[str, Any]) -> str:
        """Write the weights of one of the best epochs; returns the file's name."""
        save_checkpoint(self.folder / name, state)
        return name

    def keep_best(self, names: set[str]) -> None:
        """Delete the files of best epochs that are not named."""
        for path in self.folder.glob("best-*.ckpt"):
            if path.name not in names:
                path.unlink()
                path.with_name(path.name + ".sha256").unlink(missing_ok=True)


def _hashes(sidecar: Path) -> list[str]:
    if not sidecar.is_file():
        return []
    return [line.split()[0] for line in sidecar.read_text(encoding="utf-8").splitlines() if line.strip()]
