"""Whether a model was made for a series, with the reason in the reader's words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from core.bundles.manifest import Manifest
from core.domain.study import SeriesKind, SeriesSummary

_TOLERANCE = 1.01
# NIfTI files and pictures don't say how they were made.
UNKNOWN_MODALITIES = ("", "OT")


@dataclass(frozen=True)
class Fit:
    """The answer; ``why`` is one sentence in both cases."""

    fits: bool
    why: str


def fit(manifest: Manifest, summary: SeriesSummary) -> Fit:
    """Hold a series' summary against the model's requirements; the first that is not met is the reason."""
    for reason in _objections(manifest, summary):
        return Fit(False, reason)
    if manifest.requirements.modalities and summary.modality in UNKNOWN_MODALITIES:
        return Fit(True, f"Made for {_what(manifest)}; the modality of this series is not known.")
    return Fit(True, f"Made for {_what(manifest)}, as this series is.")


def _objections(manifest: Manifest, summary: SeriesSummary) -> Iterator[str]:
    needs = manifest.requirements
    if needs.modalities and summary.modality not in (*needs.modalities, *UNKNOWN_MODALITIES):
        yield f"Made for {_what(manifest)}; this series is {summary.modality}."
    body_part = _normal(summary.body_part)
    if needs.body_parts and body_part and body_part not in {_normal(part) for part in needs.body_parts}:
        wanted = ", ".join(part.lower() for part in needs.body_parts)
        yield f"Made for {wanted}; this series shows {summary.body_part.lower()}."
    yield from _kind_objections(manifest, summary)
    if needs.kind == "volume":
        yield from _volume_objections(manifest, summary)


def _kind_objections(manifest: Manifest, summary: SeriesSummary) -> Iterator[str]:
    if manifest.requirements.kind == "image":
        single = summary.kind == SeriesKind.IMAGE or (
            summary.shape_kji is not None and summary.shape_kji[0] == 1
        )
        if not single:
            yield f"Made for single images; this series has {max(summary.frames, summary.instances)} of them."
    elif summary.kind != SeriesKind.VOLUME:
        yield f"Made for volumes; this series is shown as {summary.kind.value}."


def _volume_objections(manifest: Manifest, summary: SeriesSummary) -> Iterator[str]:
    needs = manifest.requirements
    for issue in summary.issues:
        if needs.regular and issue.blocks_volumetry:
            yield f"Its slices can't be measured along the stack: {issue.message}"
    if needs.regular and (not summary.regular or summary.spacing_kji_mm is None):
        yield "Its slices are not evenly spaced, or their spacing is unknown."
    if summary.shape_kji is not None and summary.shape_kji[0] < needs.min_slices:
        yield f"It has {summary.shape_kji[0]} slices; the model needs {needs.min_slices}."
    if summary.spacing_kji_mm is None:
        return
    coarse, fine = max(summary.spacing_kji_mm), min(summary.spacing_kji_mm)
    if needs.max_spacing_mm is not None and coarse > needs.max_spacing_mm * _TOLERANCE:
        yield f"Its voxels measure up to {coarse:.2g} mm; the model was made for {needs.max_spacing_mm:g} mm or finer."
    if needs.min_spacing_mm is not None and fine * _TOLERANCE < needs.min_spacing_mm:
        yield f"Its voxels measure {fine:.2g} mm; the model was made for {needs.min_spacing_mm:g} mm or coarser."
    if needs.min_extent_mm is not None and summary.shape_kji is not None:
        extent = min(n * step for n, step in zip(summary.shape_kji, summary.spacing_kji_mm, strict=True))
        if extent * _TOLERANCE < needs.min_extent_mm:
            yield f"It covers only {extent:.0f} mm; the model needs {needs.min_extent_mm:.0f} mm in each direction."


def _what(manifest: Manifest) -> str:
    needs = manifest.requirements
    modality = "/".join(needs.modalities) or "any modality"
    parts = ", ".join(part.lower() for part in needs.body_parts)
    kind = "volumes" if needs.kind == "volume" else "images"
    return f"{modality} {kind}" + (f" of the {parts}" if parts else "")


def _normal(body_part: str) -> str:
    return body_part.strip().upper().replace(" ", "").replace("_", "")
