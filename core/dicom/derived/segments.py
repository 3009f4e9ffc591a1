"""What the segments of a SEG stand for. Source: DICOM PS3.3 C.8.20.2, C.8.20.4."""

from __future__ import annotations

from dataclasses import dataclass

from core.dicom.derived.colors import palette_color, rgb_of_cielab
from core.dicom.derived.dataset import Code, Item
from core.dicom.faults import malformed
from core.domain.coding import CodedConcept
from core.domain.segmentation import SegmentDefinition
from core.domain.volume import SeriesIssue

_SEQUENCE = 0x00620002
_BACKGROUND = "DCM:125040"
MAX_VALUE = 65_535


@dataclass(frozen=True)
class SegmentTable:
    """Definitions by segment number. ``background`` are numbers that are described but stand for nothing."""

    definitions: dict[int, SegmentDefinition]
    background: frozenset[int]
    issues: tuple[SeriesIssue, ...] = ()

    @property
    def highest(self) -> int:
        """The largest segment number."""
        return max(self.definitions, default=0)


def read_segments(data: Item) -> SegmentTable:
    """Return the segments that an object describes.

    Raises
    ------
    InputError
        When it describes none, or gives a number twice or out of range (``seg.invalid_segments``).
    """
    definitions: dict[int, SegmentDefinition] = {}
    background: set[int] = set()
    for item in data.items(_SEQUENCE):
        number = item.integer(0x00620004)
        if number is None or not 0 <= number <= MAX_VALUE or number in definitions:
            raise malformed(
                "A Segment Number (0062,0004) is missing, impossible or twice there.", "seg.invalid_segments"
            )
        kind = item.code(0x0062000F)
        if kind is not None and kind.is_any_of(_BACKGROUND):
            background.add(number)
            continue
        definitions[number] = _definition(item, number, kind)
    if not definitions and not background:
        raise malformed("The object describes no segment (0062,0002).", "seg.invalid_segments")
    return SegmentTable(definitions, frozenset(background))


def undescribed(number: int) -> SegmentDefinition:
    """Return a definition for a value that no segment describes."""
    unknown = CodedConcept("", "", "not described")
    return SegmentDefinition(number, f"segment {number}", unknown, unknown, palette_color(number))


def _definition(item: Item, number: int, kind: Code | None) -> SegmentDefinition:
    label = item.words(0x00620005) or (kind.meaning if kind else "") or f"segment {number}"
    region = item.code(0x00082218)
    return SegmentDefinition(
        value=number,
        label=label[:200],
        code=concept(kind),
        category=concept(item.code(0x00620003)),
        color_rgb=rgb_of_cielab(item.numbers(0x0062000D)) or palette_color(number),
        anatomic_region=concept(region) if region is not None else None,
    )


def concept(code: Code | None) -> CodedConcept:
    """Return a code as the engine's concept; an empty one where there is none."""
    if code is None:
        return CodedConcept("", "", "")
    return CodedConcept(code.value, code.scheme, code.meaning)
