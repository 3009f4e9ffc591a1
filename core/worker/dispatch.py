"""From a task to the computation that does it. Compute libraries load with the first task, not before."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from core.bundles.bundle import read_bundle
from core.domain.errors import BugError
from core.domain.progress import CancelToken, Progress
from core.jobs.messages import ExplainTask, RunModelTask, RunRemoteTask, SelfTestTask, SharedArraySpec, Task
from core.jobs.specs import volume_of
from core.worker.attached import AttachedArrays
from core.worker.remote import run_remote

if TYPE_CHECKING:
    from core.compute.inference.loaded import ModelCache
    from core.domain.volume import Volume


class Dispatcher:
    """Runs the tasks of ``core.jobs.messages`` with ``core.compute`` and keeps the last models loaded."""

    def __init__(self) -> None:
        self._cache: ModelCache | None = None

    def _models(self) -> ModelCache:
        from core.compute.inference.loaded import ModelCache

        self._cache = self._cache or ModelCache()
        return self._cache

    def warm_up(self) -> None:
        """Import the compute libraries."""
        import core.compute.explain.run
        import core.compute.inference.run  # noqa: F401

    def run(
        self, task: Task, arrays: AttachedArrays, progress: Progress, cancel: CancelToken
    ) -> dict[str, Any]:
        """Do a task and return its outcome; see ``run_model``, ``explain`` and ``selftest``."""
        match task:
            case RunModelTask():
                return run_model(task, arrays, self._models(), progress, cancel)
            case RunRemoteTask():
                return as_json(run_remote(task, arrays, progress, cancel))
            case ExplainTask():
                return explain(task, arrays, self._models(), progress, cancel)
            case SelfTestTask():
                return selftest(task, self._models(), progress, cancel)
        raise BugError("jobs.unknown_task", f"The worker cannot do a {type(task).__name__}.")


def run_model(
    task: RunModelTask, arrays: AttachedArrays, cache: ModelCache, progress: Progress, cancel: CancelToken
) -> dict[str, Any]:
    """Run a bundle and fill ``labels_out``.

    Returns
    -------
    dict
        ``classes``, ``prediction_set``, ``uncertainty``, ``out_of_distribution``, ``device``, ``backend``,
        ``fallbacks``, ``seconds``, ``peak_rss_mb``, ``has_labels`` and ``measurements``.
    """
    from core.compute.inference.run import run_bundle

    output = run_bundle(
        read_bundle(Path(task.bundle_path)),
        _given(task, arrays),
        text=task.text,
        device=task.device,
        progress=progress,
        cancel=cancel,
        cache=cache,
        probe_folder=Path(task.probe_folder) if task.probe_folder else None,
    )
    cancel.raise_if_cancelled()
    if output.labels is not None:
        _hand_over(output.labels, task.labels_out, arrays)
    outcome = {
        "classes": [asdict(item) for item in output.classes],
        "prediction_set": list(output.prediction_set),
        "uncertainty": output.uncertainty,
        "out_of_distribution": output.out_of_distribution,
        "device": output.device,
        "backend": output.backend,
        "fallbacks": list(output.fallbacks),
        "seconds": dict(output.seconds),
        "peak_rss_mb": output.peak_rss_mb,
        "has_labels": output.labels is not None,
        "measurements": [asdict(item) for item in output.measurements],
    }
    return as_json(outcome)


def _given(task: RunModelTask | ExplainTask, arrays: AttachedArrays) -> Volume | dict[str, Volume]:
    """Return the task's volume, or the volumes of a model that takes several."""
    volume = volume_of(task.volume, arrays.view(task.volume.voxels))
    if not task.contrast:
        return volume
    others = {other.name: volume_of(other.volume, arrays.view(other.volume.voxels)) for other in task.others}
    return {task.contrast: volume, **others}


def explain(
    task: ExplainTask, arrays: AttachedArrays, cache: ModelCache, progress: Progress, cancel: CancelToken
) -> dict[str, Any]:
    """Explain a class and fill ``heat_out``; the outcome has the other fields of ``Explanation``."""
    from core.compute.explain.run import explain_bundle

    explanation = explain_bundle(
        read_bundle(Path(task.bundle_path)),
        _given(task, arrays),
        method=task.method,
        class_label=task.class_label,
        layer=task.layer,
        labels=None if task.labels is None else arrays.view(task.labels),
        device=task.device,
        progress=progress,
        cancel=cancel,
        cache=cache,
    )
    cancel.raise_if_cancelled()
    _hand_over(explanation.heat, task.heat_out, arrays)
    outcome = {
        "method": explanation.method,
        "class_label": explanation.class_label,
        "layer": explanation.layer,
        "resolution_mm": list(explanation.resolution_mm),
        "randomisation_correlation": explanation.randomisation_correlation,
        "sanity_passed": explanation.sanity_passed,
        "pointing_game": explanation.pointing_game,
    }
    return as_json(outcome)


def selftest(
    task: SelfTestTask, cache: ModelCache, progress: Progress, cancel: CancelToken
) -> dict[str, Any]:
    """Run a bundle on its own reference; the outcome has the fields of ``SelfTestReport``."""
    from core.compute.selftest import run_selftest

    bundle = read_bundle(Path(task.bundle_path))
    report = run_selftest(bundle, task.device, progress=progress, cancel=cancel, cache=cache)
    return as_json(asdict(report))


def as_json(value: Any) -> Any:
    """Return plain JSON values: NumPy scalars as numbers, numbers that are not finite as None."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [as_json(item) for item in value]
    if isinstance(value, np.generic):
        return as_json(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Path):
        return str(value)
    return value


def _hand_over(array: NDArray, target: SharedArraySpec | None, arrays: AttachedArrays) -> None:
    """Copy a result into the block that waits for it.

    Raises
    ------
    BugError
        If there is none, or it has another shape, or its type cannot hold the values (``jobs.bad_output``).
    """
    if target is None:
        raise BugError("jobs.bad_output", "The model gave an array that nobody asked for.")
    block = arrays.view(target, writeable=True)
    if block.shape != array.shape or not np.can_cast(array.dtype, block.dtype, "same_kind"):
        raise BugError(
            "jobs.bad_output",
            f"The model gave {array.shape} {array.dtype}, the series needs {block.shape} {block.dtype}.",
        )
    block[...] = array
