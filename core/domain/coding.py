"""Coded concepts (SNOMED CT, DCM, UCUM …)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CodedConcept:
    """A code triplet as in DICOM PS3.3 section 8.8: value, coding scheme designator, meaning."""

    value: str
    scheme: str
    meaning: str

    def as_dict(self) -> dict[str, str]:
        """Return the triplet for JSON."""
        return {"value": self.value, "scheme": self.scheme, "meaning": self.meaning}
