"""What somebody probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

NEAR = "Did you mean "


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return a remedy that names the nearest candidate, or all of them when none is near."""
    known = sorted(set(candidates))
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if near:
        return f"{NEAR}“{near[0]}”?"
    if not known:
        return "Remove it."
    shown = ", ".join(known[:30]) + (" …" if len(known) > 30 else "")
    return f"Known here: {shown}."
