"""Search for better hyper-parameters: Optuna over trainings of one recipe, in a SQLite study that can be resumed.

Each trial trains in a folder of its own; trials that do worse than the median of the earlier ones at the same epoch
are stopped. Source: T. Akiba et al., Optuna, KDD 2019 (tree-structured Parzen estimator, median rule).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import optuna

from core.domain.errors import AppError, EnvironmentFault
from core.domain.progress import Cancelled, CancelToken, Progress, no_progress
from core.recipes.search import Choices, FloatRange, Range, SearchSpace

STUDY_FILE = "study.db"


class Train(Protocol):
    """Trains with overrides of the recipe in a folder; reports events; may be cancelled."""

    def __call__(
        self,
        overrides: Mapping[str, Any],
        out: Path,
        on_event: Callable[[Mapping[str, Any]], None],
        cancel: CancelToken,
    ) -> Mapping[str, Any]:
        """Return the outcome of ``train_recipe``."""


@dataclass(frozen=True)
class TrialRow:
    """One training of the search; ``value`` is the best of the objective, None when it failed or was stopped early."""

    number: int
    state: str
    value: float | None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 0
    folder: str = ""
    reason: str = ""


def search(
    name: str,
    space: SearchSpace,
    train: Train,
    out: Path,
    *,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> list[TrialRow]:
    """Run trials until the study has ``space.trials`` that ended; an interrupted search goes on where it was.

    Raises
    ------
    Cancelled
        When asked to; the study keeps what ended.
    EnvironmentFault
        ``search.study`` when the study in the folder can't be opened.
    """
    token = cancel or CancelToken()
    study = _open(name, space, out)
    done = sum(trial.state.is_finished() for trial in study.trials)
    for number in range(done, space.trials):
        token.raise_if_cancelled()
        progress("Searching", number / space.trials)
        _one(study, space, train, out, token)
    progress("Searching", 1.0)
    return rows_of(study)


def rows_of(study: optuna.Study) -> list[TrialRow]:
    """Return the trials of a study, the best first, then those without a value."""
    rows = [
        TrialRow(
            trial.number,
            trial.state.name.lower(),
            trial.value if trial.value is not None and math.isfinite(trial.value) else None,
            dict(trial.params),
            int(trial.user_attrs.get("epochs", 0)),
            str(trial.user_attrs.get("folder", "")),
            str(trial.user_attrs.get("reason", "")),
        )
        for trial in study.trials
    ]
    sign = 1.0 if study.direction == optuna.study.StudyDirection.MINIMIZE else -1.0
    return sorted(rows, key=lambda row: (row.value is None, sign * (row.value or 0.0), row.number))


def _open(name: str, space: SearchSpace, out: Path) -> optuna.Study:
    out.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        study = optuna.create_study(
            study_name=name,
            storage=f"sqlite:///{(out / STUDY_FILE).as_posix()}",
            direction=space.direction,
            sampler=optuna.samplers.TPESampler(seed=space.seed),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=space.prune_after),
            load_if_exists=True,
        )
    except Exception as error:
        raise EnvironmentFault(
            "search.study",
            f"The study in {STUDY_FILE} can't be opened ({type(error).__name__}).",
            "Give another folder with --out.",
        ) from error
    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        # A killed search leaves its last trial running for ever; it counts as failed and is drawn anew.
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL, skip_if_finished=True)
    return study


def _one(study: optuna.Study, space: SearchSpace, train: Train, out: Path, token: CancelToken) -> None:
    trial = study.ask()
    overrides = {key: _draw(trial, key, what) for key, what in space.parameters.items()}
    folder = out / f"trial-{trial.number:04d}"
    trial.set_user_attr("folder", folder.name)
    watch = _Watch(trial, space, token)
    try:
        train(overrides, folder, watch, watch.stop)
    except Cancelled:
        if not watch.hopeless:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            raise
    except AppError as error:
        # A combination that can't train (too large for the memory, say) is a result of the search, not its end.
        trial.set_user_attr("reason", error.user_message)
    trial.set_user_attr("epochs", watch.epochs)
    if watch.hopeless:
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    elif watch.best is None:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    else:
        study.tell(trial, watch.best)


class _Watch:
    """Follows one training: remembers its best value, asks whether it is hopeless, passes a wish to stop on."""

    def __init__(self, trial: optuna.Trial, space: SearchSpace, outer: CancelToken) -> None:
        self._trial = trial
        self._space = space
        self._outer = outer
        self.stop = CancelToken()
        self.best: float | None = None
        self.epochs = 0
        self.hopeless = False

    def __call__(self, event: Mapping[str, Any]) -> None:
        if self._outer.is_cancelled:
            self.stop.cancel()
        if event.get("event") != "epoch":
            return
        value = event.get("values", {}).get(self._space.objective)
        self.epochs = int(event["epoch"]) + 1
        if value is None or not math.isfinite(value):
            return
        better = min if self._space.direction == "minimize" else max
        self.best = float(value) if self.best is None else better(self.best, float(value))
        self._trial.report(float(value), self.epochs)
        if self._trial.should_prune():
            self.hopeless = True
            self.stop.cancel()


def _draw(trial: optuna.Trial, key: str, what: Range) -> Any:
    if isinstance(what, Choices):
        return trial.suggest_categorical(key, what.values)
    if isinstance(what, FloatRange):
        return trial.suggest_float(key, what.low, what.high, log=what.log)
    return trial.suggest_int(key, what.low, what.high, log=what.log)
