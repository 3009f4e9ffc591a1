"""Puts the report of a data set together."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.domain.errors import AppError, InputError
from core.domain.progress import CancelToken, Progress, no_progress
from core.recipes.cases import Case, Part
from core.recipes.explore.facts import CaseFacts, Layout, facts_of
from core.recipes.reading import read_case
from core.recipes.schema import Data
from core.recipes.similarity import near_duplicates, same_files
from core.recipes.sources.registry import list_cases
from core.recipes.splits import SplitResult, class_counts, imbalance, split_cases
from core.recipes.thumbnails import picture_thumbnail

MANY = 2000
FEW_PATIENTS = 10
MUCH_IMBALANCE = 5.0


@dataclass(frozen=True, eq=False)
class DataReport:
    """What is known of a data set.

    Attributes
    ----------
    cases : tuple of Case
        All of them.
    looked_at : tuple of CaseFacts
        Those that were read (all, or evenly spaced ones of many).
    split : SplitResult or None
        The division that the settings give; None when it isn't possible (see ``warnings``).
    duplicates : tuple of tuple of str
        Identifiers of cases that show the same picture.
    unreadable : mapping of str to str
        Case → why it can't be read.
    """

    name: str
    cases: tuple[Case, ...]
    looked_at: tuple[CaseFacts, ...]
    labels: Mapping[int, str]
    split: SplitResult | None
    duplicates: tuple[tuple[str, ...], ...] = ()
    unreadable: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def label_name(self, value: int | None) -> str:
        """Return the name of a class or structure."""
        return "" if value is None else self.labels.get(value, str(value))

    def rows(self) -> dict[str, list[CaseFacts]]:
        """Return the cases that were read by class, in the order of the classes; one row without classes."""
        label_of = {case.id: case.label for case in self.cases}
        rows: dict[str, list[CaseFacts]] = defaultdict(list)
        for facts in sorted(self.looked_at, key=lambda one: label_of[one.id] or 0):
            rows[self.label_name(label_of[facts.id])].append(facts)
        return dict(rows)

    def layouts(self) -> list[tuple[Layout, int]]:
        """Return sizes and orientations with how often they occur, commonest first."""
        counts = Counter(facts.layout for facts in self.looked_at)
        return sorted(counts.items(), key=lambda one: (-one[1], str(one[0])))

    def document(self) -> dict[str, Any]:
        """Return the report as JSON values; no identity, no paths."""
        return {
            "name": self.name,
            "cases": len(self.cases),
            "patients": len({case.patient for case in self.cases}),
            "looked_at": len(self.looked_at),
            "classes": self._classes(),
            "imbalance": imbalance(self.cases),
            "parts": self._parts(),
            "attributes": self._attributes(),
            "geometry": [
                {
                    "shape_kji": list(layout.shape_kji),
                    "spacing_ijk_mm": None if layout.spacing_ijk_mm is None else list(layout.spacing_ijk_mm),
                    "orientation": layout.orientation,
                    "modality": layout.modality,
                    "cases": count,
                }
                for layout, count in self.layouts()[:50]
            ],
            "values": self._values(),
            "structures": self._structures(),
            "duplicates": [list(ids) for ids in self.duplicates],
            "unreadable": dict(self.unreadable),
            "issues": dict(Counter(code for facts in self.looked_at for code in facts.issues)),
            "warnings": list(self.warnings),
        }

    def _classes(self) -> list[dict[str, Any]]:
        patients: dict[int, set[str]] = defaultdict(set)
        for case in self.cases:
            if case.label is not None:
                patients[case.label].add(case.patient)
        return [
            {"value": value, "name": self.label_name(value), "cases": count, "patients": len(patients[value])}
            for value, count in class_counts(self.cases).items()
        ]

    def _parts(self) -> dict[str, Any]:
        if self.split is None:
            return {}
        return {
            part.value: {
                "cases": len(self.split.parts[part]),
                "patients": len({case.patient for case in self.split.parts[part]}),
                "classes": {self.label_name(v): n for v, n in self.split.class_counts(part).items()},
            }
            for part in Part
        }

    def _attributes(self) -> dict[str, dict[str, int]]:
        found: dict[str, Counter[str]] = defaultdict(Counter)
        for case in self.cases:
            for name, value in case.attributes.items():
                found[name][value] += 1
        # An attribute with very many values may tell people apart; it is counted, not listed.
        return {
            name: dict(counts.most_common()) if len(counts) <= 20 else {"different values": len(counts)}
            for name, counts in sorted(found.items())
        }

    def _values(self) -> dict[str, Any]:
        out = {}
        for channel, values in samples_by_channel(self.looked_at).items():
            points = np.percentile(values, [0.5, 5, 50, 95, 99.5])
            out[channel] = {
                "minimum": float(values.min()),
                "maximum": float(values.max()),
                "mean": float(values.mean()),
                "std": float(values.std()),
                "percentiles": dict(zip(("0.5", "5", "50", "95", "99.5"), map(float, points), strict=True)),
            }
        return out

    def _structures(self) -> list[dict[str, Any]]:
        out = []
        masked = [facts for facts in self.looked_at if facts.marks is not None]
        for value in sorted({value for facts in masked for value in facts.voxels_by_label}):
            volumes = [f.volume_ml_by_label[value] for f in masked if value in f.volume_ml_by_label]
            out.append(
                {
                    "value": value,
                    "name": self.label_name(value),
                    "cases": sum(value in facts.voxels_by_label for facts in masked),
                    "of": len(masked),
                    "median_voxels": float(
                        np.median([f.voxels_by_label[value] for f in masked if value in f.voxels_by_label])
                    ),
                    "median_ml": float(np.median(volumes)) if volumes else None,
                }
            )
        return out


def samples_by_channel(looked_at: Sequence[CaseFacts]) -> dict[str, NDArray[np.float32]]:
    """Return some values of all cases by channel."""
    found: dict[str, list[NDArray[np.float32]]] = defaultdict(list)
    for facts in looked_at:
        for channel, values in facts.samples.items():
            found[channel].append(values)
    return {channel: np.concatenate(values) for channel, values in found.items()}


def explore(
    folder: Path | None,
    data: Data,
    seed: int,
    labels: Mapping[int, str],
    *,
    name: str = "data",
    notes: Sequence[str] = (),
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> DataReport:
    """Look at a data set.

    Parameters
    ----------
    data : Data
        Source, channels, division.
    labels : mapping
        Names of classes or structures by value.
    notes : sequence of str
        Warnings that are known already.

    Raises
    ------
    InputError
        When the source finds no cases.
    """
    cases = list_cases(
        data.source, folder, data.channels, "zeros" if data.missing == "refuse" else data.missing
    )
    looked_at, unreadable = _read(cases, data, progress, cancel)
    duplicates = _duplicates(cases, data)
    split, warnings = _split(cases, data, seed)
    report = DataReport(name, tuple(cases), looked_at, labels, split, duplicates, unreadable)
    return DataReport(**{**report.__dict__, "warnings": (*notes, *warnings, *_warnings(report, data))})


def _read(
    cases: Sequence[Case], data: Data, progress: Progress, cancel: CancelToken | None
) -> tuple[tuple[CaseFacts, ...], dict[str, str]]:
    chosen = cases[:: max(1, -(-len(cases) // MANY))]
    lenient = data.model_copy(update={"missing": "zeros"})
    found, unreadable = [], {}
    for number, case in enumerate(chosen):
        if cancel is not None:
            cancel.raise_if_cancelled()
        try:
            found.append(facts_of(case, read_case(case, lenient)))
        except AppError as error:
            unreadable[case.id] = error.user_message
        progress("Looking at the cases", (number + 1) / len(chosen))
    if not found:
        raise InputError("data.unreadable", next(iter(unreadable.values())), "Check the files.")
    return tuple(found), unreadable


def _duplicates(cases: Sequence[Case], data: Data) -> tuple[tuple[str, ...], ...]:
    ids: dict[str, set[str]] = {case.id: {case.id} for case in cases}

    def join(one: str, other: str) -> None:
        joined = ids[one] | ids[other]
        for member in joined:
            ids[member] = joined

    for first, second in same_files(cases):
        join(cases[first].id, cases[second].id)
    small = [(case.id, picture) for case in cases if (picture := _thumbnail(case)) is not None]
    if small:
        limit = data.split.near_duplicates or 0.995
        groups = near_duplicates(np.stack([picture for _, picture in small]), limit)
        first_of: dict[int, str] = {}
        for (case_id, _), group in zip(small, groups.tolist(), strict=True):
            join(first_of.setdefault(group, case_id), case_id)
    return tuple(sorted({tuple(sorted(group)) for group in ids.values() if len(group) > 1}))


def _thumbnail(case: Case) -> NDArray[np.float32] | None:
    try:
        return picture_thumbnail(case)
    except AppError:
        return None  # told as unreadable


def _split(cases: Sequence[Case], data: Data, seed: int) -> tuple[SplitResult | None, list[str]]:
    try:
        split = split_cases(cases, data.split, seed, _thumbnail)
    except AppError as error:
        return None, [error.user_message]
    return split, list(split.warnings)


def _warnings(report: DataReport, data: Data) -> list[str]:
    found = []
    ratio = imbalance(report.cases)
    if ratio is not None and ratio >= MUCH_IMBALANCE:
        found.append(f"The commonest class has {ratio:.1f} times as many cases as the rarest.")
    for one in report.document()["classes"]:
        if one["patients"] < FEW_PATIENTS:
            found.append(f"Only {one['patients']} patients have the class {one['name']}.")
    label_of = {case.id: case.label for case in report.cases}
    for ids in report.duplicates:
        classes = {label_of[case_id] for case_id in ids}
        if len(classes) > 1:
            names = " and ".join(sorted(report.label_name(value) for value in classes))
            found.append(f"The same picture is {names}: {', '.join(ids[:4])}.")
    orientations = {facts.layout.orientation for facts in report.looked_at} - {""}
    if len(orientations) > 1:
        found.append(f"The images have {len(orientations)} orientations ({', '.join(sorted(orientations))}).")
    flat = sum(facts.value_range[0] == facts.value_range[1] for facts in report.looked_at)
    if flat:
        found.append(f"{flat} images have one value only.")
    empty = sum(facts.marks is not None and not facts.voxels_by_label for facts in report.looked_at)
    if empty:
        found.append(f"{empty} masks are empty.")
    for channel in data.channels:
        absent = sum(channel not in case.images and case.seed is None for case in report.cases)
        if absent:
            found.append(f"{absent} cases lack the channel {channel}.")
    if report.unreadable:
        found.append(f"{len(report.unreadable)} cases can't be read.")
    return found
