"""Images at one position: series of their own, time points of one series, or repeats that are dropped.

Works from ``resources/series_rules.yaml``.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from core.config.sealed_file import open_plain
from core.dicom.header import Header
from core.dicom.series_rules import Dimension, Separate, series_rules
from core.dicom.stack import listed, normal_of
from core.domain.study import SkippedFile
from core.domain.volume import SeriesIssue

InstanceKey = tuple[int, str, str]


@dataclass
class Group:
    """Files that are shown together, and what must be said about them.

    With ``time_points`` > 1 the files of one time point follow those of the one before; each has as many.
    """

    headers: list[Header]
    label: str = ""
    issues: list[SeriesIssue] = field(default_factory=list)
    time_points: int = 1
    dimension: str = ""


def instance_key(header: Header) -> InstanceKey:
    """Return what orders files of which nothing else is known: instance number, UID, path."""
    number = header.instance_number
    return (1 << 60 if number is None else number, header.sop_instance_uid, str(header.file))


def separate_repeats(
    part: list[Header], skipped: list[SkippedFile], *, slots: Sequence[int] | None = None
) -> list[Group]:
    """Group files of one orientation: first by what they state to differ in, then by time.

    ``slots`` numbers the positions, one per file; without it they are found from the files.
    """
    where = list(slots) if slots is not None else positions_of(part)
    if len(set(where)) == len(where):
        return [Group(part)]
    for rule in series_rules().separate:
        values = [_separating(rule, h) for h in part]
        distinct = sorted(set(values))
        if not 1 < len(distinct) <= len(part) // 2:
            continue
        groups: list[Group] = []
        for wanted in distinct:
            chosen = [n for n, v in enumerate(values) if v == wanted]
            piece = [part[n] for n in chosen]
            own = [where[n] for n in chosen] if slots is not None else None
            for group in separate_repeats(piece, skipped, slots=own):
                group.label = ", ".join(filter(None, (f"{rule.name} {wanted}".strip(), group.label)))
                groups.append(group)
        return groups
    at_slot: dict[int, list[Header]] = defaultdict(list)
    for header, slot in sorted(zip(part, where, strict=True), key=lambda pair: instance_key(pair[0])):
        at_slot[slot].append(header)
    return _over_time([at_slot[slot] for slot in sorted(at_slot)], skipped)


def positions_of(part: Sequence[Header]) -> list[int]:
    """Number the distinct positions along the normal: one per file, equal where positions are equal."""
    orientation = part[0].orientation or part[0].planes[0].orientation
    points = np.array([h.position or h.planes[0].position for h in part], dtype=np.float64)
    along = points @ normal_of(orientation)
    order = np.argsort(along, kind="stable")
    numbers = np.zeros(len(part), dtype=int)
    limit = series_rules().tolerances.same_position_mm
    numbers[order[1:]] = np.cumsum(np.diff(along[order]) > limit)
    return [int(s) for s in numbers]


def _separating(rule: Separate, header: Header) -> str:
    if rule.read == "image_type":
        return "\\".join(header.image_type)
    if rule.read == "b_value":
        return _b_value(rule, header)
    return next((text for tag in rule.elements if (text := header.elements.text(tag))), "")


def _b_value(rule: Separate, header: Header) -> str:
    """Return the b-value in s/mm²; GE adds multiples of a large number to it in (0043,1039)."""
    for tag in rule.elements:
        if tag == 0x00431039:
            private = header.elements.text(tag).split("\\")[0]
            return private[-4:] if private.isdigit() else ""
        value = header.elements.number(tag)
        if value is not None:
            return f"{value:g}"
    return ""


def _over_time(at_slot: list[list[Header]], skipped: list[SkippedFile]) -> list[Group]:
    counts = Counter(len(found) for found in at_slot)
    if len(counts) == 1:
        return [_time_series(at_slot)]
    stated = _by_stated_time(at_slot)
    if stated is not None:
        return stated
    fewest = min(counts)
    if fewest > 1 and max(counts) == fewest + 1:
        ordered = [sorted(found, key=instance_key) for found in at_slot]
        rest = [h for found in ordered for h in found[fewest:]]
        return [_time_series([found[:fewest] for found in ordered]), _incomplete(rest, "last time point")]
    return _uneven(at_slot, skipped)


def _time_series(at_slot: list[list[Header]]) -> Group:
    """Make one series of positions that all occur equally often."""
    times = len(at_slot[0])
    name, value_of = _dimension(at_slot)
    ranked = [sorted(found, key=lambda h: (value_of(h), instance_key(h))) for found in at_slot]
    headers = [found[t] for t in range(times) for found in ranked]
    return Group(headers, time_points=times, dimension=name if times > 1 else "")


def _dimension(at_slot: list[list[Header]]) -> tuple[str, Callable[[Header], float]]:
    """Return the first dimension of the rules that tells the images of each position apart."""
    for rule in series_rules().dimensions:
        if _applies(rule, at_slot) and _tells_apart(rule, at_slot):
            return rule.name, lambda h, rule=rule: _counted(rule, h) or 0.0
    return series_rules().unstated.name, lambda _: 0.0  # ties are broken by the instance key


def _applies(rule: Dimension, at_slot: list[list[Header]]) -> bool:
    if not rule.needs:
        return True
    first = at_slot[0][0].elements
    return any((first.number(tag) or 0.0) > 0 for tag in rule.needs)


def _tells_apart(rule: Dimension, at_slot: list[list[Header]]) -> bool:
    if rule.read == "count":
        return any((at_slot[0][0].elements.number(tag) or 0.0) > 1 for tag in rule.elements)
    for found in at_slot:
        values = [_counted(rule, h) for h in found]
        if None in values or len(set(values)) < len(values):
            return False
    return True


def _counted(rule: Dimension, header: Header) -> float | None:
    if rule.read == "count":
        return 0.0  # ties are broken by the instance key
    for tag in rule.elements:
        value = (
            clock_seconds(header.elements.text(tag)) if rule.read == "clock" else header.elements.number(tag)
        )
        if value is not None:
            return value
    return None


def clock_seconds(text: str) -> float | None:
    """Return a time of day (TM, HHMMSS.FFFFFF or shorter) in seconds; None when it is none."""
    digits = text.replace(":", "")
    head, _, fraction = digits.partition(".")
    if not head.isdigit() or len(head) not in (2, 4, 6) or (fraction and not fraction.isdigit()):
        return None
    padded = head.ljust(6, "0")
    hours, minutes, seconds = int(padded[:2]), int(padded[2:4]), int(padded[4:])
    if hours > 23 or minutes > 59 or seconds > 60:
        return None
    return hours * 3600.0 + minutes * 60.0 + seconds + (float(f"0.{fraction}") if fraction else 0.0)


def _by_stated_time(at_slot: list[list[Header]]) -> list[Group] | None:
    """Keep the complete time points together and set incomplete ones apart, where the files number them."""
    for rule in series_rules().dimensions:
        if rule.read != "number" or not _applies(rule, at_slot) or not _tells_apart(rule, at_slot):
            continue
        by_value: dict[float, list[Header]] = defaultdict(list)
        for found in at_slot:
            for header in found:
                by_value[_counted(rule, header) or 0.0].append(header)
        complete = [v for v in sorted(by_value) if len(by_value[v]) == len(at_slot)]
        partial = [v for v in sorted(by_value) if len(by_value[v]) < len(at_slot)]
        if not complete or len(partial) > len(complete):
            continue
        headers = [h for v in complete for h in by_value[v]]
        whole = Group(headers, time_points=len(complete), dimension=rule.name if len(complete) > 1 else "")
        return [whole, *(_incomplete(by_value[v], f"{rule.name} {v:g}") for v in partial)]
    return None


def _incomplete(headers: list[Header], name: str) -> Group:
    issue = SeriesIssue(
        "series.incomplete_time_point",
        "This time point lacks slices; it is kept apart from the complete ones.",
        blocks_volumetry=True,
    )
    return Group(headers, f"{name}, incomplete", [issue])


def _uneven(at_slot: list[list[Header]], skipped: list[SkippedFile]) -> list[Group]:
    repeated: list[int] = []
    conflicting: list[int] = []
    leftovers: dict[int, list[Header]] = defaultdict(list)
    main: list[Header] = []
    for number, (first, *others) in enumerate(at_slot, start=1):
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
    with open_plain(header.file) as stream:
        stream.seek(pixels.offset)
        return hashlib.sha256(stream.read(-1 if pixels.length is None else pixels.length)).hexdigest()
