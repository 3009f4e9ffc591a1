"""DICOM series with the RTSTRUCT or SEG that refers to them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from core.dicom.derived.dataset import open_derived_file
from core.dicom.derived.rtstruct import read_structures
from core.dicom.derived.seg import WANTED as SEG_TAGS
from core.dicom.derived.segments import read_segments
from core.dicom.faults import translated
from core.dicom.scan import scan_paths
from core.domain.study import ObjectKind, ScannedSeries, SeriesKind
from core.recipes.cases import Case
from core.recipes.sources.base import CaseSource, pseudonym, refusal, require_folder
from core.recipes.sources_schema import DicomSeries

_MASKS = (ObjectKind.SEGMENTATION, ObjectKind.STRUCTURE_SET)


class DicomSeriesSource(CaseSource):
    """Every image series with wanted structures is a case.

    Identifiers are made of hashes: nothing of the patient, and no folder's name, appears in them.
    """

    name = "dicom_series"

    def cases(self, settings: DicomSeries, folder: Path, channels: tuple[str, ...]) -> list[Case]:
        """Return the cases in the order of their identifiers."""
        require_folder(folder)
        wanted = wanted_names(settings.structures)
        scanned = scan_paths([folder], children=0).series
        objects = [one for one in scanned if one.summary.object_kind in _MASKS]
        if not objects:
            raise refusal(
                "no_mask", "The data folder holds no RTSTRUCT and no SEG.", "Add the segmentations."
            )
        holders, names = _holders(objects, wanted)
        if not holders:
            raise refusal(
                "no_structure",
                f"No RTSTRUCT or SEG holds {', '.join(settings.structures)}.",
                f"They hold: {', '.join(sorted(names)[:30])}.",
            )
        images = [
            one
            for one in scanned
            if one.summary.kind in (SeriesKind.VOLUME, SeriesKind.IMAGE)
            and settings.modality in ("", one.summary.modality)
        ]
        contrasts = _Contrasts(settings.series, channels, images)
        found = []
        for one in images:
            masks = _of_series(one, holders)
            if masks:
                found.append(_case(one, masks, contrasts.of(one)))
        if not found:
            raise refusal(
                "no_image",
                "No image series of the data folder is referred to by a segmentation with these structures.",
                "Add the images, or check data.source.modality.",
            )
        return sorted(found, key=lambda case: case.id)


def wanted_names(structures: Mapping[str, int]) -> dict[str, int]:
    """Return folded name → label value."""
    return {folded(name): value for name, value in structures.items()}


def folded(name: str) -> str:
    """Return a structure's name for comparison: case and outer spaces don't count."""
    return name.strip().casefold()


class _Holder:
    """An object and which wanted structures it holds."""

    def __init__(self, file: Path, series: ScannedSeries, structures: frozenset[str]) -> None:
        self.file, self.series, self.structures = file, series, structures


def _holders(objects: list[ScannedSeries], wanted: Mapping[str, int]) -> tuple[list[_Holder], set[str]]:
    holders, names = [], set()
    for series in objects:
        for instance in series.instances:
            own = structure_names(instance.file, series.summary.object_kind)
            names |= own
            held = frozenset(folded(name) for name in own) & wanted.keys()
            if held:
                holders.append(_Holder(instance.file, series, frozenset(held)))
    return holders, names


def structure_names(file: Path, kind: ObjectKind) -> set[str]:
    """Return the names of the structures or segments of an object.

    Raises
    ------
    InputError
        When it is damaged.
    """
    if kind == ObjectKind.STRUCTURE_SET:
        return {region.name for region in read_structures(file).regions if region.contours}
    with translated("Reading the segmentation"):
        table = read_segments(open_derived_file(file, SEG_TAGS).data)
    return {definition.label for definition in table.definitions.values()}


def _of_series(series: ScannedSeries, holders: list[_Holder]) -> tuple[Path, ...]:
    """Return the objects that refer to a series; refuse two that hold the same structure."""
    own = [h for h in holders if series.summary.series_uid in h.series.summary.source_series]
    seen: dict[str, Path] = {}
    for holder in own:
        for name in sorted(holder.structures):
            if name in seen:
                raise refusal(
                    "two_masks",
                    f"“{seen[name].name}” and “{holder.file.name}” both hold “{name}” of one series.",
                    "Remove one of them from the data folder.",
                )
            seen[name] = holder.file
    return tuple(holder.file for holder in own)


class _Contrasts:
    """Finds the series of each channel within a study, by Series Description."""

    def __init__(
        self, words: Mapping[str, str], channels: tuple[str, ...], images: list[ScannedSeries]
    ) -> None:
        if words and set(words) != set(channels):
            raise refusal(
                "channels",
                f"data.source.series names {', '.join(words)}; data.channels are {', '.join(channels)}.",
                "Name the same channels in both.",
            )
        if not words and len(channels) > 1:
            raise refusal(
                "channels", "Nothing says which series is which channel.", "Fill in data.source.series."
            )
        self._words, self._first, self._images = words, channels[0], images

    def of(self, drawn: ScannedSeries) -> dict[str, ScannedSeries]:
        """Return channel → series for the study of the series that the structures are drawn on."""
        if not self._words:
            return {self._first: drawn}
        study = [one for one in self._images if one.summary.study_uid == drawn.summary.study_uid]
        found = {}
        for channel, word in self._words.items():
            fitting = [one for one in study if word.casefold() in one.summary.description.casefold()]
            if len(fitting) > 1 and drawn in fitting:
                fitting = [drawn]
            if len(fitting) > 1:
                raise refusal(
                    "two_series",
                    f"{len(fitting)} series of a study contain “{word}” in their description.",
                    f"Make data.source.series.{channel} more precise.",
                )
            if fitting:
                found[channel] = fitting[0]
        if len({one.summary.key for one in found.values()}) < len(found):
            raise refusal(
                "channels", "Two channels are the same series.", "Make data.source.series more precise."
            )
        if drawn not in found.values():
            raise refusal(
                "channels",
                "The structures are drawn on a series that is none of the channels.",
                "Add its Series Description to data.source.series.",
            )
        return found


def _case(series: ScannedSeries, masks: tuple[Path, ...], channels: Mapping[str, ScannedSeries]) -> Case:
    summary = series.summary
    # Without an ID nothing but the study tells patients apart.
    patient = pseudonym(series.identity.patient_id or f"study:{summary.study_uid}")
    study = "s" + hashlib.sha256(summary.study_uid.encode()).hexdigest()[:11]
    own = hashlib.sha256(f"{summary.study_uid}\0{summary.key}".encode()).hexdigest()[:12]
    images = {
        channel: tuple(dict.fromkeys(instance.file for instance in one.instances))
        for channel, one in channels.items()
    }
    attributes = defaultdict(str, modality=summary.modality)
    if series.identity.sex in ("F", "M", "O"):
        attributes["sex"] = series.identity.sex
    return Case(
        f"{patient}/{study}/{own}", patient, study, images, mask=masks[0], more_masks=masks[1:],
        attributes=dict(attributes),
    )  # fmt: skip
