"""What a report of a result states, before it becomes SR, PDF or a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from core.domain.result import Decision, Finding, MeasuredValue, ModelResult, SegmentMeasure, Verdict
from core.domain.segmentation import SegmentDefinition
from core.export.identifiers import tracking_uid

DECIMALS = 4
"""Decimals of exported numbers: 0.0001 ml, mm or HU is far below what any image resolves."""


def written(value: float) -> float:
    """Return a number as a report states it: six significant digits, which fit into a decimal string (VR DS)."""
    return float(f"{value:.6g}")


@dataclass(frozen=True, eq=False)
class ReportFacts:
    """A result with the reader's verdicts.

    Attributes
    ----------
    units : str
        Units of the series' values (``"HU"`` …).
    reader : str
        Who reviewed; empty when nobody did.
    definitions : mapping of int to SegmentDefinition
        Codes by label value.
    decisions : mapping of str to Decision
        Standing verdict by finding id.
    serial : str
        Serial number of this installation.
    """

    result: ModelResult
    units: str = ""
    reader: str = ""
    serial: str = "0"
    definitions: Mapping[int, SegmentDefinition] = field(default_factory=dict)
    decisions: Mapping[str, Decision] = field(default_factory=dict)

    def verdict(self, finding: Finding | None) -> Verdict | None:
        """Return the reader's verdict on a finding, None when there is none."""
        decision = self.decisions.get(finding.id) if finding is not None else None
        return decision.verdict if decision else None

    def measure(self, finding: Finding) -> SegmentMeasure | None:
        """Return the measures of the segment that a finding is, None for a part of one or a class."""
        if finding.segment_value is None or self.findings_of(finding.segment_value) != 1:
            return None
        return next((m for m in self.result.segments if m.value == finding.segment_value), None)

    def findings_of(self, value: int) -> int:
        """Count the findings of a label value: one for an organ, several for lesions."""
        return sum(f.segment_value == value for f in self.result.findings)

    def numbers(self, finding: Finding) -> dict[str, float]:
        """Return a finding's numbers, rounded: ``volume_ml``, ``diameter_mm``, ``mean``, ``score``."""
        measure = self.measure(finding)
        volume = measure.volume_ml if measure else finding.volume_ml
        values = {
            "volume_ml": volume,
            "diameter_mm": finding.diameter_mm,
            "mean": measure.mean_hu if measure else None,
            "score": finding.score,
        }
        return {name: round(float(v), DECIMALS) for name, v in values.items() if v is not None}

    def tracking_keys(self) -> dict[int, str]:
        """Return the finding id by label value, where exactly one finding is the segment."""
        return {
            f.segment_value: f.id
            for f in self.result.findings
            if f.segment_value is not None and self.findings_of(f.segment_value) == 1
        }

    def tracking_uid(self, finding: Finding) -> str:
        """Return the tracking UID of a finding; the SEG carries the same."""
        return str(tracking_uid(self.result.result_id, finding.id))

    def measured_uid(self, item: MeasuredValue) -> str:
        """Return the tracking UID of a number that the model estimated for the whole image."""
        return str(tracking_uid(self.result.result_id, f"measurement:{item.name}"))

    def finding_of_class(self, label: str) -> Finding | None:
        """Return the finding that stands for a class, if any."""
        return next((f for f in self.result.findings if f.kind == "class" and f.label == label), None)

    def spatial_findings(self) -> list[Finding]:
        """Return the findings that are segments or lesions."""
        return [f for f in self.result.findings if f.kind != "class"]
