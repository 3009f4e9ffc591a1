"""What a reader decides when a model learns from their verdicts; the dialog's form is made of this schema."""

from __future__ import annotations

import json
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from core.domain.forms import FormField
from core.recipes.base import Strict
from core.recipes.form import form_fields
from core.recipes.invalid import refusal

Time = Annotated[str, Field(pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$", json_schema_extra={"form": "time"})]


def _extra(**values: Any) -> dict[str, Any]:
    return values


class FineTuneSettings(Strict):
    """Further training of a model of the catalogue on accepted and corrected cases.

    Nothing of it changes the model in use: the result is a candidate that somebody promotes by name.
    """

    model_id: str = Field(
        pattern=r"^[a-z0-9][a-z0-9-]{1,62}$",
        title="Model",
        description="The model that learns. It stays in use unchanged until somebody promotes the result.",
        json_schema_extra=_extra(section="Model"),
    )
    start: Literal["now", "night"] = Field(
        default="now",
        title="Start",
        description="At once, or within the night hours. Reading goes first in both cases.",
        json_schema_extra=_extra(section="Time", titles={"now": "Now", "night": "At night"}),
    )
    night_from: Time = Field(
        default="22:00",
        title="Night begins",
        description="The training waits for this hour of the computer's clock.",
        json_schema_extra=_extra(section="Time", shown_when=["start", "night"]),
    )
    night_to: Time = Field(
        default="06:00",
        title="Night ends",
        description="At this hour the training pauses and goes on in the next night.",
        json_schema_extra=_extra(section="Time", shown_when=["start", "night"]),
    )
    budget_minutes: int = Field(
        default=60,
        ge=1,
        le=1440,
        title="Time limit",
        description="Training ends after so many minutes of computing and keeps the best state until then.",
        json_schema_extra=_extra(section="Time", unit="min"),
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        title="Computed on",
        description="The graphics card is much faster. Automatic takes it when there is one with enough memory.",
        json_schema_extra=_extra(
            section="Computer",
            titles={"auto": "Automatic", "cpu": "Processor", "cuda": "Graphics card (CUDA)"},
        ),
    )
    max_memory_mb: int = Field(
        default=4096,
        ge=512,
        le=1_048_576,
        title="Memory limit",
        description="The most memory that the training may take; larger batches are divided to stay below it.",
        json_schema_extra=_extra(section="Computer", unit="MB"),
    )
    epochs: int = Field(
        default=10,
        ge=1,
        le=1000,
        title="Passes",
        description="How often each case is shown. Training ends earlier when the validation cases stop improving.",
        json_schema_extra=_extra(section="Learning"),
    )
    learning_rate: float = Field(
        default=1e-4,
        ge=1e-7,
        le=0.1,
        title="Learning rate",
        description="How far each step moves the weights. Small values keep what the model knows already.",
        json_schema_extra=_extra(section="Learning"),
    )
    seed: int = Field(
        default=0,
        ge=0,
        lt=2**31,
        title="Random seed",
        description="The same seed with the same cases divides them in the same way and gives the same result.",
        json_schema_extra=_extra(section="Learning"),
    )
    excluded: tuple[str, ...] = Field(
        default=(),
        max_length=100_000,
        title="Left out",
        description="Cases that must not be learnt from.",
        json_schema_extra=_extra(form=False),
    )

    @field_validator("excluded")
    @classmethod
    def _sorted(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _night_lasts(self) -> FineTuneSettings:
        if self.start == "night" and self.night_from == self.night_to:
            raise ValueError("night_from and night_to are the same time; the night must last")
        return self


@cache
def finetune_json_schema() -> dict[str, Any]:
    """Return the JSON schema of the settings. Shared: don't change it."""
    return FineTuneSettings.model_json_schema()


def finetune_fields() -> tuple[FormField, ...]:
    """Return the fields of the dialog, in order, with headings."""
    return form_fields(finetune_json_schema())


def parse_finetune(document: dict[str, Any]) -> FineTuneSettings:
    """Check what a dialog, a command or a stored job says.

    Raises
    ------
    InputError
        ``finetune.invalid`` naming the field and the nearest name.
    """
    try:
        return FineTuneSettings.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise refusal(
            error, document, finetune_json_schema(), code="finetune.invalid", what="The fine-tuning"
        ) from None
