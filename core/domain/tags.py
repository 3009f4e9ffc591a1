"""The elements of a DICOM file as a tree that is read piece by piece."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

TagPath = tuple[int, ...]
"""Where a line stands: tag, item, tag, item … from the data set inwards; ``()`` is the data set itself."""

HIDDEN = "•••••"
"""What stands in place of a value while patient identity is hidden."""


@dataclass(frozen=True)
class TagLine:
    """One line of the tree: an element, or an item of a sequence.

    Attributes
    ----------
    path : tuple of int
        Tag, item number (from 0), tag … An element has an odd number of entries, an item an even one.
    tag : str
        ``"(gggg,eeee)"``; empty for an item.
    keyword, name : str
        DICOM keyword and its words; of a private element, the name that pydicom's dictionary knows, if any.
    vr : str
        Value representation; empty for an item.
    value : str
        Text; binary values and pixels as their size, sequences as their number of items.
    children : int
        Number of lines below this one.
    creator : str
        Who reserved the block of a private element.
    identifies : bool
        Whether the value may tell who the patient is: not to be shown or searched while identity is hidden.
    differs : bool
        Whether the instance that this one is compared with has another value, or none.
    where : str
        Names of the sequences and items around the line, outermost first; empty at the top.
    """

    path: TagPath
    tag: str
    keyword: str
    name: str
    vr: str
    value: str
    children: int = 0
    creator: str = ""
    identifies: bool = False
    differs: bool = False
    where: str = ""


class TagDocument(Protocol):
    """The elements of one file. Reads nothing from disk any more; every method is safe on any thread."""

    def count(self, path: TagPath = ()) -> int:
        """Return how many lines stand directly below ``path``."""

    def lines(self, path: TagPath, start: int, stop: int) -> tuple[TagLine, ...]:
        """Return the lines ``start`` … ``stop`` (exclusive) directly below ``path``."""

    def search(self, query: str, limit: int, identity_hidden: bool = False) -> tuple[TagLine, ...]:
        """Return the first ``limit`` lines whose tag, keyword, name, VR or value contains ``query``.

        With ``identity_hidden``, values that identify are not looked at.
        """
