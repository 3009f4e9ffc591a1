"""Python's garbage collector, kept from stopping the GUI thread.

A full collection walks every object that the interpreter tracks, with its lock held: 60–80 ms once SQLAlchemy,
pydicom and Qt's bindings are loaded. Nearly all of that is modules and classes, which live as long as the
process. ``set_aside`` takes what is alive out of the collector's sight; a full collection afterwards costs what
the open study costs, a few milliseconds.
"""

from __future__ import annotations

import gc

_YOUNG = 2_000
"""New objects before the youngest are looked at; Python's own 700 is for programs that hold little."""


def calm() -> None:
    """Look at young objects less often. Called before the libraries are loaded."""
    gc.set_threshold(_YOUNG, 10, 20)


def set_aside() -> None:
    """Stop walking what is alive now. To be called while no voxels are held: they would stay for ever.

    Callable on any thread; takes no time.
    """
    gc.freeze()
