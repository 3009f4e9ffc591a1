"""Random numbers that depend on where the training is, not on how it came there.

Before each batch the generators are seeded from (seed, batch number, rank): dropout, stochastic depth and mixup
then repeat exactly after a crash, also in the middle of an epoch.
"""

from __future__ import annotations

import hashlib

import torch


def key(*parts: int | str) -> int:
    """Return 63 bits that depend on all parts. Source: SHA-256 of their text, first eight bytes."""
    digest = hashlib.sha256("/".join(str(part) for part in parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def seed_batch(seed: int, batch: int, rank: int = 0) -> None:
    """Seed torch's generators (processor and every GPU) for one batch."""
    torch.manual_seed(key(seed, "batch", batch, rank))


def generator_for(*parts: int | str) -> torch.Generator:
    """Return a generator of its own, seeded from the parts."""
    return torch.Generator().manual_seed(key(*parts))
