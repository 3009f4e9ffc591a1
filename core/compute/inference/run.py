"""Run a model bundle on a volume."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import torch

from core.bundles.bundle import Bundle
from core.bundles.manifest import Inference
from core.compute.inference.backends import Engine, is_out_of_memory
from core.compute.inference.classify import classify
from core.compute.inference.contrasts import (
    Contrasts,
    Given,
    classifier_input,
    named_contrasts,
    prepare_contrasts,
)
from core.compute.inference.loaded import LoadedModel, ModelCache
from core.compute.inference.multitask import predict_within_memory
from core.compute.inference.networks import available_device
from core.compute.inference.output import InferenceOutput, peak_rss_mb
from core.compute.inference.prepare import PreparedVolume
from core.compute.inference.probe import choose_backend
from core.compute.inference.reports import text_ids
from core.compute.inference.segment import (
    SegmentationOutcome,
    fitting_settings,
    segment,
    smaller_settings,
)
from core.domain.errors import EnvironmentFault
from core.domain.progress import CancelToken, Progress, no_progress

_CHOOSING, _LOADED, _PREPARED, _INFERRED = 0.02, 0.08, 0.15, 0.97
CHOOSING = "Choosing the fastest engine (once per model and computer)"


def run_bundle(
    bundle: Bundle,
    volume: Given,
    *,
    text: str | None = None,
    device: str = "auto",
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
    cache: ModelCache | None = None,
    probe_folder: Path | None = None,
    backend: str | None = None,
) -> InferenceOutput:
    """Run a bundle on a volume, or on the contrasts of a study.

    Parameters
    ----------
    volume : Volume or mapping of str to Volume
        One volume, or the volumes of a model that takes several, by the manifest's names (``inputs``). The answer
        lies on the grid of the first one; the others are resampled to it.
    text : str, optional
        The report, for a model that takes one.
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
        From the geometry gate (``named_contrasts``, ``model_grid``) and the bundle; ``run.text``.
    EnvironmentFault
        ``run.memory`` when memory ran out in every smaller way too.
    Cancelled
        When ``cancel`` was set; nothing is kept.
    """
    contrasts = named_contrasts(bundle.manifest, volume)
    started = time.perf_counter()
    ids = text_ids(bundle, text)
    job = _Job(bundle, contrasts, ids, progress, cancel, cache or ModelCache(), probe_folder, backend)
    if contrasts.missing:
        job.fallbacks.append(f"run without {', '.join(contrasts.missing)}: no such series was given")
    chosen, note = available_device(device)
    job.fallbacks += [note] if note else []
    output = job.run(chosen)
    output.seconds["total"] = time.perf_counter() - started
    progress("Done", 1.0)
    return replace(output, peak_rss_mb=peak_rss_mb(), missing_inputs=contrasts.missing)


class _Job:
    """One run: what it needs, and what could not be done as planned."""

    def __init__(
        self,
        bundle: Bundle,
        contrasts: Contrasts,
        text: torch.Tensor | None,
        progress: Progress,
        cancel: CancelToken | None,
        cache: ModelCache,
        probe_folder: Path | None,
        backend: str | None,
    ) -> None:
        self.bundle, self.contrasts, self.text = bundle, contrasts, text
        self.progress, self.cancel = progress, cancel
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
        run = {"classification": self._classify, "multitask": self._tasks}.get(
            self.bundle.manifest.task, self._segment
        )
        return run(model, engine)

    def _engine(self, model: LoadedModel) -> Engine:
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

    def _prepared(self) -> PreparedVolume:
        before = time.perf_counter()
        prepared = prepare_contrasts(self.contrasts, self.bundle.manifest, self.cancel)
        self.seconds["preprocess"] = time.perf_counter() - before
        return prepared

    def _tasks(self, model: LoadedModel, engine: Engine) -> InferenceOutput:
        prepared = self._prepared()
        self._report("Running the model", _PREPARED)
        answer, engine, notes = predict_within_memory(prepared, model, engine, self.text, self.cancel)
        self.fallbacks += notes
        self.seconds.update(answer.seconds)
        classes = answer.classification
        return InferenceOutput(
            answer.labels,
            () if classes is None else classes.classes,
            () if classes is None else classes.prediction_set,
            answer.uncertainty,
            None if classes is None else classes.out_of_distribution,
            engine.device,
            engine.name,
            tuple(self.fallbacks),
            self.seconds,
            measurements=answer.measurements,
        )

    def _classify(self, model: LoadedModel, engine: Engine) -> InferenceOutput:
        before = time.perf_counter()
        image = classifier_input(self.contrasts, self.bundle.manifest, self.cancel)
        self.seconds["preprocess"] = time.perf_counter() - before
        self._report("Running the model", _PREPARED)
        before = time.perf_counter()
        answer = classify(image, model, engine, self.cancel, text=self.text)
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

    def _segment(self, model: LoadedModel, engine: Engine) -> InferenceOutput:
        manifest = model.bundle.manifest
        prepared = self._prepared()
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
        self, prepared: PreparedVolume, engine: Engine, settings: Inference
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
