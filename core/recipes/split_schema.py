"""How cases are divided, as it stands in a recipe."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from core.recipes.base import Strict

Share = Annotated[float, Field(ge=0, lt=1)]


class Split(Strict):
    """Who trains, who is watched, who is kept out. Groups of ``level`` are never divided.

    ``random`` draws groups by the seed, stratified; ``ordered`` takes the first groups of each class in the order of
    their names for training, the last for the test; ``given`` trusts the source's own parts. Pictures whose
    correlation at 32 × 32 exceeds ``near_duplicates`` count as one group (None: not looked for).
    """

    method: Literal["random", "ordered", "given"] = "random"
    level: Literal["patient", "study", "case"] = "patient"
    train: float = Field(default=0.70, gt=0, le=1)
    validation: Share = 0.15
    test: Share = 0.15
    stratify: bool = True
    stratify_by: tuple[str, ...] = ()
    seed: int | None = Field(default=None, description="The recipe's seed when empty.")
    near_duplicates: float | None = Field(default=0.995, gt=0.5, le=1)

    @model_validator(mode="after")
    def _sums_to_one(self) -> Split:
        total = self.train + self.validation + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, validation and test sum to 1, not {total:g}")
        return self
