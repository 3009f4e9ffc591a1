"""After the last step: best weights, calibration, test, bundle."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from core.bundles.bundle import Bundle
from core.bundles.manifest import Calibration
from core.compute.inference.reference import read_reference
from core.compute.training.calibrating import calibrate, logits_of
from core.compute.training.checkpoints import Checkpoints, load_checkpoint
from core.compute.training.events import EventLog
from core.compute.training.measuring import Result, measure_classes, measure_structures, write_result
from core.compute.training.module import TrainingModule
from core.compute.training.opening import Opened
from core.compute.training.position import Watch
from core.compute.training.publish import (
    Product,
    reference_crop,
    reference_phantom,
    weight_files,
    write_product,
)
from core.compute.training.recomputing import keep_stages
from core.domain.progress import CancelToken, Progress
from core.domain.volume import Volume
from core.recipes.cases import Case, CaseData, Part
from core.recipes.reading import read_case
from core.recipes.schema import Recipe

BUNDLE_FOLDER = "bundle"


@dataclass(frozen=True, eq=False)
class Finished:
    """What a training leaves: bundle, its numbers, the checkpoint of its weights."""

    bundle: Bundle
    result: Result | None
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
        product = Product(self.recipe, network, self._calibration(network), counts, self.run_id)
        self.progress("Exporting", 0.0)
        files = weight_files(product)
        reference = self._reference()
        folder = self.out / BUNDLE_FOLDER
        bundle = write_product(
            product, files, folder, {}, reference=None, private_key_file=self.private_key_file
        )
        result = self._measured(product, bundle)
        numbers = {} if result is None else result.for_card()
        card_numbers = numbers | {f"{part}_cases": float(n) for part, n in counts.items()}
        bundle = write_product(
            product,
            files,
            folder,
            card_numbers,
            reference=reference,
            private_key_file=self.private_key_file,
        )
        return Finished(bundle, result, file)

    def _calibration(self, network: nn.Module) -> Calibration:
        if self.recipe.task != "classification" or not self.opened.parts[Part.VALIDATION]:
            return Calibration()
        logits, labels, _ = logits_of(network, self.opened.feed.validation_batches())
        return calibrate(logits, labels, self.recipe.bundle.coverage)

    def _measured(self, product: Product, bundle: Bundle) -> Result | None:
        cases = self.opened.parts[Part.TEST]
        if not cases:
            self.events.note("no_test", "There is no test part: the model was not evaluated.")
            return None
        if self.recipe.task == "classification":
            logits, labels, ids = logits_of(product.network, self.opened.feed.test_batches())
            patients = {case.id: case.patient for case in cases}
            result = measure_classes(
                self.recipe, logits, labels, [patients[one] for one in ids], product.calibration
            )
        else:
            result = measure_structures(
                self.recipe, bundle, self._contents(cases), len(cases), self.progress, self.cancel
            )
        write_result(result, self.out)
        metrics = {name: value.value for name, value in result.metrics.items()}
        self.events.emit("evaluated", metrics=metrics, gates=result.verdicts, passed=result.passed)
        return result

    def _contents(self, cases: tuple[Case, ...]) -> Iterator[tuple[Case, CaseData]]:
        for case in cases:
            yield case, read_case(case, self.recipe.data)

    def _reference(self) -> Volume | None:
        """Return the input of the self-test: never of a patient whose case came from the library."""
        if self.initial is not None and self.initial.has_reference:
            return read_reference(self.initial).volume
        name = self.recipe.data.source.name
        if name == "phantoms":
            return reference_phantom()
        if name == "library_cases":
            return None
        cases = (
            self.opened.parts[Part.TEST]
            or self.opened.parts[Part.VALIDATION]
            or self.opened.parts[Part.TRAIN]
        )
        content = read_case(cases[0], self.recipe.data)
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
    metrics: dict[str, Any] = {}
    if finished.result is not None:
        document = finished.result.document()
        metrics = {
            name: [value["value"], *(value.get("ci95") or [])] for name, value in document["metrics"].items()
        }
    return {
        "run_id": run_id,
        "checkpoint": str(finished.checkpoint),
        "metrics": metrics,
        "gates": [] if finished.result is None else finished.result.document()["gates"],
        "epochs": epochs,
        "seconds": round(seconds, 2),
        "bundle": str(finished.bundle.path),
    }
