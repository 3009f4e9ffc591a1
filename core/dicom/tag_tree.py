"""The elements of a file as a tree whose lines are made when somebody looks at them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from core.dicom.elements import PIXEL_TAGS, Elements, RawElement, tag_name
from core.dicom.faults import malformed, translated
from core.dicom.part10 import NotDicom, ParsedFile, parse_file
from core.dicom.tag_identity import identifies
from core.dicom.tags import count_in_words, inherit_character_set, keyword_of, pixel_value, value_of, vr_of
from core.domain.tags import TagLine, TagPath

_NUMBER_OF_FRAMES = 0x00280008
_CACHED_PLACES = 512
_Place = tuple[Elements, tuple[int, ...]]


class TagTree:
    """The elements of one file, pixels left out. Immutable after its making: any thread may read.

    Parameters
    ----------
    parsed : ParsedFile
        All elements.
    other : TagTree or None
        The instance to compare with: lines whose value differs there say so.
    """

    def __init__(self, parsed: ParsedFile, other: TagTree | None = None) -> None:
        self._parsed = parsed
        self._other = other
        inherit_character_set(parsed.elements)
        self._top: dict[int, tuple[Elements, RawElement]] = {}
        for elements in (parsed.meta, parsed.elements):
            self._top |= {tag: (elements, raw) for tag, raw in elements.raw.items()}
        self._order = tuple(self._top)
        if parsed.pixels is not None and parsed.pixels.tag not in self._top:
            self._order = (*self._order, parsed.pixels.tag)
        self._places = lru_cache(_CACHED_PLACES)(self._place)

    @property
    def frames(self) -> int:
        """Number of frames; 1 where the file doesn't say."""
        return max(1, self._parsed.elements.integer(_NUMBER_OF_FRAMES) or 1)

    def compared_with(self, other: TagTree) -> TagTree:
        """Return the same elements with what differs in another instance marked."""
        return TagTree(self._parsed, other)

    def count(self, path: TagPath = ()) -> int:
        """Return how many lines stand directly below ``path``."""
        if not path:
            return len(self._order)
        if len(path) % 2:
            element = self._element(path)
            return len(element[1].items) if element else 0
        return len(self._tags(path))

    def lines(self, path: TagPath, start: int, stop: int) -> tuple[TagLine, ...]:
        """Return the lines ``start`` … ``stop`` (exclusive) directly below ``path``."""
        count = self.count(path)
        numbers = range(max(0, start), min(stop, count))
        if len(path) % 2:
            return tuple(self._item((*path, number)) for number in numbers)
        order = self._tags(path)
        return tuple(self._line((*path, order[number])) for number in numbers)

    def search(self, query: str, limit: int, identity_hidden: bool = False) -> tuple[TagLine, ...]:
        """Return the first ``limit`` lines of elements that contain ``query``, in the order of the file."""
        wanted = query.casefold().strip()
        found: list[TagLine] = []
        if not wanted:
            return ()
        for path in self._walk(()):
            line = self._line(path)
            if _matches(line, wanted, identity_hidden):
                found.append(line)
                if len(found) >= limit:
                    break
        return tuple(found)

    # -- places ------------------------------------------------------------------------------------

    def _place(self, path: TagPath) -> _Place | None:
        """Return the elements of the item at ``path``, and their order."""
        element = self._element(path[:-1])
        if element is None or not 0 <= path[-1] < len(element[1].items):
            return None
        item = element[1].items[path[-1]]
        return item, tuple(item.raw)

    def _tags(self, path: TagPath) -> tuple[int, ...]:
        """Return the elements of the data set or of an item, in the order of the file."""
        if not path:
            return self._order
        place = self._places(path)
        return place[1] if place else ()

    def _element(self, path: TagPath) -> tuple[Elements, RawElement] | None:
        """Return an element and what it stands in; None when it isn't there."""
        if len(path) == 1:
            return self._top.get(path[0])
        place = self._places(path[:-1])
        raw = place[0].raw.get(path[-1]) if place else None
        return (place[0], raw) if place is not None and raw is not None else None

    def _walk(self, path: TagPath) -> Iterator[TagPath]:
        for tag in self._tags(path):
            inner = (*path, tag)
            yield inner
            element = self._element(inner)
            for number in range(len(element[1].items) if element else 0):
                yield from self._walk((*inner, number))

    # -- lines -------------------------------------------------------------------------------------

    def _line(self, path: TagPath) -> TagLine:
        tag = path[-1]
        element = self._element(path)
        if element is None:
            vr = self._parsed.pixels.vr if self._parsed.pixels is not None else ""
            return TagLine(
                path, tag_name(tag), keyword_of(tag), _name(tag, ""), vr or "OW", pixel_value(self._parsed)
            )
        elements, raw = element
        vr = vr_of(tag, raw)
        creator = _creator(elements, tag)
        return TagLine(
            path,
            tag_name(tag),
            _public_keyword(tag),
            _name(tag, creator),
            vr,
            value_of(elements, tag, raw, vr),
            len(raw.items),
            creator,
            identifies(tag, vr),
            self._differs(path, raw),
            self._where(path),
        )

    def _item(self, path: TagPath) -> TagLine:
        place = self._places(path)
        number = len(place[1]) if place else 0
        other = self._other._places(path) if self._other is not None else None
        differs = self._other is not None and (other is None or place is None or other[0] != place[0])
        return TagLine(
            path,
            "",
            "",
            f"Item {path[-1] + 1}",
            "",
            count_in_words(number, "element"),
            number,
            differs=differs,
            where=self._where(path),
        )

    def _differs(self, path: TagPath, raw: RawElement) -> bool:
        if self._other is None:
            return False
        there = self._other._element(path)
        return there is None or (there[1].value, there[1].items) != (raw.value, raw.items)

    def _where(self, path: TagPath) -> str:
        around = []
        for depth in range(0, len(path) - 1, 2):
            tag = path[depth]
            element = self._element(path[: depth + 1])
            around.append(_name(tag, _creator(element[0], tag) if element else "") or tag_name(tag))
            if depth + 2 < len(path):
                around.append(f"Item {path[depth + 1] + 1}")
        return " › ".join(around)


def read_tag_tree(path: Path) -> TagTree:
    """Read all elements of a DICOM file but its pixels.

    Raises
    ------
    InputError
        If the file isn't DICOM or is damaged.
    EnvironmentFault
        If it cannot be read.
    """
    with translated("Reading the elements"):
        try:
            return TagTree(parse_file(path, None))
        except NotDicom:
            raise malformed("This is not a DICOM file.", "dicom.not_dicom") from None


def _matches(line: TagLine, wanted: str, identity_hidden: bool) -> bool:
    fields = (line.tag, line.tag.strip("()").replace(",", ""), line.keyword, line.name, line.vr, line.creator)
    if any(wanted in field.casefold() for field in fields):
        return True
    return not (identity_hidden and line.identifies) and wanted in line.value.casefold()


def _creator(elements: Elements, tag: int) -> str:
    """Return who reserved the block of a private element (PS3.5 7.8.1)."""
    block = (tag & 0xFFFF) >> 8
    if not tag >> 16 & 1 or not 0x10 <= block <= 0xFF:
        return ""
    return elements.text(tag & 0xFFFF0000 | block)


def _public_keyword(tag: int) -> str:
    return "" if tag >> 16 & 1 else keyword_of(tag)


@lru_cache(maxsize=8192)
def _name(tag: int, creator: str) -> str:
    from pydicom.datadict import dictionary_description, private_dictionary_description

    if tag >> 16 & 1:
        if 0x10 <= tag & 0xFFFF <= 0xFF:
            return "Private Creator"
        try:
            return str(private_dictionary_description(tag, creator)) if creator else ""
        except KeyError:
            return ""
    if tag & 0xFFFF == 0:
        return "Group Length"
    try:
        return str(dictionary_description(tag))
    except KeyError:
        return "Pixel Data" if tag in PIXEL_TAGS else ""
