"""The content tree of structured reports. Source: DICOM PS3.3 C.17.3, C.18."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from core.dicom.derived.dataset import Code, Item
from core.dicom.derived.identity import image_of
from core.domain.derived import ReportPlace, SourceImage

CONTENT, TEMPLATE = 0x0040A730, 0x0040A504
MAX_NODES = 100_000
MAX_POINTS = 1_000_000
_HALF_PIXEL = 0.5
"""SCOORD counts from the corner of the first pixel, the engine from its centre. Source: PS3.3 C.18.6.1.2."""
_PLAIN = {
    "TEXT": 0x0040A160,
    "DATETIME": 0x0040A120,
    "DATE": 0x0040A121,
    "TIME": 0x0040A122,
    "PNAME": 0x0040A123,
    "UIDREF": 0x0040A124,
}


@dataclass
class Node:
    """One content item. ``value`` is what a person reads; ``number`` is set for a measurement that has a value."""

    depth: int
    value_type: str
    relationship: str
    name: Code | None
    value: str = ""
    unit: str = ""
    number: float | None = None
    code: Code | None = None
    place: ReportPlace | None = None
    image: SourceImage | None = None
    children: list[Node] = field(default_factory=list)

    @property
    def title(self) -> str:
        """The concept's meaning."""
        return self.name.meaning or self.name.value if self.name is not None else ""

    def is_named(self, *codes: str) -> bool:
        """Whether the concept is one of ``"SCHEME:value"``."""
        return self.name is not None and self.name.is_any_of(*codes)

    def walk(self) -> Iterator[Node]:
        """Yield the items below this one, depth first."""
        for child in self.children:
            yield child
            yield from child.walk()

    def places(self) -> Iterator[ReportPlace]:
        """Yield the places directly below this item."""
        for child in self.children:
            if child.place is not None:
                yield child.place

    def images(self) -> Iterator[SourceImage]:
        """Yield the images directly below this item."""
        for child in self.children:
            if child.image is not None:
                yield child.image


class ContentReader:
    """Builds the tree of one document. ``cut`` says that there were more items than are kept."""

    def __init__(self) -> None:
        self.cut = False
        self._nodes = 0
        self._points = 0

    def read(self, document: Item) -> Node:
        """Return the root; its children are the document's content."""
        root = Node(-1, "CONTAINER", "", document.code(0x0040A043))
        self._children(document, root)
        return root

    def _children(self, item: Item, parent: Node) -> None:
        for child in item.items(CONTENT):
            self._nodes += 1
            if self._nodes > MAX_NODES:
                self.cut = True
                return
            node = self._node(child, parent.depth + 1)
            parent.children.append(node)
            self._children(child, node)
            if node.value_type == "SCOORD":
                _choose_image(node)

    def _node(self, item: Item, depth: int) -> Node:
        kind = item.text(0x0040A040).upper()
        node = Node(depth, kind, item.text(0x0040A010), item.code(0x0040A043))
        if not kind and 0x0040DB73 in item:
            where = ".".join(str(int(n)) for n in item.numbers(0x0040DB73) if n < 1e9)
            node.value = f"see item {where}"
        elif kind in _PLAIN:
            node.value = item.words(_PLAIN[kind])
            if kind == "PNAME":
                node.value = node.value.replace("^", " ").strip()
        elif kind == "CODE":
            node.code = item.code(0x0040A168)
            node.value = (node.code.meaning or node.code.value) if node.code is not None else ""
        elif kind == "NUM":
            _read_number(item, node)
        elif kind in ("IMAGE", "COMPOSITE", "WAVEFORM"):
            _read_reference(item, node)
        elif kind in ("SCOORD", "SCOORD3D"):
            self._read_coordinates(item, node)
        return node

    def _read_coordinates(self, item: Item, node: Node) -> None:
        values = item.numbers(0x00700022)
        shape = item.text(0x00700023).lower()
        size = 3 if node.value_type == "SCOORD3D" else 2
        count = len(values) // size
        self._points += count
        if not count or not shape or self._points > MAX_POINTS:
            node.value = shape
            self.cut |= self._points > MAX_POINTS
            return
        node.value = f"{shape}, {count} {'point' if count == 1 else 'points'}"
        if size == 3:
            lps = tuple((values[3 * n], values[3 * n + 1], values[3 * n + 2]) for n in range(count))
            node.place = ReportPlace(shape, points_lps_mm=lps)
        else:
            pixels = tuple(
                (values[2 * n] - _HALF_PIXEL, values[2 * n + 1] - _HALF_PIXEL) for n in range(count)
            )
            node.place = ReportPlace(shape, points_ij=pixels)


def _read_number(item: Item, node: Node) -> None:
    """Read a measured value. Source: DICOM PS3.3 C.18.1."""
    measured = item.first(0x0040A300)
    if measured is not None:
        floating = measured.numbers(0x0040A161)
        text = measured.numbers(0x0040A30A)
        number = floating or text
        unit = measured.code(0x004008EA)
        node.unit = unit_text(unit)
        if number:
            node.number = number[0]
            node.value = measured.text(0x0040A30A) or f"{number[0]:.6g}"
            return
    qualifier = item.code(0x0040A301)
    node.value = qualifier.meaning if qualifier is not None else ""


def unit_text(code: Code | None) -> str:
    """Return a unit as it is printed: its UCUM symbol, nothing for a pure number, else its meaning."""
    if code is None:
        return ""
    if code.scheme == "UCUM":
        if code.value == "1" or (code.value.startswith("{") and code.value.endswith("}")):
            return code.value.strip("{}") if code.value != "1" else ""
        return {"[hnsf'U]": "HU", "Cel": "°C", "mm2": "mm²", "mm3": "mm³", "cm2": "cm²", "cm3": "cm³"}.get(
            code.value, code.value
        )
    return code.meaning or code.value


def _read_reference(item: Item, node: Node) -> None:
    reference = item.first(0x00081199)
    if reference is None:
        return
    node.image = image_of(reference)
    parts = []
    frames = reference.numbers(0x00081160)
    if frames:
        parts.append(
            ("frame " if len(frames) == 1 else "frames ") + ", ".join(f"{n:.0f}" for n in frames[:8])
        )
    segments = reference.numbers(0x0062000B)
    if segments:
        parts.append("segment " + ", ".join(f"{n:.0f}" for n in segments[:8]))
    node.value = "; ".join(parts)


def _choose_image(node: Node) -> None:
    """Give coordinates the image that they are selected from."""
    image = next(node.images(), None)
    if node.place is not None and image is not None:
        node.place = ReportPlace(node.place.shape, (), image, node.place.points_ij)
