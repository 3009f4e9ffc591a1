"""Long lists of values in a query, some hundred at a time: databases limit how many a statement takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

CHUNK = 500


def in_chunks(values: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the values in groups that one statement takes."""
    for start in range(0, len(values), CHUNK):
        yield values[start : start + CHUNK]
