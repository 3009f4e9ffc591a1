"""Which cases show the same picture: by the content of their files, and by how their thumbnails correlate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from core.recipes.cases import Case
from core.recipes.fingerprint import file_sha256

THUMBNAIL = 32
_BLOCK_VALUES = 1 << 24

Pairs = NDArray[np.int64]


def near_duplicates(thumbnails: NDArray[np.float32], correlation: float) -> NDArray[np.int64]:
    """Return a group number for each thumbnail; thumbnails that correlate above the limit share one.

    Groups are connected components: of two that are alike, each may resemble others. A thumbnail without contrast is
    like no other. Memory grows with the number of thumbnails, time with its square (one matrix product).

    Parameters
    ----------
    thumbnails : numpy.ndarray
        ``(N, H, W)``.
    correlation : float
        Pearson's coefficient over the pixels.
    """
    count = len(thumbnails)
    flat = thumbnails.reshape(count, -1).astype(np.float32)
    flat = flat - flat.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(flat, axis=1, keepdims=True)
    flat = np.divide(flat, norm, out=np.zeros_like(flat), where=norm > 1e-6)
    group = np.arange(count)
    rows = max(1, _BLOCK_VALUES // max(count, 1))
    for start in range(0, count, rows):
        block = flat[start : start + rows] @ flat[start:].T
        one, other = np.nonzero(block > correlation)
        later = other > one
        group = joined(count, group, np.stack([one[later] + start, other[later] + start], axis=1))
    return group


def joined(count: int, group: NDArray[np.int64], pairs: Pairs) -> NDArray[np.int64]:
    """Return the groups after joining those of each pair of members."""
    if len(pairs) == 0:
        return group
    own = np.stack([np.arange(count), first_of(group)], axis=1)
    edges = np.concatenate([own, pairs])
    graph = coo_matrix((np.ones(len(edges), dtype=bool), (edges[:, 0], edges[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def first_of(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each member the index of the first member of its group."""
    _, first, inverse = np.unique(group, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], dtype=np.int64)


def same_files(cases: Sequence[Case]) -> Pairs:
    """Return pairs of cases (indices) that share an image of the same bytes, whatever it is called.

    A case that is one of many in its files (it has a ``seed``) isn't compared by them.
    """
    by_size: dict[int, list[tuple[int, Path]]] = defaultdict(list)
    for number, case in enumerate(cases):
        if case.seed is not None:
            continue
        for path in dict.fromkeys(path for paths in case.images.values() for path in paths):
            by_size[path.stat().st_size].append((number, path))
    pairs = []
    for entries in by_size.values():
        first: dict[str, int] = {}
        if len({number for number, _ in entries}) > 1:
            for number, path in entries:
                kept = first.setdefault(file_sha256(path), number)
                if kept != number:
                    pairs.append((kept, number))
    return np.array(sorted(set(pairs)), dtype=np.int64).reshape(-1, 2)
