"""Whether there is room in memory for what is about to be allocated."""

from __future__ import annotations

import psutil

from core.domain.errors import EnvironmentFault

SHARE_OF_FREE = 0.6


def require_memory(needed_bytes: int, what: str) -> None:
    """Refuse what takes more than ``SHARE_OF_FREE`` of the free memory, before it is allocated.

    Parameters
    ----------
    what : str
        Begins the sentence for the reader: ``"The series"``.

    Raises
    ------
    EnvironmentFault
        ``memory.volume_too_large``.
    """
    available = psutil.virtual_memory().available
    if needed_bytes > SHARE_OF_FREE * available:
        raise EnvironmentFault(
            "memory.volume_too_large",
            f"{what} needs {needed_bytes >> 20} MB, but only {available >> 20} MB of memory are free.",
            "Close other programs or studies and try again.",
        )
