"""From files to displayable series.

One Series Instance UID may hold images that must not be stacked: localisers, other orientations,
several echoes, b-values or time points. Each becomes its own group with its own key.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from core.dicom.header import Header, identity_of, is_derived_object, object_kind
from core.dicom.layout import Layout, is_mosaic, lay_out, representative
from core.dicom.stack import SAME_POSITION_MM, listed, normal_of
from core.domain.errors import SafetyError
from core.domain.study import InstanceRef, ObjectKind, ScannedSeries, SeriesKind, SeriesSummary, SkippedFile
from core.domain.volume import SeriesIssue

_PROJECTIONS = frozenset({"CR", "DX", "MG", "RG", "IO", "PX", "BMD"})
_ORIENTATION_TOLERANCE = 5e-3


@dataclass
class Group:
    """Files that are shown together, and what must be said about them."""

    headers: list[Header]
    label: str = ""
    issues: list[SeriesIssue] = field(default_factory=list)


def build_series(headers: Sequence[Header]) -> tuple[list[ScannedSeries], list[SkippedFile]]:
    """Group files into displayable series; the result doesn't depend on the order of ``headers``.

    Returns
    -------
    series : list of ScannedSeries
        Sorted by study, series number and key.
    skipped : list of SkippedFile
        Files that repeat another one.
    """
    by_series: dict[tuple[str, str], list[Header]] = defaultdict(list)
    for header in sorted(headers, key=_instance_key):
        by_series[header.study_uid, header.series_uid].append(header)
    series: list[ScannedSeries] = []
    skipped: list[SkippedFile] = []
    keys_used: Counter[str] = Counter()
    for members in by_series.values():
        groups = _split(members, skipped)
        groups.sort(key=lambda g: (-sum(h.frames for h in g.headers), _instance_key(g.headers[0])))
        for group in groups:
            uid = group.headers[0].series_uid
            keys_used[uid] += 1
            key = uid if keys_used[uid] == 1 else f"{uid}#{keys_used[uid]}"
            series.extend(_scanned(group, key, len(groups), skipped))
    series.sort(key=lambda s: (s.summary.study_uid, s.summary.series_number or 0, s.summary.key))
    return series, skipped


def _instance_key(header: Header) -> tuple[int, str, str]:
    number = header.instance_number
    return (1 << 60 if number is None else number, header.sop_instance_uid, str(header.file))


def _split(members: list[Header], skipped: list[SkippedFile]) -> list[Group]:
    """Split the files of one series into groups that can be shown as one array each."""
    parts: dict[tuple[object, ...], list[Header]] = defaultdict(list)
    clusters: list[tuple[float, ...]] = []
    references = _references(members)
    for header in members:
        parts[_part_key(header, clusters, references)].append(header)
    groups: list[Group] = []
    for key, part in parts.items():
        if key[0] == "slices":
            groups.extend(_separate_repeats(part, skipped))
        else:
            groups.append(Group(part))
    _note_mixtures(members, groups, references)
    return groups


def _references(members: list[Header]) -> set[str]:
    """Return the frames of reference that tell images apart; empty when nearly each image has its own.

    De-identification was seen to give each slice of one scan a frame of reference of its own.
    """
    images = [h for h in members if shown_as_image(h)]
    distinct = {h.frame_of_reference_uid for h in images}
    return distinct if 1 < len(distinct) <= len(images) // 2 else set()


def _part_key(header: Header, clusters: list[tuple[float, ...]], references: set[str]) -> tuple[object, ...]:
    if not shown_as_image(header):
        return ("other", header.sop_class_uid, header.patient_key)
    common = (header.patient_key, header.rows, header.columns, header.samples, header.photometric)
    if header.frames > 1:
        return ("frames", header.sop_instance_uid, str(header.file))
    if is_mosaic(header):
        return ("mosaic", *common)
    spacing = tuple(round(v, 4) for v in header.pixel_spacing)
    plane = header.planes[0] if header.planes else None
    orientation = header.orientation or (plane.orientation if plane else ())
    position = header.position or (plane.position if plane else ())
    if len(orientation) == 6 and position and header.modality not in _PROJECTIONS:
        kind = header.image_type[:3]
        cluster = _cluster(orientation, clusters)
        reference = header.frame_of_reference_uid if references else ""
        return ("slices", *common, spacing, cluster, kind, reference)
    if header.modality in _PROJECTIONS:
        return ("projection", header.sop_instance_uid, str(header.file))
    return ("pages", *common, spacing, header.parsed.syntax.uid)


def shown_as_image(header: Header) -> bool:
    """Whether the object is an image for display rather than a segmentation, report, plan or document."""
    return header.has_pixels and not is_derived_object(header.sop_class_uid) and header.bits_allocated > 1


def _cluster(orientation: tuple[float, ...], clusters: list[tuple[float, ...]]) -> int:
    """Return the number of the cluster of parallel planes that ``orientation`` belongs to."""
    for number, known in enumerate(clusters):
        if max(abs(a - b) for a, b in zip(orientation, known, strict=True)) <= _ORIENTATION_TOLERANCE:
            return number
    clusters.append(orientation)
    return len(clusters) - 1


def _slots(part: Sequence[Header]) -> list[int]:
    """Number the distinct positions along the normal: one slot per file, equal where positions are equal."""
    orientation = part[0].orientation or part[0].planes[0].orientation
    points = np.array([h.position or h.planes[0].position for h in part], dtype=np.float64)
    projections = points @ normal_of(orientation)
    order = np.argsort(projections, kind="stable")
    slots = np.zeros(len(part), dtype=int)
    slots[order[1:]] = np.cumsum(np.diff(projections[order]) > SAME_POSITION_MM)
    return [int(s) for s in slots]


def _b_value(header: Header) -> str:
    for tag in (0x00189087, 0x0019100C):
        value = header.elements.number(tag)
        if value is not None:
            return f"{value:g}"
    private = header.elements.text(0x00431039).split("\\")[0]
    return private[-4:] if private.isdigit() else ""


_DISCRIMINATORS: tuple[tuple[str, Callable[[Header], str]], ...] = (
    ("echo time", lambda h: h.elements.text(0x00180081)),
    ("echo", lambda h: h.elements.text(0x00180086)),
    ("b-value", _b_value),
    ("image type", lambda h: "\\".join(h.image_type)),
    ("time point", lambda h: h.elements.text(0x00200100)),
    ("acquisition", lambda h: h.elements.text(0x00200012)),
)


def _separate_repeats(part: list[Header], skipped: list[SkippedFile]) -> list[Group]:
    """Split files whose positions repeat: first by what they state to differ in, then by time."""
    slots = _slots(part)
    if len(set(slots)) == len(slots):
        return [Group(part)]
    for name, value_of in _DISCRIMINATORS:
        values = [value_of(h) for h in part]
        distinct = sorted(set(values))
        if 1 < len(distinct) <= len(part) // 2:
            pieces = [[h for h, v in zip(part, values, strict=True) if v == wanted] for wanted in distinct]
            groups: list[Group] = []
            for wanted, piece in zip(distinct, pieces, strict=True):
                for group in _separate_repeats(piece, skipped):
                    group.label = ", ".join(filter(None, (f"{name} {wanted}".strip(), group.label)))
                    groups.append(group)
            return groups
    return _by_repetition(part, slots, skipped)


def _moment(header: Header) -> tuple[float, str, str, tuple[int, str, str]]:
    e = header.elements
    return (
        e.number(0x00181060) or 0.0,
        e.text(0x00080032),
        e.text(0x00080033) if header.instance_number is None else "",
        _instance_key(header),
    )


def _by_repetition(part: list[Header], slots: list[int], skipped: list[SkippedFile]) -> list[Group]:
    """Make the nth image at each position the nth time point; drop exact repeats of single slices."""
    at_slot: dict[int, list[Header]] = defaultdict(list)
    for header, slot in sorted(zip(part, slots, strict=True), key=lambda pair: _instance_key(pair[0])):
        at_slot[slot].append(header)
    counts = Counter(len(found) for found in at_slot.values())
    if len(counts) == 1:
        times = next(iter(counts))
        for found in at_slot.values():
            found.sort(key=_moment)
        return [
            Group([at_slot[s][t] for s in sorted(at_slot)], f"time point {t + 1} of {times}")
            for t in range(times)
        ]
    return _uneven(at_slot, skipped)


def _uneven(at_slot: dict[int, list[Header]], skipped: list[SkippedFile]) -> list[Group]:
    repeated: list[int] = []
    conflicting: list[int] = []
    leftovers: dict[int, list[Header]] = defaultdict(list)
    main: list[Header] = []
    for number, slot in enumerate(sorted(at_slot), start=1):
        first, *others = at_slot[slot]
        main.append(first)
        for rank, other in enumerate(others):
            if pixel_digest(first) == pixel_digest(other):
                repeated.append(number)
                skipped.append(
                    SkippedFile(
                        str(other.file),
                        "dicom.duplicate_slice",
                        f"Slice {number} is there twice with the same pixels; one is used.",
                    )
                )
            else:
                conflicting.append(number)
                leftovers[rank].append(other)
    group = Group(main)
    if repeated:
        group.issues.append(
            SeriesIssue("geometry.duplicate_slice", f"Repeated with equal pixels: slice {listed(repeated)}.")
        )
    groups = [group, *(Group(rest, f"repetition {rank + 2}") for rank, rest in leftovers.items())]
    if conflicting:
        issue = SeriesIssue(
            "geometry.duplicate_position",
            f"Different images lie at the same position: slice {listed(conflicting)}; which one belongs to this "
            "stack is not stated.",
            blocks_volumetry=True,
        )
        for one in groups:
            one.issues.append(issue)
    return groups


def pixel_digest(header: Header) -> str:
    """Return a SHA-256 of the pixel data as it stands in the file."""
    pixels = header.parsed.pixels
    if pixels is None:
        return ""
    if header.parsed.deflated_from is not None:
        return hashlib.sha256(header.parsed.inflated()[pixels.offset :]).hexdigest()
    with header.file.open("rb") as stream:
        stream.seek(pixels.offset)
        return hashlib.sha256(stream.read(-1 if pixels.length is None else pixels.length)).hexdigest()


def _note_mixtures(members: list[Header], groups: list[Group], references: set[str]) -> None:
    """Say on every group when one series mixes frames of reference or patients."""
    patients = {h.patient_key for h in members}
    for group in groups:
        numbers = [h.instance_number for h in group.headers if h.instance_number is not None]
        span = f"images {min(numbers)} to {max(numbers)}" if numbers else f"{len(group.headers)} images"
        if references:
            group.issues.append(
                SeriesIssue(
                    "geometry.mixed_frame_of_reference",
                    f"The series uses {len(references)} frames of reference; this group holds {span}, whose "
                    "positions cannot be compared with the others.",
                )
            )
        elif len({h.frame_of_reference_uid for h in group.headers}) > 1:
            group.issues.append(
                SeriesIssue(
                    "geometry.frame_of_reference_varies",
                    f"The slices ({span}) name different frames of reference; they are taken as one stack.",
                )
            )
        if len(patients) > 1:
            group.issues.append(
                SeriesIssue(
                    "dicom.mixed_patients",
                    f"The series holds images of {len(patients)} different patients; this group holds {span}.",
                    blocks_volumetry=True,
                )
            )


def _scanned(group: Group, key: str, siblings: int, skipped: list[SkippedFile]) -> Iterable[ScannedSeries]:
    first = representative(group.headers)
    layout: Layout | None = None
    if shown_as_image(first):
        try:
            layout = lay_out(group.headers)
        except SafetyError as error:
            skipped.extend(SkippedFile(str(h.file), error.code, error.user_message) for h in group.headers)
            return
    ordered = group.headers
    if layout is not None and first.frames == 1:
        ordered = [group.headers[index] for index, _ in layout.frames]
    issues = _collected_issues(group, layout, siblings)
    yield ScannedSeries(
        summary=_summary(group, key, layout, issues),
        instances=tuple(
            InstanceRef(h.sop_instance_uid, h.sop_class_uid, h.file, h.frames, h.instance_number)
            for h in ordered
        ),
        identity=identity_of(first),
        study_description=first.elements.person_text(0x00081030),
        study_date=first.elements.text(0x00080020),
    )


def _collected_issues(group: Group, layout: Layout | None, siblings: int) -> tuple[SeriesIssue, ...]:
    issues = list(group.issues)
    if siblings > 1:
        what = f" ({group.label})" if group.label else ""
        issues.append(
            SeriesIssue(
                "series.split", f"The series holds {siblings} groups of images; this is one of them{what}."
            )
        )
    seen: set[str] = set()
    for header in group.headers:
        for issue in header.issues:
            if issue.code not in seen:
                seen.add(issue.code)
                issues.append(issue)
    if layout is not None:
        issues.extend(layout.issues)
    return tuple(issues)


def _summary(group: Group, key: str, layout: Layout | None, issues: tuple[SeriesIssue, ...]) -> SeriesSummary:
    first = representative(group.headers)
    description = first.elements.person_text(0x0008103E)
    if group.label:
        description = f"{description} [{group.label}]".strip()
    spatial = layout is not None and layout.positioned
    return SeriesSummary(
        key=key,
        series_uid=first.series_uid,
        study_uid=first.study_uid,
        modality=first.modality or "OT",
        description=description,
        body_part=first.elements.text(0x00180015).upper(),
        instances=len(group.headers),
        frames=sum(h.frames for h in group.headers),
        kind=layout.kind if layout else SeriesKind.OTHER,
        shape_kji=layout.geometry.shape_kji if layout else None,
        spacing_kji_mm=layout.geometry.spacing_kji_mm if layout and layout.regular else None,
        regular=bool(layout and layout.regular),
        issues=issues,
        series_number=first.elements.integer(0x00200011),
        axis_codes=layout.geometry.axis_codes() if layout and spatial else "",
        lossy=any(h.lossy for h in group.headers),
        frame_of_reference_uid=first.frame_of_reference_uid or None,
        object_kind=ObjectKind.NONE if layout else object_kind(first.sop_class_uid) or ObjectKind.UNKNOWN,
        source_series=tuple(dict.fromkeys(uid for h in group.headers for uid in h.source_series)),
    )
