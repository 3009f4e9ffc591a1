"""After the last step: best weights, calibration, test, bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from core.bundles.bundle import Bundle
from core.bundles.manifest import Calibration
from core.compute.inference.contrasts import Given
from core.compute.inference.reference import read_reference
from core.compute.training.arithmetic import Arithmetic
from core.compute.training.calibrating import calibrate, logits_of
from core.compute.training.cards import Metric
from core.compute.training.checkpoints import Checkpoints, load_checkpoint
from core.compute.training.events import EventLog
from core.compute.training.measuring import (
    card_numbers,
    evaluate_bundle,
    measure_contrasts,
    numbers_of,
    runs_in_application,
    write_short,
)
from core.compute.training.module import TrainingModule
from core.compute.training.opening import PRIVATE_SOURCES, Opened
from core.compute.training.position import Watch
from core.compute.training.publish import (
    Product,
    reference_crop,
    reference_crops,
    reference_phantom,
    weight_files,
    write_product,
)
from core.compute.training.recomputing import keep_stages
from core.compute.training.validating import NetworkBackend
from core.domain.progress import CancelToken, Progress
from core.recipes.cases import Case, Part
from core.recipes.reading import read_case
from core.recipes.schema import Recipe

BUNDLE_FOLDER = "bundle"


@dataclass(frozen=True)
class Outcome:
    """What the test said: numbers for the card, metrics for JSON (with ``ci95``), verdicts of the gates."""

    card: Mapping[str, Metric] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    gates: tuple[Mapping[str, Any], ...] = ()
    passed: bool | None = None


@dataclass(frozen=True, eq=False)
class Finished:
    """What a training leaves: bundle, its numbers, the checkpoint of its weights."""

    bundle: Bundle
    outcome: Outcome
    checkpoint: Path


@dataclass(frozen=True, eq=False)
class Finisher:
    """Everything that finishing needs."""

    recipe: Recipe
    opened: Opened
    events: EventLog
    out: Path
    run_id: str
    progress: Progress
    cancel: CancelToken | None
    initial: Bundle | None
    private_key_file: Path | None

    def finish(self, module: TrainingModule, watch: Watch, checkpoints: Checkpoints) -> Finished:
        """Evaluate the best weights and write the bundle."""
        file = best_file(watch, checkpoints)
        network = module.network.to("cpu")
        network.load_state_dict(load_checkpoint(file)["weights"])
        prepare_for_use(network)
        counts = dict(self.opened.feed.counts)
        product = Product(
            self.recipe,
            network,
            self._calibration(network),
            counts,
            self.run_id,
            self.opened.feed.data.vocabulary,
        )
        self.progress("Exporting", 0.0)
        files = weight_files(product)
        reference = self._reference()
        folder = self.out / BUNDLE_FOLDER
        bundle = write_product(
            product, files, folder, {}, reference=None, private_key_file=self.private_key_file
        )
        outcome = self._evaluated(product, bundle)
        numbers = {**outcome.card, **{f"{part}_cases": float(n) for part, n in counts.items()}}
        bundle = write_product(
            product,
            files,
            folder,
            numbers,
            reference=reference,
            private_key_file=self.private_key_file,
        )
        return Finished(bundle, outcome, file)

    def _calibration(self, network: nn.Module) -> Calibration:
        if not self.recipe.classes or not self.opened.parts[Part.VALIDATION]:
            return Calibration()
        logits, labels, _ = logits_of(network, self.opened.feed.validation_batches(), self.recipe)
        return calibrate(logits, labels, self.recipe.bundle.coverage)

    def _evaluated(self, product: Product, bundle: Bundle) -> Outcome:
        cases = self.opened.parts[Part.TEST]
        if not cases:
            self.events.note("no_test", "There is no test part: the model was not evaluated.")
            return Outcome()
        if runs_in_application(self.recipe):
            found = evaluate_bundle(self.recipe, bundle, cases, self.out, self.progress, self.cancel)
            document = found.document()
            outcome = Outcome(
                card_numbers(found), document["metrics"], tuple(document["gates"]), found.passed
            )
        else:
            outcome = self._contrasts(product, cases)
        metrics = {name: value for name, value in outcome.metrics.items() if name != "ci95"}
        self.events.emit("evaluated", metrics=metrics, gates=list(outcome.gates), passed=outcome.passed)
        return outcome

    def _contrasts(self, product: Product, cases: tuple[Case, ...]) -> Outcome:
        self.events.note(
            "contrasts",
            "The application runs several contrasts of volumes, not of pictures: it can't run this model.",
        )
        backend = NetworkBackend(product.network, Arithmetic(), "cpu")
        patients = {case.id: case.patient for case in cases}
        found = measure_contrasts(self.recipe, backend, self.opened.feed.test_batches(), patients)
        metrics = {name: value.value for name, value in found.items() if np.isfinite(value.value)}
        intervals = {name: [found[name].low, found[name].high] for name in metrics}
        write_short(metrics, self.out)
        return Outcome(numbers_of(found), metrics | {"ci95": intervals})

    def _reference(self) -> Given | None:
        """Return the input of the self-test: never of a patient whose case came from the library, never a report."""
        if self.initial is not None and self.initial.has_reference:
            return read_reference(self.initial).given
        if not runs_in_application(self.recipe):
            return None
        name = self.recipe.data.source.name
        if name == "phantoms":
            return reference_phantom()
        if name in PRIVATE_SOURCES:
            return None
        cases = (
            self.opened.parts[Part.TEST]
            or self.opened.parts[Part.VALIDATION]
            or self.opened.parts[Part.TRAIN]
        )
        content = read_case(cases[0], self.recipe.data)
        if len(self.recipe.data.channels) > 1:
            lacking = {name for name in content.volumes if cases[0].images and name not in cases[0].images}
            there = {name: one for name, one in content.volumes.items() if name not in lacking}
            return reference_crops(there, content.labels)
        volume = next(iter(content.volumes.values()))
        return volume if self.recipe.spatial_dims == 2 else reference_crop(volume, content.labels)


def best_file(watch: Watch, checkpoints: Checkpoints) -> Path:
    """Return the checkpoint of the best epoch that can be read."""
    for item in watch.best:
        path = checkpoints.folder / str(item["file"])
        if path.is_file():
            return path
    raise FileNotFoundError("no checkpoint of a finished epoch")


def prepare_for_use(network: nn.Module) -> nn.Module:
    """Put a network into the state in which it is exported."""
    keep_stages(network)
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False)


def answer_of(finished: Finished, run_id: str, epochs: int, seconds: float) -> dict[str, Any]:
    """Return the command line's document of a training."""
    return {
        "run_id": run_id,
        "checkpoint": str(finished.checkpoint),
        "metrics": dict(finished.outcome.metrics),
        "gates": [dict(verdict) for verdict in finished.outcome.gates],
        "epochs": epochs,
        "seconds": round(seconds, 2),
        "bundle": str(finished.bundle.path),
    }
