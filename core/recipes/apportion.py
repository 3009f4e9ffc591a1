"""Assigns groups to parts so that each class is spread by the shares: the arithmetic of ``splits``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_MOVES = 400


def quotas(totals: Floats, shares: Floats) -> Floats:
    """Return whole numbers of cases per part and class, ``(P, C)``, near ``shares × totals``.

    Each class is divided completely and within one of its exact share; what rounding leaves goes to the part that is
    most behind over the classes so far, so that rounding doesn't favour a part.
    """
    exact = np.outer(shares, totals)
    out = np.floor(exact + 1e-9)
    behind = np.zeros(len(shares))
    for column in range(len(totals)):
        behind += exact[:, column] - out[:, column]
        left = round(totals[column] - out[:, column].sum())
        fractional = exact[:, column] - out[:, column] > 1e-9
        for _ in range(left):
            open_parts = np.where(fractional, behind, -np.inf)
            part = int(open_parts.argmax())
            out[part, column] += 1
            behind[part] -= 1
            fractional[part] = False
    return out


def assigned(table: Floats, shares: Floats, rng: np.random.Generator, needed: Floats) -> NDArray[np.int64]:
    """Return the part of each group.

    Larger groups go first, each to the part where it reduces the distance to the quotas most; then single groups move
    while that helps. The first part gets at least one group of each needed class, and every part at least one group.

    Parameters
    ----------
    table : numpy.ndarray
        ``(G, C)`` cases of each group in each stratum.
    shares : numpy.ndarray
        ``(P,)``, summing to 1; the first part trains.
    needed : numpy.ndarray
        ``(G, L)`` cases of each group in each class that must be trained.
    """
    count = len(table)
    table = np.concatenate([table, table.sum(axis=1, keepdims=True)], axis=1)
    goal = quotas(table[:, :-1].sum(axis=0), shares)
    goal = np.concatenate([goal, goal.sum(axis=1, keepdims=True)], axis=1)
    order = rng.permutation(count)
    order = order[np.argsort(-table[order, -1], kind="stable")]
    part = np.full(count, -1, dtype=np.int64)
    filled = np.zeros_like(goal)
    for group in order:
        # The classes decide; the whole (last column) only where they don't.
        behind = (goal - filled) * table[group]
        gain = behind[:, :-1].sum(axis=1) + behind[:, -1] / (4 * max(1.0, goal[:, -1].sum()))
        part[group] = int(gain.argmax())
        filled[part[group]] += table[group]
    locked = _with_needed(part, needed, len(goal), order)
    _improved(part, table, goal, locked)
    return part


def _with_needed(
    part: NDArray[np.int64], needed: Floats, parts: int, order: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Bring a group of each class into the first part and one into every part; return which must stay there."""
    locked = np.zeros(len(part), dtype=bool)
    for column in range(needed.shape[1]):
        holders = order[needed[order, column] > 0]
        if len(holders) and not (locked & (part == 0) & (needed[:, column] > 0)).any():
            inside = holders[part[holders] == 0]
            keeper = (inside if len(inside) else holders)[-1]
            part[keeper] = 0
            locked[keeper] = True
    for wanted in range(parts):
        inside = order[part[order] == wanted]
        if len(inside) == 0:
            sizes = np.bincount(part, minlength=parts)
            free = order[~locked[order] & (sizes[part[order]] > 1)]
            if len(free):
                part[free[-1]] = wanted
                inside = free[-1:]
        if len(inside):
            locked[inside[-1]] = True
    return locked


def _improved(part: NDArray[np.int64], table: Floats, goal: Floats, locked: NDArray[np.bool_]) -> None:
    """Move single groups, in place, while the sum of squares of the distances to the quotas falls."""
    free = np.flatnonzero(~locked)
    if len(free) == 0:
        return
    over = -goal.copy()
    np.add.at(over, part, table)
    own = table[free]
    square = (own**2).sum(axis=1)
    for _ in range(_MOVES):
        # Moving x from a to b changes |o_a|² + |o_b|² by 2 x·(o_b − o_a) + 2 |x|².
        toward = own @ over.T
        change = 2 * (toward - toward[np.arange(len(free)), part[free]][:, None] + square[:, None])
        change[np.arange(len(free)), part[free]] = 0
        best = int(change.argmin())
        row, target = divmod(best, len(goal))
        if change[row, target] >= -1e-9:
            return
        group = free[row]
        over[part[group]] -= table[group]
        over[target] += table[group]
        part[group] = target


def cut(sizes: NDArray[np.int64], shares: Floats) -> list[int]:
    """Return the part of each group of a sequence that is cut at the shares; the group's middle decides.

    The first group trains. Where there are enough groups, the last one is in the last part.
    """
    total = sizes.sum()
    middles = (np.cumsum(sizes) - sizes / 2) / total
    ends = np.cumsum(shares)[:-1]
    parts = np.searchsorted(ends, middles, side="right")
    parts[0] = 0
    if len(sizes) >= len(shares):
        for part in range(1, len(shares)):
            latest = len(sizes) - (len(shares) - part)
            parts[latest] = max(parts[latest], part)
    return [int(part) for part in parts]
