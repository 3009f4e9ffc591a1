"""From files to displayable series.

One Series Instance UID may hold images that must not be stacked: localisers, other orientations, several echoes or
b-values. Each becomes its own group with its own key. What repeats over time stays together. The rules are data:
``resources/series_rules.yaml``.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from core.dicom.header import Header, identity_of, is_derived_object, object_kind
from core.dicom.layout import Layout, lay_out_times, representative
from core.dicom.mosaic import is_mosaic, read_mosaic
from core.dicom.projection import view_of
from core.dicom.repeats import Group, instance_key, separate_repeats
from core.dicom.series_rules import series_rules
from core.dicom.suv import suv_factor
from core.domain.errors import AppError, SafetyError
from core.domain.study import InstanceRef, ObjectKind, ScannedSeries, SeriesKind, SeriesSummary, SkippedFile
from core.domain.volume import SeriesIssue


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
    for header in sorted(headers, key=instance_key):
        by_series[header.study_uid, header.series_uid].append(header)
    series: list[ScannedSeries] = []
    skipped: list[SkippedFile] = []
    keys_used: Counter[str] = Counter()
    claimed = Counter(series_uid for _, series_uid in by_series)
    for (_, series_uid), members in by_series.items():
        groups = _split(members, skipped)
        if claimed[series_uid] > 1:
            for group in groups:
                group.issues.append(_claimed(claimed[series_uid]))
        groups.sort(key=lambda g: (-sum(h.frames for h in g.headers), instance_key(g.headers[0])))
        for group in groups:
            uid = group.headers[0].series_uid
            keys_used[uid] += 1
            key = uid if keys_used[uid] == 1 else f"{uid}#{keys_used[uid]}"
            series.extend(_scanned(group, key, len(groups), skipped))
    series.sort(key=lambda s: (s.summary.study_uid, s.summary.series_number or 0, s.summary.key))
    return series, skipped


def _claimed(studies: int) -> SeriesIssue:
    return SeriesIssue(
        "dicom.mixed_studies",
        f"Files of {studies} studies claim this Series Instance UID; each study shows its own.",
        blocks_volumetry=True,
    )


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
            groups.extend(separate_repeats(part, skipped))
        elif key[0] == "mosaic":
            # each file is a whole volume; the scanner may follow the patient's movement, so places may differ
            groups.extend(separate_repeats(part, skipped, slots=[0] * len(part)))
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
    """Return what the images of one stack have in common."""
    if not shown_as_image(header):
        return ("other", header.sop_class_uid, header.patient_key)
    if header.frames > 1:
        return ("frames", header.sop_instance_uid, str(header.file))
    if header.modality in series_rules().projections:
        return ("projection", header.sop_instance_uid, str(header.file))
    plane = header.planes[0] if header.planes else None
    orientation = header.orientation or (plane.orientation if plane else ())
    placed = len(orientation) == 6 and bool(header.position or (plane.position if plane else ()))
    common = tuple(
        _common(rule.read, header, orientation, clusters, references)
        for rule in series_rules().split
        if placed or rule.read in _OF_PAGES
    )
    if is_mosaic(header) and read_mosaic(header) is not None:
        return ("mosaic", *common)
    return ("slices", *common) if placed else ("pages", *common, header.parsed.syntax.uid)


_OF_PAGES = ("patient", "matrix", "colour", "pixel_spacing")


def _common(
    read: str,
    header: Header,
    orientation: tuple[float, ...],
    clusters: list[tuple[float, ...]],
    references: set[str],
) -> object:
    """Return the property of an image that a rule names."""
    match read:
        case "patient":
            return header.patient_key
        case "matrix":
            return (header.rows, header.columns)
        case "colour":
            return (header.samples, header.photometric)
        case "pixel_spacing":
            digits = series_rules().tolerances.spacing_digits
            return tuple(round(v, digits) for v in header.pixel_spacing)
        case "orientation":
            return _cluster(orientation, clusters)
        case "image_type_start":
            return header.image_type[:3]
        case _:
            return header.frame_of_reference_uid if references else ""


def shown_as_image(header: Header) -> bool:
    """Whether the object is an image for display rather than a segmentation, report, plan or document."""
    return header.has_pixels and not is_derived_object(header.sop_class_uid) and header.bits_allocated > 1


def _cluster(orientation: tuple[float, ...], clusters: list[tuple[float, ...]]) -> int:
    """Return the number of the cluster of parallel planes that ``orientation`` belongs to."""
    tolerance = series_rules().tolerances.orientation
    for number, known in enumerate(clusters):
        if max(abs(a - b) for a, b in zip(orientation, known, strict=True)) <= tolerance:
            return number
    clusters.append(orientation)
    return len(clusters) - 1


def _note_mixtures(members: list[Header], groups: list[Group], references: set[str]) -> None:
    """Say on every group when one series mixes frames of reference, modalities or patients."""
    patients = {h.patient_key for h in members}
    modalities = {h.modality for h in members if shown_as_image(h)}
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
        if len(modalities) > 1:
            group.issues.append(
                SeriesIssue(
                    "dicom.mixed_modality",
                    f"The series holds images of several modalities ({', '.join(sorted(modalities))}).",
                    blocks_volumetry=True,
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
    layouts: list[Layout] = []
    if shown_as_image(first):
        try:
            layouts = lay_out_times(group.headers, group.time_points)
        except SafetyError as error:
            skipped.extend(SkippedFile(str(h.file), error.code, error.user_message) for h in group.headers)
            return
    ordered = group.headers
    if layouts and first.frames == 1 and layouts[0].mosaic is None:
        per_time = len(group.headers) // group.time_points
        ordered = [
            group.headers[t * per_time + index]
            for t, layout in enumerate(layouts)
            for index, _ in layout.frames
        ]
    layout = layouts[0] if layouts else None
    if layout is not None and layout.time_points > 1:
        group = dataclasses.replace(group, time_points=layout.time_points, dimension=layout.dimension)
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
        if group.headers[0].modality == "PT":
            issues.extend(_uptake_issue(group.headers))
    if group.time_points > 1 and group.dimension == series_rules().unstated.name:
        issues.append(SeriesIssue("series.repeats_unstated", series_rules().unstated.message))
    if _is_localizer(group.headers):
        issues.append(SeriesIssue("series.localizer", series_rules().localizer.message))
    return tuple(issues)


def _uptake_issue(headers: Sequence[Header]) -> list[SeriesIssue]:
    """Say before a reader opens a PET series that it will have no SUV."""
    try:
        issue = suv_factor(headers).issue
    except (AppError, OSError):
        return []  # whoever opens the series is told what is wrong with the file
    return [issue] if issue is not None else []


def _is_localizer(headers: Sequence[Header]) -> bool:
    marks = set(series_rules().localizer.image_types)
    return all(marks.intersection(h.image_type) for h in headers)


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
        frames=_frames(group, layout),
        kind=layout.kind if layout else SeriesKind.OTHER,
        shape_kji=layout.geometry.shape_kji if layout else None,
        spacing_kji_mm=layout.geometry.spacing_kji_mm if layout and layout.regular else None,
        regular=bool(layout and layout.regular),
        issues=issues,
        series_number=first.elements.integer(0x00200011),
        axis_codes=layout.geometry.axis_codes() if layout and spatial else "",
        lossy=any(h.lossy for h in group.headers),
        frame_of_reference_uid=first.frame_of_reference_uid or None,
        time_points=group.time_points,
        dimension=group.dimension,
        view=view_of(first) if layout else "",
        object_kind=ObjectKind.NONE if layout else object_kind(first.sop_class_uid) or ObjectKind.UNKNOWN,
        source_series=tuple(dict.fromkeys(uid for h in group.headers for uid in h.source_series)),
    )


def _frames(group: Group, layout: Layout | None) -> int:
    """Count the slices of all time points, those within mosaics too."""
    if layout is not None and layout.mosaic is not None:
        return layout.mosaic.tiles * len(group.headers)
    return sum(h.frames for h in group.headers)
