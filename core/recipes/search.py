"""What a hyper-parameter search may change, as data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from core.domain.errors import InputError
from core.recipes.base import Strict
from core.recipes.includes import read_file
from core.recipes.invalid import refusal


class FloatRange(Strict):
    """A real number between ``low`` and ``high``; ``log`` draws its logarithm evenly."""

    kind: Literal["float"]
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> FloatRange:
        if self.high <= self.low or (self.log and self.low <= 0):
            raise ValueError("high must exceed low, and low must be positive for log")
        return self


class IntRange(Strict):
    """A whole number from ``low`` to ``high``."""

    kind: Literal["int"]
    low: int
    high: int
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> IntRange:
        if self.high <= self.low or (self.log and self.low <= 0):
            raise ValueError("high must exceed low, and low must be positive for log")
        return self


class Choices(Strict):
    """One of several values."""

    kind: Literal["choice"]
    values: tuple[str | int | float | bool, ...] = Field(min_length=2)


Range = Annotated[FloatRange | IntRange | Choices, Field(discriminator="kind")]


class SearchSpace(Strict):
    """Recipe keys (dotted) and what they may be; the value that is compared, and how many trainings."""

    parameters: dict[str, Range] = Field(min_length=1)
    objective: str = Field(
        default="validation_loss", description="Value of the epoch events that is compared."
    )
    direction: Literal["minimize", "maximize"] = "minimize"
    trials: int = Field(default=20, ge=1, le=10_000)
    prune_after: int = Field(
        default=3, ge=1, description="Epochs after which a hopeless training may be stopped."
    )
    seed: int = 0


def load_space(path: Path) -> SearchSpace:
    """Read a search space.

    Raises
    ------
    InputError
        ``search.space`` or ``recipe.yaml``: unreadable, or a field that is missing, unknown or wrong; it is named.
    """
    if not path.is_file():
        raise InputError(
            "search.space", f"There is no file “{path.name}”.", "Give the YAML file of the space."
        )
    document, lines = read_file(path)
    try:
        return SearchSpace.model_validate(document)
    except ValidationError as error:
        schema = SearchSpace.model_json_schema()
        raise refusal(error, document, schema, lines, "search.space", "The search space") from error
