"""Findings and results as the lines of a list: pure, so that it can be tested as a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from app.presenters.wording import finding_detail
from core.domain.result import Decision, Finding, ModelResult
from core.domain.segmentation import Segmentation
from core.render.palette import safe_colors


@dataclass(frozen=True)
class FindingRow:
    """One finding; ``color_rgb`` is that of its segment, ``verdict`` is empty before a decision.

    ``corrected`` says that the reader gave a mask of their own.
    """

    id: str
    label: str
    detail: str
    verdict: str = ""
    reason: str = ""
    segment_value: int | None = None
    color_rgb: tuple[int, int, int] | None = None
    visible: bool = True
    can_jump: bool = True
    corrected: bool = False


@dataclass(frozen=True)
class ResultChoice:
    """A result of the open series: ``title`` names model and version, ``created`` when and on which server."""

    result_id: str
    title: str
    created: str


def model_title(result: ModelResult) -> str:
    """Return the model's name and version, as they stand with every result."""
    return f"{result.model.title or result.model.id} {result.model.version}"


def passed(outcome: str) -> bool:
    """Return whether a check of a result found nothing wrong."""
    return outcome.startswith(("ok", "not applicable"))


def choice_of(result: ModelResult) -> ResultChoice:
    """Return a result as it is offered in the list of results."""
    created = result.created_utc[:16].replace("T", " ")
    where = f" · {result.device}" if result.device.startswith("server ") else ""
    return ResultChoice(result.result_id, model_title(result), created + where)


def row_of(
    finding: Finding,
    decision: Decision | None,
    segmentation: Segmentation | None,
    means: Mapping[int, float | None],
    visible: bool,
) -> FindingRow:
    """Return a finding as a row; ``means`` are the segments' means where they are in Hounsfield units."""
    # A component's mean isn't its segment's.
    mean = means.get(finding.segment_value or 0) if finding.kind == "segment" else None
    return FindingRow(
        finding.id,
        finding.label,
        finding_detail(finding, mean),
        decision.verdict.value if decision else "",
        decision.reason if decision else "",
        finding.segment_value,
        _color(finding, segmentation),
        visible,
        finding.centroid_lps_mm is not None,
        decision is not None and bool(decision.mask_file),
    )


def _color(finding: Finding, segmentation: Segmentation | None) -> tuple[int, int, int] | None:
    if segmentation is None or finding.segment_value is None:
        return None
    # The colours of the pictures, not those that the model's maker chose.
    return safe_colors(segmentation.segments).get(finding.segment_value)
