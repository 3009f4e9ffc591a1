"""Whether a model was made for a series, with the reason in the reader's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from core.bundles.contrasts import Assignment, assign_contrasts
from core.bundles.manifest import Manifest
from core.domain.study import SeriesKind, SeriesSummary

_TOLERANCE = 1.01
# NIfTI files and pictures don't say how they were made.
UNKNOWN_MODALITIES = ("", "OT")


@dataclass(frozen=True)
class Fit:
    """The answer; ``why`` is in sentences in both cases, ``missing`` are contrasts that the model would run without."""

    fits: bool
    why: str
    missing: tuple[str, ...] = ()


def fit(
    manifest: Manifest,
    summary: SeriesSummary,
    study: Sequence[SeriesSummary] = (),
    chosen: Mapping[str, str] | None = None,
) -> Fit:
    """Hold a series' summary against the model's requirements; the first that is not met is the reason.

    Parameters
    ----------
    study : sequence of SeriesSummary
        The series of its study, for a model that takes several contrasts: which of them are there.
    chosen : mapping of str to str, optional
        Input → key of the series that the reader says it is.
    """
    for reason in _objections(manifest, summary):
        return Fit(False, reason)
    if len(manifest.inputs) > 1:
        return _contrasts_fit(manifest, contrasts_for(manifest, summary, study, chosen))
    if manifest.requirements.modalities and summary.modality in UNKNOWN_MODALITIES:
        return Fit(True, f"Made for {_what(manifest)}; the modality of this series is not known.")
    return Fit(True, f"Made for {_what(manifest)}, as this series is.")


def contrasts_for(
    manifest: Manifest,
    summary: SeriesSummary,
    study: Sequence[SeriesSummary],
    chosen: Mapping[str, str] | None = None,
) -> Assignment:
    """Return which series of a study are the model's inputs; see ``assign_contrasts``."""
    return assign_contrasts(
        manifest, summary, study, lambda series: next(_objections(manifest, series), None) is None, chosen
    )


def _contrasts_fit(manifest: Manifest, found: Assignment) -> Fit:
    if found.objection:
        return Fit(False, found.objection)
    there = [name for name in manifest.inputs if name in found.series]
    why = f"Made for {_what(manifest)}; takes {_listed(there)} of this study."
    if found.missing:
        why += f" {_listed(found.missing)} {'is' if len(found.missing) == 1 else 'are'} missing: it runs without."
    notes = "".join(f" {note[0].upper()}{note[1:]}." for note in found.notes)
    return Fit(True, why + notes, found.missing)


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


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
            slices = summary.shape_kji[0] if summary.shape_kji is not None else 0
            count = max(summary.frames, summary.instances, slices)
            yield f"Made for single images; this series has {count} of them."
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
