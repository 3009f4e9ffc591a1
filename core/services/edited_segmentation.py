"""The label map as the reader left it: the model's, with the masks of "edit" verdicts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from core.domain.errors import InputError, SafetyError
from core.domain.result import Decision, Finding, ModelResult, SegmentMeasure, Verdict
from core.domain.segmentation import Segmentation
from core.formats.nifti import read_nifti
from core.services.engine import Engine
from core.services.load_volume import load_volume
from core.services.measure import measure_segments


def apply_edits(
    engine: Engine, result: ModelResult, segmentation: Segmentation, decisions: Mapping[str, Decision]
) -> tuple[ModelResult, Segmentation, frozenset[int]]:
    """Replace edited segments by the reader's masks and measure them again.

    Parameters
    ----------
    decisions : mapping of str to Decision
        Standing verdicts by finding id. An edit's mask is a NIfTI on the label map's grid; where it holds the
        segment's own value that is the mask, else everything above zero is.

    Returns
    -------
    result, segmentation, values
        With new measures and voxels; ``values`` are the label values that were edited.

    Raises
    ------
    SafetyError
        A mask is not on the label map's grid (code ``export.mask_grid``).
    """
    edited, values = edited_labels(engine, result, segmentation, decisions)
    if not values:
        return result, segmentation, values
    measures = {m.value: m for m in measure_segments(load_volume(engine, result.series_uid), edited)}
    measured = replace(
        result,
        segments=tuple(measures.get(m.value, m) for m in result.segments),
        findings=tuple(_measured(f, measures, values, result) for f in result.findings),
    )
    return measured, edited, values


def edited_labels(
    engine: Engine, result: ModelResult, segmentation: Segmentation, decisions: Mapping[str, Decision]
) -> tuple[Segmentation, frozenset[int]]:
    """Replace edited segments by the reader's masks; returns the label map and the edited values.

    Raises
    ------
    SafetyError
        A mask is not on the label map's grid (code ``export.mask_grid``).
    """
    edits = [
        (finding, decisions[finding.id])
        for finding in result.findings
        if finding.segment_value is not None
        and finding.id in decisions
        and decisions[finding.id].verdict is Verdict.EDIT
        and decisions[finding.id].mask_file
    ]
    if not edits:
        return segmentation, frozenset()
    labels = segmentation.labels.copy()
    for finding, decision in edits:
        mask = _mask(engine, result, segmentation, finding, decision)
        labels[labels == finding.segment_value] = 0
        labels[mask] = finding.segment_value or 0
    values = frozenset(int(f.segment_value) for f, _ in edits if f.segment_value is not None)
    return replace(segmentation, labels=labels), values


def _mask(
    engine: Engine, result: ModelResult, segmentation: Segmentation, finding: Finding, decision: Decision
) -> NDArray[np.bool_]:
    """Read a reader's mask as booleans on the label map's grid."""
    volume = read_nifti(engine.paths.results / result.result_id / str(decision.mask_file))
    if not volume.geometry.same_grid_as(segmentation.geometry):
        raise SafetyError(
            "export.mask_grid",
            f"The edited mask of {finding.label} is not on the grid of the label map.",
            "Edit the segment on the series that was analysed and decide again.",
        )
    own = np.asarray(volume.voxels == finding.segment_value)
    if own.any():
        return own
    if sum(f.segment_value == finding.segment_value for f in result.findings) > 1:
        raise InputError(
            "export.mask_ambiguous",
            f"The edited mask of {finding.label} does not hold its label value, and the label has several findings.",
            "Give a corrected label map in which every finding of the label keeps its value.",
        )
    return np.asarray(volume.voxels > 0)


def _measured(
    finding: Finding, measures: Mapping[int, SegmentMeasure], edited: frozenset[int], result: ModelResult
) -> Finding:
    """Return an edited finding with its new place and volume; its diameter is no longer known."""
    several = sum(f.segment_value == finding.segment_value for f in result.findings) > 1
    if finding.segment_value not in edited or several:
        return finding
    measure = measures[finding.segment_value]
    return replace(
        finding, centroid_lps_mm=measure.centroid_lps_mm, volume_ml=measure.volume_ml, diameter_mm=None
    )
