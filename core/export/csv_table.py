"""Findings, classes and measurements as a table for spreadsheets."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from core.config.atomic import atomic_path
from core.domain.errors import EnvironmentFault
from core.domain.result import Finding, MeasuredValue
from core.export.exported import ExportedFile, differs
from core.export.identifiers import INTENDED_USE, file_stem
from core.export.report_facts import ReportFacts

COLUMNS = (
    "pseudonym", "result_id", "model_id", "model_version", "weights_sha256", "kind", "finding_id", "label",
    "code", "scheme", "volume_ml", "diameter_mm", "mean", "units", "score", "x_mm", "y_mm", "z_mm",
    "verdict", "decided_utc", "intended_use", "value", "unit",
)  # fmt: skip
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def write_csv(facts: ReportFacts, pseudonym: str, out: Path) -> ExportedFile:
    """Write one row per finding, per class without finding and per measurement; no identity. UTF-8 with byte order
    mark.

    Raises
    ------
    EnvironmentFault
        If the folder cannot be written.
    SafetyError
        If the file read back differs.
    """
    rows = [COLUMNS, *(_row(facts, pseudonym, finding) for finding in facts.result.findings)]
    rows += [
        _class_row(facts, pseudonym, item.label, item.probability)
        for item in facts.result.classes
        if facts.finding_of_class(item.label) is None
    ]
    rows += [_measured_row(facts, pseudonym, item) for item in facts.result.measurements]
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerows(rows)
    path = out / f"{file_stem('findings', facts.result.result_id)}.csv"
    try:
        with atomic_path(path) as part:
            # Spreadsheets take a CSV for UTF-8 only when it starts with a byte order mark.
            part.write_bytes(text.getvalue().encode("utf-8-sig"))
            with part.open(encoding="utf-8-sig", newline="") as stream:
                if [tuple(row) for row in csv.reader(stream)] != [tuple(row) for row in rows]:
                    raise differs("csv", "the table")
    except OSError as error:
        raise EnvironmentFault(
            "export.unwritable",
            f"The export folder cannot be written ({error.strerror or type(error).__name__}).",
            "Choose another folder or free some space.",
        ) from error
    return ExportedFile("csv", path, "", True)


def _row(facts: ReportFacts, pseudonym: str, finding: Finding) -> tuple[str, ...]:
    """Return the row of a finding."""
    numbers = facts.numbers(finding)
    definition = facts.definitions.get(finding.segment_value or 0)
    decision = facts.decisions.get(finding.id)
    point = finding.centroid_lps_mm or ()
    values = {
        "kind": finding.kind,
        "finding_id": finding.id,
        "label": finding.label,
        "code": definition.code.value if definition else "",
        "scheme": definition.code.scheme if definition else "",
        "units": facts.units if "mean" in numbers else "",
        "verdict": str(decision.verdict) if decision else "",
        "decided_utc": decision.decided_utc if decision else "",
        **{name: f"{value:.10g}" for name, value in numbers.items()},
        **{axis: f"{value:.3f}" for axis, value in zip(("x_mm", "y_mm", "z_mm"), point, strict=False)},
    }
    return _cells(facts, pseudonym, values)


def _class_row(facts: ReportFacts, pseudonym: str, label: str, probability: float) -> tuple[str, ...]:
    """Return the row of a class that is no finding."""
    return _cells(facts, pseudonym, {"kind": "class", "label": label, "score": f"{probability:.4f}"})


def _measured_row(facts: ReportFacts, pseudonym: str, item: MeasuredValue) -> tuple[str, ...]:
    """Return the row of a number that the model estimated for the whole image."""
    code = {"code": item.code.value, "scheme": item.code.scheme} if item.code else {}
    number = {"value": f"{item.value:.10g}", "unit": item.unit}
    return _cells(facts, pseudonym, {"kind": "measurement", "label": item.name, **code, **number})


def _cells(facts: ReportFacts, pseudonym: str, values: dict[str, str]) -> tuple[str, ...]:
    """Return the cells in the order of the columns, none of which a spreadsheet takes for a formula."""
    model = facts.result.model
    common = {
        "pseudonym": pseudonym,
        "result_id": facts.result.result_id,
        "model_id": model.id,
        "model_version": model.version,
        "weights_sha256": model.sha256,
        "intended_use": INTENDED_USE,
    }
    cells = {**common, **values}
    return tuple(_harmless(cells.get(column, ""), column) for column in COLUMNS)


def _harmless(cell: str, column: str) -> str:
    """Put an apostrophe before free text that a spreadsheet would execute."""
    numeric = column.endswith(("_mm", "_ml")) or column in ("mean", "score", "value")
    return f"'{cell}" if cell.startswith(_FORMULA_STARTS) and not numeric else cell
