"""Choosing what to train: base model, cases, settings; nothing starts before everything is in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Presenter, Tasks
from app.presenters.ports_training import TrainableModel, TrainingEngine
from app.presenters.training_form import entered_of, matters, value_of
from app.presenters.training_words import counts_in_words
from app.presenters.wording import count_in_words
from core.domain.errors import AppError
from core.domain.forms import FormField
from core.domain.training import CasePart, TrainingPreview, TrainingRun

NO_MODELS = "No model can be improved. Add one with “overread models add”."
NO_CASES = "Accept or correct results of this model first; each series you decided on is listed here."
LOADING = "Looking for cases…"
MODEL_FIELD, LEFT_OUT_FIELD = "model_id", "excluded"


@dataclass(frozen=True)
class TrainingSetupState:
    """What the page shows.

    ``entered`` is the text or value of each field as the reader left it, ``problems`` what is wrong with it.
    ``why_not`` is why Start does nothing; ``message`` replaces the lists while there is nothing to choose from.
    """

    models: tuple[TrainableModel, ...] = ()
    model_id: str = ""
    preview: TrainingPreview | None = None
    left_out: frozenset[str] = frozenset()
    form: tuple[FormField, ...] = ()
    entered: tuple[tuple[str, Any], ...] = ()
    problems: tuple[tuple[str, str], ...] = ()
    why_not: str = ""
    message: str = LOADING
    looking: bool = False
    starting: bool = False

    @property
    def counts(self) -> str:
        """How many cases of how many patients."""
        return counts_in_words(self.preview) if self.preview is not None and self.preview.cases else ""

    @property
    def estimate(self) -> str:
        """What the training takes at most, and when it begins."""
        entered = dict(self.entered)
        words = []
        if str(entered.get("start")) == "night":
            words.append(f"Begins at night, {entered.get('night_from')}–{entered.get('night_to')}")
        elif "start" in entered:
            words.append("Begins at once")
        budget = str(entered.get("budget_minutes", "")).strip()
        if budget.isdigit():
            words.append(f"ends after {count_in_words(int(budget), 'minute', 'minutes')} at the latest")
        words.append("rests while you read")
        return ", ".join(words) + "."

    @property
    def can_start(self) -> bool:
        """Whether Start begins a training."""
        in_order = self.preview is not None and not (self.why_not or self.problems or self.message)
        return in_order and not (self.looking or self.starting)


class TrainingSetupPresenter(Presenter[TrainingSetupState]):
    """Keeps what was entered while cases come and go; an answer about another choice is dropped."""

    def __init__(self, engine: TrainingEngine, tasks: Tasks, notices: NoticesPresenter) -> None:
        super().__init__(TrainingSetupState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._generation = 0
        self.started: Callable[[TrainingRun], None] = lambda _: None

    # -- reading -----------------------------------------------------------------------------------

    def refresh(self, model_id: str = "") -> None:
        """Read models, form and cases again; ``model_id`` chooses a model."""
        generation = self._next()
        wanted = model_id or self.state.model_id

        def work() -> tuple[Sequence[TrainableModel], Sequence[FormField]]:
            return self._engine.trainable_models(), self._engine.training_form()

        def done(found: tuple[Sequence[TrainableModel], Sequence[FormField]]) -> None:
            if generation == self._generation:
                self._take_form(found[1])
                self._take_models(tuple(found[0]), wanted)

        self._tasks.io(work, done, self._failed(generation))

    def choose_model(self, model_id: str) -> None:
        """Take another base model."""
        if model_id and model_id != self.state.model_id:
            self.refresh(model_id)

    def _next(self) -> int:
        self._generation += 1
        return self._generation

    def _take_form(self, found: Sequence[FormField]) -> None:
        form = tuple(field for field in found if field.path not in (MODEL_FIELD, LEFT_OUT_FIELD))
        before = dict(self.state.entered)
        entered = tuple((field.path, before.get(field.path, entered_of(field))) for field in form)
        self._publish(replace(self.state, form=form, entered=entered))
        self._check()

    def _take_models(self, models: tuple[TrainableModel, ...], wanted: str) -> None:
        if not models:
            self._publish(replace(self.state, models=(), model_id="", preview=None, message=NO_MODELS))
            return
        usable = [model for model in models if not model.why] or list(models)
        chosen = next((model for model in models if model.id == wanted), usable[0])
        same = chosen.id == self.state.model_id
        state = replace(self.state, models=models, model_id=chosen.id)
        if not same:
            state = replace(state, left_out=frozenset(), preview=None)
        if chosen.why:
            self._publish(replace(state, preview=None, message=chosen.why, why_not=chosen.why))
            return
        self._publish(state if state.preview is not None else replace(state, message=LOADING))
        self._look()

    def _look(self) -> None:
        """Ask what a training would learn from with the present choice."""
        generation = self._next()
        model_id, left_out = self.state.model_id, tuple(sorted(self.state.left_out))
        self._publish(replace(self.state, looking=True))

        def done(preview: TrainingPreview) -> None:
            if generation == self._generation:
                self._take(preview)

        self._tasks.io(
            lambda: self._engine.preview_training(model_id, left_out), done, self._failed(generation)
        )

    def _take(self, preview: TrainingPreview) -> None:
        why = f"{preview.refusal} {preview.remedy}".strip() if not preview.can_start else ""
        known = {case.case_id for case in preview.cases}
        self._publish(
            replace(
                self.state,
                preview=preview,
                left_out=self.state.left_out & known,
                why_not=why,
                message="" if preview.cases else NO_CASES,
                looking=False,
            )
        )

    def _failed(self, generation: int) -> Callable[[AppError], None]:
        def failed(error: AppError) -> None:
            if generation == self._generation:
                words = f"{error.user_message} {error.remedy}".strip()
                self._publish(replace(self.state, preview=None, message=words, looking=False))

        return failed

    # -- choosing ----------------------------------------------------------------------------------

    def toggle_case(self, case_id: str) -> None:
        """Leave a case out, or take it in again; the comparison's cases never change."""
        preview = self.state.preview
        case = next((case for case in preview.cases if case.case_id == case_id), None) if preview else None
        if case is None or not case.usable or case.part is CasePart.TEST:
            return
        self._publish(replace(self.state, left_out=self.state.left_out ^ {case_id}))
        self._look()

    def enter(self, path: str, entered: Any) -> None:
        """Take what was entered into a field."""
        values = dict(self.state.entered)
        if path not in values or values[path] == entered:
            return
        values[path] = entered
        self._publish(replace(self.state, entered=tuple(values.items())))
        self._check()

    def _check(self) -> None:
        self._publish(replace(self.state, problems=self._values()[1]))

    def _values(self) -> tuple[dict[str, Any], tuple[tuple[str, str], ...]]:
        entered = dict(self.state.entered)
        values: dict[str, Any] = {}
        problems = []
        for field in self.state.form:
            value, problem = value_of(field, entered.get(field.path))
            if not problem:
                values[field.path] = value
            elif matters(field, entered):
                problems.append((field.path, problem))
            # What has no meaning now keeps its default and can't keep a training from starting.
        return values, tuple(problems)

    # -- starting ----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin the training; a second press finds it starting."""
        if not self.state.can_start:
            return
        left_out = sorted(self.state.left_out)
        settings = {**self._values()[0], MODEL_FIELD: self.state.model_id, LEFT_OUT_FIELD: left_out}
        self._publish(replace(self.state, starting=True))

        def done(run: TrainingRun) -> None:
            self._publish(replace(self.state, starting=False))
            self.started(run)

        def failed(error: AppError) -> None:
            why = f"{error.user_message} {error.remedy}".strip()
            self._publish(replace(self.state, starting=False, why_not=why))
            self._notices.report(error)

        self._tasks.io(lambda: self._engine.start_training(settings), done, failed)
