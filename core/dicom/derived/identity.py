"""What a derived object says of itself and which images it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from core.dicom.derived.dataset import DerivedFile, Item, open_derived_file
from core.domain.derived import DerivedHeader, SourceImage
from core.domain.study import ObjectKind
from core.domain.volume import SeriesIssue

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.7"
STRUCTURE_SET = "1.2.840.10008.5.1.4.1.1.481.3"
KEY_OBJECTS = "1.2.840.10008.5.1.4.1.1.88.59"
PARAMETRIC_MAP = "1.2.840.10008.5.1.4.1.1.30"
PDF = "1.2.840.10008.5.1.4.1.1.104.1"
_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_PRESENTATIONS = "1.2.840.10008.5.1.4.1.1.11."
_DOCUMENTS = "1.2.840.10008.5.1.4.1.1.104."

HEADER_TAGS = frozenset(
    {
        0x00080005, 0x00080012, 0x00080013, 0x00080016, 0x00080018, 0x00080020, 0x00080021, 0x00080023, 0x00080030,
        0x00080031, 0x00080033, 0x00080060, 0x00080070, 0x0008103E, 0x00081090, 0x00081115, 0x0020000D, 0x0020000E,
        0x00200052, 0x0040A043, 0x0040A375, 0x0040A385, 0x0040A491, 0x0040A493, 0x00420010, 0x00420013, 0x0040A073,
        0x30060002, 0x30060004, 0x30060006, 0x30060008, 0x30060009, 0x30060010, 0x00700080, 0x00700081, 0x00700082,
        0x00700083, 0x00700084, 0x00081140, 0x00082112,
    }
)  # fmt: skip
"""Elements that the header of any kind may need; small, apart from lists of references."""


def kind_of(sop_class_uid: str) -> ObjectKind:
    """Return what an object of a SOP class is to a reader."""
    exact = {
        SEGMENTATION: ObjectKind.SEGMENTATION,
        LABEL_MAP: ObjectKind.SEGMENTATION,
        STRUCTURE_SET: ObjectKind.STRUCTURE_SET,
        KEY_OBJECTS: ObjectKind.KEY_OBJECTS,
        PARAMETRIC_MAP: ObjectKind.PARAMETRIC_MAP,
    }
    if sop_class_uid in exact:
        return exact[sop_class_uid]
    for prefix, kind in (
        (_REPORTS, ObjectKind.REPORT),
        (_PRESENTATIONS, ObjectKind.PRESENTATION),
        (_DOCUMENTS, ObjectKind.DOCUMENT),
    ):
        if sop_class_uid.startswith(prefix):
            return kind
    return ObjectKind.UNKNOWN


def read_header(path: Path) -> DerivedHeader:
    """Return what an object says of itself, without its content.

    Raises
    ------
    AppError
        When the file can't be read or is damaged.
    """
    return header_of(open_derived_file(path, HEADER_TAGS))


def header_of(file: DerivedFile, issues: Iterable[SeriesIssue] = ()) -> DerivedHeader:
    """Return the header of an opened file (with ``HEADER_TAGS`` among what was wanted)."""
    data = file.data
    return DerivedHeader(
        kind=kind_of(file.sop_class_uid),
        sop_instance_uid=data.text(0x00080018),
        sop_class_uid=file.sop_class_uid,
        series_uid=data.text(0x0020000E),
        study_uid=data.text(0x0020000D),
        label=_label(data),
        description=_first_words(data, 0x00700081, 0x30060006, 0x0008103E),
        maker=_maker(data),
        created=_created(data),
        source_series=source_series(data),
        frame_of_reference_uid=_frame_of_reference(data),
        issues=tuple(issues),
    )


def with_issues(header: DerivedHeader, *more: SeriesIssue) -> DerivedHeader:
    """Return the header with further issues, each code and message once."""
    return replace(header, issues=tuple(dict.fromkeys((*header.issues, *more))))


def source_series(data: Item) -> tuple[str, ...]:
    """List the Series Instance UIDs that an object refers to, in the order of their first mention.

    Source: DICOM PS3.3 C.12.4 (Referenced Series), C.17.2.3 (evidence), C.8.8.5 (structure set).
    """
    found: dict[str, None] = {}
    for item in _series_items(data):
        if uid := item.text(0x0020000E):
            found[uid] = None
    own = data.text(0x0020000E)
    return tuple(uid for uid in found if uid != own)


def source_images(data: Item) -> tuple[SourceImage, ...]:
    """List the images named in the references to whole series."""
    found: dict[str, SourceImage] = {}
    for item in _series_items(data):
        for tag in (0x0008114A, 0x00081140, 0x00081199, 0x30060016):
            for reference in item.items(tag):
                image = image_of(reference)
                if image is not None:
                    found.setdefault(image.sop_instance_uid, image)
    return tuple(found.values())


def image_of(reference: Item) -> SourceImage | None:
    """Return the image of a SOP reference, with its frames."""
    uid = reference.text(0x00081155)
    if not uid:
        return None
    frames = tuple(int(n) for n in reference.numbers(0x00081160) if 1 <= n < 1e7)
    return SourceImage(uid, frames)


def _series_items(data: Item) -> Iterator[Item]:
    yield from data.items(0x00081115)
    for evidence in (0x0040A375, 0x0040A385):
        for study in data.items(evidence):
            yield from study.items(0x00081115)
    for frame_of_reference in data.items(0x30060010):
        for study in frame_of_reference.items(0x30060012):
            yield from study.items(0x30060014)


def _frame_of_reference(data: Item) -> str:
    if uid := data.text(0x00200052):
        return uid
    referenced = data.first(0x30060010)
    return referenced.text(0x00200052) if referenced is not None else ""


def _label(data: Item) -> str:
    if label := _first_words(data, 0x30060002, 0x00700080, 0x00420010):
        return label
    title = data.code(0x0040A043)
    if title is not None and title.meaning:
        return title.meaning
    return data.words(0x0008103E)


def _maker(data: Item) -> str:
    """Return who made the object: its creator if named, else the device."""
    if creator := data.words(0x00700084).replace("^", " ").strip():
        return creator
    device = (data.words(0x00080070), data.words(0x00081090))
    return " ".join(dict.fromkeys(part for part in device if part))


def _created(data: Item) -> str:
    pairs = (
        (0x00700082, 0x00700083),
        (0x30060008, 0x30060009),
        (0x00080023, 0x00080033),
        (0x00080012, 0x00080013),
        (0x00080021, 0x00080031),
    )
    for date_tag, time_tag in pairs:
        date, time = data.text(date_tag), data.text(time_tag)
        if len(date) == 8 and date.isdigit():
            text = f"{date[:4]}-{date[4:6]}-{date[6:]}"
            return f"{text} {time[:2]}:{time[2:4]}" if time[:4].isdigit() and len(time) >= 4 else text
    return ""


def _first_words(data: Item, *tags: int) -> str:
    return next((words for tag in tags if (words := data.words(tag))), "")
