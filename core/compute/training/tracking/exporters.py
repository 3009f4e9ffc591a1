"""What a run logs, mirrored live into TensorBoard, MLflow and Weights & Biases, all on this computer.

The run's own ``events.jsonl`` is the record; these are views of it for people who have their readers open. They are
loaded and written by a thread of their own, so that training never waits for them, and a tracker that fails says so
once and stops; it never stops the training.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from core.config.telemetry import refuse_telemetry
from core.recipes.schema import Tracking

LOG = logging.getLogger(__name__)
Event = Mapping[str, Any]
_STEP_EVERY = 10
_CLOSE_S = 60.0
MLFLOW_FOLDER, WANDB_FOLDER, TENSORBOARD_FOLDER = "mlruns", "wandb", "tensorboard"


@dataclass(frozen=True)
class RunFacts:
    """What the trackers say of a run: its name and identifier, and the resolved recipe as plain JSON values."""

    run_id: str
    name: str
    parameters: Mapping[str, Any]


class Exporters:
    """Mirrors events into the trackers that the recipe asks for.

    Parameters
    ----------
    tracking : Tracking
        Which trackers.
    folder : pathlib.Path
        The run's folder; each tracker writes below it.
    facts : RunFacts
        Name and parameters.
    on_failure : callable
        Called once per tracker that failed, with its name and a message; from the exporters' thread.

    ``__call__`` may be called from any thread and returns at once. ``close`` writes what is waiting.
    """

    def __init__(
        self,
        tracking: Tracking,
        folder: Path,
        facts: RunFacts,
        on_failure: Callable[[str, str], None] | None = None,
    ) -> None:
        self._makers = _makers(tracking, folder, facts)
        self._facts = facts
        self._on_failure = on_failure
        self._waiting: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        if self._makers:
            self._thread = threading.Thread(target=self._run, name="overread-trackers", daemon=True)
            self._thread.start()

    def __call__(self, event: Event) -> None:
        """Mirror one event of the run."""
        if self._thread is not None:
            self._waiting.put(dict(event))

    def close(self, status: str = "success") -> None:
        """Write what is waiting, mark the run as ended (``success``, ``failed`` or ``aborted``) and let go."""
        if self._thread is None:
            return
        self._waiting.put({"event": "_close", "status": status})
        self._waiting.put(None)
        self._thread.join(_CLOSE_S)
        self._thread = None

    def _run(self) -> None:
        loggers = self._open()
        while (event := self._waiting.get()) is not None:
            status = event.get("status", "") if event["event"] == "_close" else None
            values = values_of(event)
            for name, logger in list(loggers.items()):
                try:
                    if status is not None:
                        _finish(logger, str(status))
                    elif (
                        event["event"] == "done" and event.get("bundle") and isinstance(logger, MLFlowLogger)
                    ):
                        register_bundle(logger, self._facts, Path(str(event["bundle"])))
                    elif values:
                        logger.log_metrics(values, int(event.get("step", 0)))
                except Exception as error:  # noqa: BLE001 - whatever a tracker raises, training goes on
                    self._failed(name, error)
                    del loggers[name]

    def _open(self) -> dict[str, Logger]:
        loggers: dict[str, Logger] = {}
        for name, make in self._makers.items():
            try:
                logger = make()
                logger.log_hyperparams(flat(self._facts.parameters))
                loggers[name] = logger
            except Exception as error:  # noqa: BLE001 - a tracker that isn't installed or can't write
                self._failed(name, error)
        return loggers

    def _failed(self, name: str, error: Exception) -> None:
        message = f"{name} stopped recording ({type(error).__name__}: {error}); the run's own log goes on."
        LOG.info("%s", message)
        if self._on_failure is not None:
            self._on_failure(name, message)


def _finish(logger: Logger, status: str) -> None:
    logger.finalize(status)
    if isinstance(logger, WandbLogger):
        logger.experiment.finish(exit_code=0 if status == "success" else 1)


def register_bundle(logger: MLFlowLogger, facts: RunFacts, bundle: Path) -> None:
    """Enter the bundle of a run in MLflow's registry as the next version, with the alias ``candidate``.

    A version in this registry is a candidate: what readers use is decided by promotion in the application.
    """
    client = logger.experiment
    known = {model.name for model in client.search_registered_models()}
    if facts.name not in known:
        client.create_registered_model(facts.name)
    version = client.create_model_version(
        facts.name, source=bundle.as_uri(), run_id=logger.run_id, tags={"overread.run_id": facts.run_id}
    )
    client.set_registered_model_alias(facts.name, "candidate", version.version)


def values_of(event: Event) -> dict[str, float]:
    """Return the numbers of an event that a tracker shows, by name; empty for events without any."""
    kind = event["event"]
    if kind == "step" and int(event.get("step", 0)) % _STEP_EVERY == 0:
        names = {
            "loss": "train/step_loss",
            "learning_rate": "train/learning_rate",
            "seconds": "train/seconds",
        }
        return {new: float(event[old]) for old, new in names.items() if event.get(old) is not None}
    if kind == "epoch":
        values = {"epoch": float(event["epoch"])}
        values |= {key: float(value) for key, value in event.get("values", {}).items() if _is_number(value)}
        return values
    if kind == "hardware":
        numbers = {k: float(v) for k, v in event.items() if _is_number(v) and k not in ("step", "epoch")}
        return {f"hardware/{key}": value for key, value in numbers.items()}
    if kind == "evaluated":
        return {f"test/{key}": value for key, value in flat_numbers(event.get("metrics", {})).items()}
    return {}


def flat(document: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings with dotted names; sequences of plain values become text."""
    out: dict[str, Any] = {}
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            out |= flat(value, f"{name}.")
        elif isinstance(value, str | int | float | bool) or value is None:
            out[name] = value
        else:
            out[name] = str(value)[:500]
    return out


def flat_numbers(document: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the numbers of nested metrics; ``[value, low, high]`` gives its value."""
    out: dict[str, float] = {}
    for key, value in document.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            out |= flat_numbers(value, f"{name}/")
        elif _is_number(value):
            out[name] = float(value)
        elif isinstance(value, list | tuple) and len(value) == 3 and all(_is_number(v) for v in value):
            out[name] = float(value[0])
    return out


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _makers(tracking: Tracking, folder: Path, facts: RunFacts) -> dict[str, Callable[[], Logger]]:
    makers: dict[str, Callable[[], Logger]] = {}
    if tracking.tensorboard:
        makers["TensorBoard"] = lambda: _tensorboard(folder / TENSORBOARD_FOLDER)
    if tracking.mlflow:
        makers["MLflow"] = lambda: _mlflow(folder / MLFLOW_FOLDER, facts)
    if tracking.wandb:
        makers["Weights & Biases"] = lambda: _wandb(folder / WANDB_FOLDER, facts)
    return makers


def _tensorboard(folder: Path) -> Logger:
    return TensorBoardLogger(folder, name="", version="", default_hp_metric=False)


def mlflow_uri(folder: Path) -> str:
    """Return the address of the SQLite store in a run's ``mlruns`` folder; made when absent."""
    folder.mkdir(parents=True, exist_ok=True)
    return f"sqlite:///{(folder / 'mlflow.db').as_posix()}"


def _mlflow(folder: Path, facts: RunFacts) -> Logger:
    refuse_telemetry()
    return MLFlowLogger(
        experiment_name=facts.name,
        run_name=facts.run_id,
        tracking_uri=mlflow_uri(folder),
        tags={"overread.run_id": facts.run_id},
        artifact_location=(folder / "artifacts").as_uri(),
    )


def _wandb(folder: Path, facts: RunFacts) -> Logger:
    # Nothing leaves this computer: offline, without the service's telemetry, error reports or code.
    for key, value in (
        ("WANDB_MODE", "offline"),
        ("WANDB_ERROR_REPORTING", "false"),
        ("WANDB_SILENT", "true"),
        ("WANDB_DISABLE_CODE", "true"),
        ("WANDB_DISABLE_GIT", "true"),
        ("WANDB_CONSOLE", "off"),
        ("WANDB__DISABLE_STATS", "true"),
        ("WANDB__DISABLE_META", "true"),
    ):
        os.environ.setdefault(key, value)
    folder.mkdir(parents=True, exist_ok=True)
    logger = WandbLogger(name=facts.run_id, project=facts.name, save_dir=folder, offline=True)
    _ = logger.experiment
    return logger
