"""The strict base of every document in this room."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """Frozen, no unknown fields, no infinities; values are validated where they are replaced too."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
