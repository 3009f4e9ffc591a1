"""Trainings, candidates and agreement, as one part of the engine's gateway; on worker threads."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from app.presenters.ports_training import CandidateOffer, TrainableModel
from core.domain.errors import BugError
from core.domain.forms import FormField
from core.domain.training import (
    CurvePoint,
    ModelMonitor,
    ModelVersions,
    TrainingEvent,
    TrainingPreview,
    TrainingRun,
)

if TYPE_CHECKING:
    from core.services.engine import Engine
    from core.services.training_board import TrainingBoard

_MAKING = threading.Lock()


class TrainingGateway(ABC):
    """Each method is one service call; ``note_reading`` alone is called on the GUI thread.

    The board, which goes on with trainings that an earlier start left, is made by the first of these calls.
    """

    _training_board: TrainingBoard | None = None
    _training_closed = False
    _training_listener: Callable[[TrainingEvent], None] | None = None

    @property
    @abstractmethod
    def engine(self) -> Engine:
        """The opened engine."""

    @property
    def training_board(self) -> TrainingBoard:
        """The board; made when it is first asked for."""
        engine = self.engine
        from core.services.training_board import TrainingBoard

        with _MAKING:
            if self._training_closed:
                raise BugError("app.closing", "The program is being closed.", "Start it again.")
            if self._training_board is None:
                self._training_board = TrainingBoard(engine)
                if self._training_listener is not None:
                    self._training_board.subscribe(self._training_listener)
            return self._training_board

    def allow_training(self) -> None:
        """Let a board be made; called when the engine is opened, also anew."""
        with _MAKING:
            self._training_closed = False

    def close_training(self) -> None:
        """Stop what trains; it goes on after the next start."""
        with _MAKING:
            self._training_closed = True
            board, self._training_board = self._training_board, None
        if board is not None:
            board.shutdown()

    def listen_to_training(self, take: Callable[[TrainingEvent], None]) -> None:
        """Hand events to ``take`` on the board's thread."""
        self._training_listener = take
        if self._training_board is None:
            _ = self.training_board
        else:
            self._training_board.subscribe(take)

    def note_reading(self) -> None:
        """Say that somebody reads right now."""
        board = self._training_board
        if board is not None:
            board.reading_active()

    # -- choosing and starting -----------------------------------------------------------------------

    def trainable_models(self) -> Sequence[TrainableModel]:
        """Return the models of the catalogue."""
        from core.services import training_cases

        return [
            TrainableModel(model.id, model.title, model.version, model.task, model.why)
            for model in training_cases.trainable_models(self.engine)
        ]

    def preview_training(self, model_id: str, left_out: Sequence[str]) -> TrainingPreview:
        """Return what a training would learn from."""
        from core.services import training_cases

        return training_cases.preview_cases(self.engine, model_id, left_out)

    def training_form(self) -> Sequence[FormField]:
        """Return the settings' schema as a form."""
        from core.recipes.finetune import finetune_fields

        return finetune_fields()

    def start_training(self, settings: Mapping[str, Any]) -> TrainingRun:
        """Check the settings, lay out the cases and queue the training."""
        from core.recipes.finetune import parse_finetune
        from core.services import start_training

        run = start_training.start_training(self.engine, parse_finetune(dict(settings)))
        self.training_board.wake()
        return run

    # -- trainings -----------------------------------------------------------------------------------

    def trainings(self) -> Sequence[TrainingRun]:
        """Return the trainings, newest first."""
        return self.training_board.runs()

    def training_curves(self, run_id: str) -> Sequence[CurvePoint]:
        """Return what a training recorded."""
        return self.training_board.curves(run_id)

    def pause_training(self, run_id: str) -> None:
        """Let a training rest."""
        self.training_board.pause(run_id)

    def resume_training(self, run_id: str) -> None:
        """Let a training go on."""
        self.training_board.resume(run_id)

    def cancel_training(self, run_id: str) -> None:
        """End a training."""
        self.training_board.cancel(run_id)

    # -- candidates ----------------------------------------------------------------------------------

    def candidates(self) -> Sequence[CandidateOffer]:
        """Return the candidates with what keeps them from being promoted."""
        from core.services import candidates

        found = candidates.list_candidates(self.engine)
        return [CandidateOffer(candidate, candidates.why_not(self.engine, candidate)) for candidate in found]

    def model_versions(self, model_id: str) -> ModelVersions:
        """Return the versions of a model."""
        from core.services import promote_model

        return promote_model.model_versions(self.engine, model_id)

    def promote_candidate(self, candidate_id: str, person: str, reason: str) -> ModelVersions:
        """Make a candidate the model in use."""
        from core.services import promote_model

        return promote_model.promote(self.engine, candidate_id, person, reason)

    def roll_back_model(self, model_id: str, person: str, reason: str) -> ModelVersions:
        """Make the former model the one in use again."""
        from core.services import promote_model

        return promote_model.roll_back(self.engine, model_id, person, reason)

    def watch_models(self) -> ModelMonitor:
        """Return agreement, drift and alerts."""
        from core.services import model_monitor

        return model_monitor.watch_models(self.engine)
