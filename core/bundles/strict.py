"""What every part of a manifest is made of: strict classes, and coded concepts."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from core.domain.coding import CodedConcept


class Strict(BaseModel):
    """Frozen, no unknown fields, no coercion between types, no infinities."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Code(Strict):
    """A coded concept: value, scheme designator (``"SCT"``), meaning."""

    value: str = Field(min_length=1, max_length=64)
    scheme: str = Field(min_length=1, max_length=16)
    meaning: str = Field(min_length=1, max_length=128)

    def concept(self) -> CodedConcept:
        """Return the domain type."""
        return CodedConcept(self.value, self.scheme, self.meaning)


ANATOMICAL_STRUCTURE = Code(value="91723000", scheme="SCT", meaning="Anatomical Structure")
TISSUE = Code(value="85756007", scheme="SCT", meaning="Tissue")
