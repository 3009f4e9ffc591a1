"""Reads structured reports: the content as lines, and the measurements of TID 1500 and of any other template.

Source: DICOM PS3.3 A.35, PS3.16 TID 1500, 1410, 1411, 1501, 300.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from core.dicom.derived.content import CONTENT, MAX_NODES, TEMPLATE, ContentReader, Node
from core.dicom.derived.dataset import Item, open_derived_file
from core.dicom.derived.identity import HEADER_TAGS, header_of, with_issues
from core.dicom.faults import translated
from core.domain.derived import (
    KeyObjects,
    ReportItem,
    ReportMeasurement,
    ReportPlace,
    SourceImage,
    StructuredReport,
)
from core.domain.volume import SeriesIssue

WANTED = HEADER_TAGS | frozenset((CONTENT, TEMPLATE))
_TRACKING_IDENTIFIER, _TRACKING_UID = "DCM:112039", "DCM:112040"
_FINDING = "DCM:121071"
_SITES = ("SCT:363698007", "SRT:G-C0E3", "SNM3:G-C0E3")
_LATERALITIES = ("SCT:272741003", "SRT:G-C171")
_DERIVATION = "DCM:121401"
_KEY_OBJECT_DESCRIPTION = "DCM:113012"


@dataclass(frozen=True)
class _Context:
    """What the containers around a measurement say of it."""

    tracking_id: str = ""
    finding: str = ""
    site: str = ""
    places: tuple[ReportPlace, ...] = ()


def read_report(path: Path) -> StructuredReport:
    """Read a structured report.

    Raises
    ------
    InputError
        When the file is damaged.
    """
    with translated("Reading the report"):
        file = open_derived_file(path, WANTED)
        data = file.data
        reader = ContentReader()
        root = reader.read(data)
        header = header_of(file)
        if reader.cut:
            header = with_issues(header, _cut())
        return StructuredReport(
            header=header,
            title=root.title or header.label,
            items=tuple(_line(node) for node in root.walk()),
            measurements=tuple(_measurements(root, _Context())),
            template=_template(data),
            complete=data.text(0x0040A491).upper() == "COMPLETE",
            verified=data.text(0x0040A493).upper() == "VERIFIED",
        )


def read_key_objects(path: Path) -> KeyObjects:
    """Read a key object selection. Source: DICOM PS3.3 A.35.4, PS3.16 TID 2010.

    Raises
    ------
    InputError
        When the file is damaged.
    """
    with translated("Reading the key images"):
        file = open_derived_file(path, WANTED)
        reader = ContentReader()
        root = reader.read(file.data)
        header = header_of(file)
        if reader.cut:
            header = with_issues(header, _cut())
        images: dict[SourceImage, None] = {}
        texts = []
        for node in root.walk():
            if node.image is not None:
                images[node.image] = None
            if node.value_type == "TEXT" and node.is_named(_KEY_OBJECT_DESCRIPTION) and node.value:
                texts.append(node.value)
        title = root.title or header.label
        return KeyObjects(replace(header, label=title), title, "\n".join(texts), tuple(images))


def _cut() -> SeriesIssue:
    return SeriesIssue("sr.cut", f"The report has more than {MAX_NODES} items; the rest isn't shown.")


def _template(data: Item) -> str:
    item = data.first(TEMPLATE)
    return item.text(0x0040DB00) if item is not None else ""


def _line(node: Node) -> ReportItem:
    own = (node.place,) if node.place is not None else ()
    image = (node.image,) if node.image is not None else ()
    # A measurement's line leads to where it was measured; its coordinates have lines of their own below it.
    below = node.value_type == "NUM"
    return ReportItem(
        depth=node.depth,
        name=node.title,
        value=node.value,
        unit=node.unit,
        value_type=node.value_type,
        places=own or (tuple(node.places()) if below else ()),
        images=image or (tuple(node.images()) if below or node.value_type == "SCOORD" else ()),
    )


def _measurements(node: Node, context: _Context) -> Iterator[ReportMeasurement]:
    """Yield the numbers below an item, each with what is said around it."""
    if node.value_type == "CONTAINER":
        context = _extended(node, context)
    for child in node.children:
        if child.value_type == "NUM" and child.number is not None:
            yield _measurement(child, child.number, context)
        yield from _measurements(child, context)


def _extended(container: Node, outer: _Context) -> _Context:
    """Return the context inside a container: its own tracking, finding, site and places, else those around it."""
    tracking = _value_named(container, _TRACKING_IDENTIFIER) or _value_named(container, _TRACKING_UID)
    return _Context(
        tracking or outer.tracking_id,
        _value_named(container, _FINDING) or outer.finding,
        _site(container) or outer.site,
        tuple(container.places()) or (() if tracking else outer.places),
    )


def _measurement(node: Node, number: float, context: _Context) -> ReportMeasurement:
    derivation = _value_named(node, _DERIVATION)
    return ReportMeasurement(
        name=f"{node.title} ({derivation})" if derivation else node.title,
        value=number,
        unit=node.unit,
        site=_site(node) or context.site,
        tracking_id=context.tracking_id,
        finding=context.finding,
        places=tuple(node.places()) or context.places,
    )


def _site(node: Node) -> str:
    """Return the finding site with its side."""
    for child in node.children:
        if child.is_named(*_SITES):
            side = _value_named(child, *_LATERALITIES)
            return f"{child.value} ({side})" if side else child.value
    return ""


def _value_named(node: Node, *codes: str) -> str:
    return next((child.value for child in node.children if child.is_named(*codes) and child.value), "")
