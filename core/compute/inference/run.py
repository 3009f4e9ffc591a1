"""Run a model bundle on a volume."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from core.bundles.bundle import Bundle
from core.bundles.manifest import Inference
from core.compute.inference.backends import Backend, is_out_of_memory
from core.compute.inference.classify import classify
from core.compute.inference.loaded import LoadedModel, ModelCache
from core.compute.inference.networks import available_device
from core.compute.inference.output import InferenceOutput, peak_rss_mb
from core.compute.inference.prepare import PreparedVolume, check_geometry, prepare_image, prepare_volume
from core.compute.inference.probe import choose_backend
from core.compute.inference.segment import (
    SegmentationOutcome,
    fitting_settings,
    segment,
    smaller_settings,
)
from core.domain.errors import EnvironmentFault, InputError
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.volume import Volume

_CHOOSING, _LOADED, _PREPARED, _INFERRED = 0.02, 0.08, 0.15, 0.97
CHOOSING = "Choosing the fastest engine (once per model and computer)"


def run_bundle(
    bundle: Bundle,
    volume: Volume,
    *,
    device: str = "auto",
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
    cache: ModelCache | None = None,
    probe_folder: Path | None = None,
    backend: str | None = None,
) -> InferenceOutput:
    """Run a bundle on a volume.

    Parameters
    ----------
    device : str
        ``"auto"`` (CUDA where present), ``"cpu"`` or ``"cuda"``.
    cache : ModelCache, optional
        Keeps the model warm between runs.
    probe_folder : pathlib.Path, optional
        Where the engine's choice is remembered between processes.
    backend : str, optional
        Force an engine by name instead of probing (tests, benches, self-test: ``"exact"``).

    Raises
    ------
    SafetyError, InputError
        From the geometry gate (``check_geometry``, ``model_grid``) and the bundle.
    EnvironmentFault
        ``run.memory`` when memory ran out in every smaller way too.
    Cancelled
        When ``cancel`` was set; nothing is kept.
    """
    manifest = bundle.manifest
    if manifest.task == "multitask":
        raise InputError(
            "run.task",
            f"{manifest.title} is a multi-task model; this version can't run it.",
            "Update Overread.",
        )
    check_geometry(manifest, volume)
    started = time.perf_counter()
    job = _Job(bundle, volume, progress, cancel, cache or ModelCache(), probe_folder, backend)
    chosen, note = available_device(device)
    job.fallbacks += [note] if note else []
    output = job.run(chosen)
    output.seconds["total"] = time.perf_counter() - started
    progress("Done", 1.0)
    return replace(output, peak_rss_mb=peak_rss_mb())


class _Job:
    """One run: what it needs, and what could not be done as planned."""

    def __init__(
        self,
        bundle: Bundle,
        volume: Volume,
        progress: Progress,
        cancel: CancelToken | None,
        cache: ModelCache,
        probe_folder: Path | None,
        backend: str | None,
    ) -> None:
        self.bundle, self.volume, self.progress, self.cancel = bundle, volume, progress, cancel
        self.cache, self.probe_folder, self.forced = cache, probe_folder, backend
        self.fallbacks: list[str] = []
        phases = ("load", "choose_engine", "preprocess", "infer", "postprocess")
        self.seconds = dict.fromkeys(phases, 0.0)

    def run(self, device: str) -> InferenceOutput:
        """Run on ``device``; on the CPU when its memory runs out."""
        try:
            return self._run_on(device)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if device == "cpu":
                raise EnvironmentFault(
                    "run.memory",
                    f"There is not enough memory to run {self.bundle.manifest.title} on this series.",
                    "Close other programs or studies and run it again.",
                ) from error
        self.fallbacks.append("the GPU's memory ran out: ran on the CPU")
        self.cache.forget(self.bundle)
        return self._run_on("cpu")

    def _run_on(self, device: str) -> InferenceOutput:
        self._report("Loading the model", 0.0)
        before = time.perf_counter()
        model = self.cache.get(self.bundle, device)
        self.seconds["load"] += time.perf_counter() - before
        engine = self._engine(model)
        self._report("Preparing the image", _LOADED)
        if self.bundle.manifest.task == "classification":
            return self._classify(model, engine)
        return self._segment(model, engine)

    def _engine(self, model: LoadedModel) -> Backend:
        before = time.perf_counter()
        phase = "load"
        if self.forced is not None:
            engine = model.backend(model.exact_name() if self.forced == "exact" else self.forced)
        elif model.chosen is not None:
            engine = model.chosen
        else:

            def racing() -> None:
                nonlocal phase
                phase = "choose_engine"
                self._report(CHOOSING, _CHOOSING)

            engine, _ = choose_backend(model, self.probe_folder, self.cancel, racing)
            model.chosen = engine
        self.seconds[phase] += time.perf_counter() - before
        return engine

    def _classify(self, model: LoadedModel, engine: Backend) -> InferenceOutput:
        before = time.perf_counter()
        image = prepare_image(self.volume, self.bundle.manifest)
        self.seconds["preprocess"] = time.perf_counter() - before
        self._report("Running the model", _PREPARED)
        before = time.perf_counter()
        answer = classify(image, model, engine, self.cancel)
        self.seconds["infer"] = time.perf_counter() - before
        return InferenceOutput(
            None,
            answer.classes,
            answer.prediction_set,
            answer.uncertainty,
            answer.out_of_distribution,
            engine.device,
            engine.name,
            tuple(self.fallbacks),
            self.seconds,
        )

    def _segment(self, model: LoadedModel, engine: Backend) -> InferenceOutput:
        manifest = model.bundle.manifest
        before = time.perf_counter()
        prepared = prepare_volume(self.volume, manifest, self.cancel)
        self.seconds["preprocess"] = time.perf_counter() - before
        settings, notes = fitting_settings(manifest, prepared.grid.model.shape_kji)
        self.fallbacks += notes
        outcome = self._with_ladder(prepared, engine, settings)
        self.seconds.update(outcome.seconds)
        return InferenceOutput(
            outcome.labels,
            (),
            (),
            outcome.uncertainty,
            None,
            engine.device,
            engine.name,
            tuple(self.fallbacks),
            self.seconds,
        )

    def _with_ladder(
        self, prepared: PreparedVolume, engine: Backend, settings: Inference
    ) -> SegmentationOutcome:
        """Segment; when memory runs out, take the next smaller way and say so."""
        while True:
            try:
                return segment(
                    prepared,
                    self.bundle.manifest,
                    engine,
                    settings,
                    cancel=self.cancel,
                    on_window=self._on_window,
                )
            except Exception as error:
                smaller, notes = smaller_settings(settings)
                if not is_out_of_memory(error) or not notes:
                    raise
                self.fallbacks += notes
                settings = smaller

    def _on_window(self, done: int, total: int) -> None:
        self._report("Running the model", _PREPARED + (_INFERRED - _PREPARED) * done / total)

    def _report(self, phase: str, fraction: float) -> None:
        if self.cancel is not None:
            self.cancel.raise_if_cancelled()
        self.progress(phase, fraction)
