"""What the training screens need from the engine: cases, a form, runs, candidates, agreement over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from core.domain.forms import FormField
from core.domain.training import (
    Candidate,
    CurvePoint,
    ModelMonitor,
    ModelVersions,
    TrainingEvent,
    TrainingPreview,
    TrainingRun,
)


@dataclass(frozen=True)
class TrainableModel:
    """A model of the catalogue; ``why`` says what keeps it from being trained, empty when nothing does."""

    id: str
    title: str
    version: str
    task: str = ""
    why: str = ""


@dataclass(frozen=True)
class CandidateOffer:
    """A candidate, and what keeps a person from promoting it now (empty when nothing does)."""

    candidate: Candidate
    why_not: str = ""


class TrainingEngine(Protocol):
    """Services behind the training screens; every method but ``note_reading`` blocks."""

    @property
    def reader(self) -> str:
        """Who is reading."""

    def listen_to_training(self, take: Callable[[TrainingEvent], None]) -> None:
        """Hand events of trainings to ``take``, on any thread, from now on."""

    def trainable_models(self) -> Sequence[TrainableModel]:
        """Return the models of the catalogue."""

    def preview_training(self, model_id: str, left_out: Sequence[str]) -> TrainingPreview:
        """Return what a training of a model would learn from when some cases are left out."""

    def training_form(self) -> Sequence[FormField]:
        """Return the settings' schema as a form, with the defaults."""

    def start_training(self, settings: Mapping[str, Any]) -> TrainingRun:
        """Check the settings, lay out the cases and queue the training."""

    def trainings(self) -> Sequence[TrainingRun]:
        """Return the trainings, newest first."""

    def training_curves(self, run_id: str) -> Sequence[CurvePoint]:
        """Return what a training has recorded so far, oldest first."""

    def pause_training(self, run_id: str) -> None:
        """Let a training rest after its present step."""

    def resume_training(self, run_id: str) -> None:
        """Let a training go on."""

    def cancel_training(self, run_id: str) -> None:
        """End a training; nothing of it is used."""

    def candidates(self) -> Sequence[CandidateOffer]:
        """Return the candidates, newest first."""

    def model_versions(self, model_id: str) -> ModelVersions:
        """Return the versions of a model and what was promoted and rolled back."""

    def promote_candidate(self, candidate_id: str, person: str, reason: str) -> ModelVersions:
        """Make a candidate the model in use."""

    def roll_back_model(self, model_id: str, person: str, reason: str) -> ModelVersions:
        """Make the former model the one in use again."""

    def watch_models(self) -> ModelMonitor:
        """Return how readers and models agreed over time, and what to look at."""

    def note_reading(self) -> None:
        """Say that somebody reads right now; returns at once, on the GUI thread."""
