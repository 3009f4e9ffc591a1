"""A model that answers items, several at a time where it can; loads torch.

Images for a classifier (with their reports, where it reads them) are prepared one by one and go through the network
together. Everything else takes the way of ``run_bundle``, one after the other. Both give the numbers that
``run_bundle`` gives.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from core.bundles.bundle import Bundle
from core.compute.inference.backends import Engine, is_out_of_memory
from core.compute.inference.classify import calibrated, pooled_features
from core.compute.inference.contrasts import classifier_input, named_contrasts
from core.compute.inference.loaded import LoadedModel, ModelCache
from core.compute.inference.networks import available_device
from core.compute.inference.output import InferenceOutput
from core.compute.inference.prepare import prepare_image
from core.compute.inference.probe import choose_backend
from core.compute.inference.run import run_bundle
from core.compute.text import TextEncoder
from core.config.logs import places, told
from core.domain.errors import AppError, BugError, EnvironmentFault, InputError
from core.domain.segmentation import Segmentation
from core.domain.volume import Volume
from core.formats.nifti import write_nifti
from core.server.faults import body_of, status_of
from core.server.item import Answer, Item
from core.server.limits import Limits
from core.server.reading import read_upload
from core.services.measure import measure_segments

LOG = logging.getLogger(__name__)
Done = TypeVar("Done")


@dataclass(frozen=True, eq=False)
class Prepared:
    """An item that was read.

    ``picture`` is the network's input ``(1, C, …)`` float32 where several can be stacked, ``ids`` its report
    ``(1, L)`` int64 for a model that reads one, ``failed`` the answer when the item was refused; ``seconds`` is what
    reading took, ``notes`` what could not be done as wished.
    """

    item: Item
    volumes: dict[str, Volume]
    picture: torch.Tensor | None
    seconds: float
    failed: Answer | None = None
    ids: torch.Tensor | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...] | None:
        """What pictures of one stack have in common."""
        return None if self.picture is None else tuple(self.picture.shape)


class Answerer:
    """One bundle on one device. ``prepare`` may run in several threads, everything else in one.

    Parameters
    ----------
    probe_folder, temp : pathlib.Path
        Where the engine's choice is remembered; the home's work folder.

    Raises
    ------
    InputError, SafetyError
        When the bundle can't be loaded.
    """

    def __init__(self, bundle: Bundle, device: str, limits: Limits, probe_folder: Path, temp: Path) -> None:
        self.bundle = bundle
        self._manifest = bundle.manifest
        self._limits, self._probe_folder, self._temp = limits, probe_folder, temp
        self._cache = ModelCache()
        self.device, note = available_device(device)
        self._notes = [note] if note else []
        self._stackable = self._manifest.task == "classification"
        text = self._manifest.text
        self._encoder = TextEncoder.from_bytes(bundle.read(text.vocabulary_file), text) if text else None
        self._model: LoadedModel = self._cache.get(bundle, self.device)
        self._engine: Engine
        self._engine, _ = choose_backend(self._model, probe_folder)
        self._model.chosen = self._engine

    @property
    def engine(self) -> str:
        """Name of the engine that was chosen."""
        return self._engine.name

    def prepare(self, item: Item) -> Prepared:
        """Read an item; a refusal is part of what is returned."""
        started = time.perf_counter()

        def taken() -> float:
            return time.perf_counter() - started

        def read() -> Prepared:
            volumes = {
                upload.name: read_upload(upload, self._manifest, self._limits, self._temp)
                for upload in item.uploads
            }
            if not self._stackable:
                return Prepared(item, volumes, None, taken())
            contrasts = named_contrasts(self._manifest, _given(volumes))
            notes = tuple(f"run without {name}: no such image was given" for name in contrasts.missing)
            picture = classifier_input(contrasts, self._manifest)
            return Prepared(item, volumes, picture, taken(), ids=self._ids(item.text), notes=notes)

        return guarded(read, lambda refusal: Prepared(item, {}, None, taken(), refusal))

    def _ids(self, text: str | None) -> torch.Tensor | None:
        """Return ``(1, L)`` int64 ids of a report, zeros for none; None for a model that reads none."""
        if self._encoder is None or self._manifest.text is None:
            return None
        if text is None or not text.strip():
            return torch.zeros((1, self._manifest.text.max_tokens), dtype=torch.int64)
        return torch.tensor([self._encoder.encode(text)], dtype=torch.int64)

    def answer(self, together: Sequence[Prepared]) -> list[Answer]:
        """Answer items in their order; those of one shape go through the network together."""
        answers: list[Answer | None] = [one.failed for one in together]
        stacks: dict[tuple[int, ...], list[int]] = {}
        for place, one in enumerate(together):
            if one.shape is not None:
                stacks.setdefault(one.shape, []).append(place)
            elif answers[place] is None:
                answers[place] = guarded(lambda one=one: self._alone(one), lambda refusal: refusal)  # type: ignore[misc]
        for places_of_stack in stacks.values():
            stack = [together[place] for place in places_of_stack]
            for place, done in zip(places_of_stack, self._stacked(stack), strict=True):
                answers[place] = done
        return [one for one in answers if one is not None]

    def _stacked(self, stack: Sequence[Prepared]) -> list[Answer]:
        """Answer pictures of one shape; when that fails, halves, so that one picture can't fail the others."""
        try:
            started = time.perf_counter()
            logits = self._logits(stack).cpu()
            seconds = time.perf_counter() - started
        except Exception as error:  # noqa: BLE001 - whatever an engine raises becomes the refusal of one picture
            if len(stack) == 1:
                return [refusal_of(error)]
            half = len(stack) // 2
            return self._stacked(stack[:half]) + self._stacked(stack[half:])
        return [
            guarded(
                lambda one=one, row=row: self._classified(one, logits[row : row + 1], seconds, len(stack)),  # type: ignore[misc]
                lambda refusal: refusal,
            )
            for row, one in enumerate(stack)
        ]

    def _logits(self, stack: Sequence[Prepared]) -> torch.Tensor:
        """Return ``(N, classes)``."""
        pictures = torch.cat([one.picture for one in stack if one.picture is not None])
        reports = [one.ids for one in stack if one.ids is not None]
        if not reports:
            return self._engine(pictures)
        outputs = self._engine.outputs(pictures, torch.cat(reports))
        return outputs.get("classification", next(iter(outputs.values())))

    def _classified(self, one: Prepared, logits: torch.Tensor, seconds: float, batch: int) -> Answer:
        assert one.picture is not None
        found = calibrated(logits, one.picture, self._model)
        document = self._document(one.seconds + seconds, batch)
        document["notes"] += one.notes
        document |= {
            "prediction_set": list(found.prediction_set),
            "uncertainty": _finite(found.uncertainty),
            "out_of_distribution": _finite(found.out_of_distribution),
        }
        names = [label.name for label in self._manifest.image_classes]
        _add_classes(document, dict(zip(names, map(float, found.probabilities), strict=True)))
        if one.item.features:
            document["features"] = self._features(one.picture)
        return _answer(document, batch)

    def _alone(self, one: Prepared) -> Answer:
        """Answer one item the long way."""
        output = run_bundle(
            self.bundle,
            _given(one.volumes),
            text=one.item.text,
            device=self.device,
            cache=self._cache,
            probe_folder=self._probe_folder,
        )
        volume = self._first(one.volumes)
        seconds = sum(output.seconds.get(phase, 0.0) for phase in ("preprocess", "infer", "postprocess"))
        document = self._document(one.seconds + seconds, 1)
        document["notes"] += list(output.fallbacks)
        document |= {
            "prediction_set": list(output.prediction_set),
            "uncertainty": _finite(output.uncertainty),
            "out_of_distribution": _finite(output.out_of_distribution),
            "device": output.device,
            "engine": output.backend,
            "measurements": [
                {"name": each.name, "value": float(each.value), "unit": each.unit}
                for each in output.measurements
            ],
        }
        _add_classes(document, self._in_order(output))
        if output.labels is not None:
            self._add_segments(document, volume, output.labels, one.item.label_map)
        if one.item.features:
            document["features"] = self._features_of_volume(volume)
        return _answer(document, 1)

    def _first(self, volumes: dict[str, Volume]) -> Volume:
        """Return the image on whose grid the answer lies: the first of the manifest's contrasts that was given."""
        return next(
            (volumes[name] for name in self._manifest.inputs if name in volumes), next(iter(volumes.values()))
        )

    def _in_order(self, output: InferenceOutput) -> dict[str, float]:
        """Class → probability in the order of the manifest."""
        found = {each.label: each.probability for each in output.classes}
        return {
            label.name: found[label.name] for label in self._manifest.image_classes if label.name in found
        }

    def _add_segments(
        self, document: dict[str, Any], volume: Volume, labels: NDArray[np.uint8], whole: bool
    ) -> None:
        segmentation = Segmentation(volume.geometry, labels, self._manifest.segments())
        document["segments"] = [
            {
                "value": each.value,
                "label": each.label,
                "voxels": each.voxels,
                "volume_ml": each.volume_ml,
                "mean": _finite(each.mean_hu),
            }
            for each in measure_segments(volume, segmentation)
        ]
        if whole:
            with tempfile.TemporaryDirectory(dir=self._temp) as folder:
                file = write_nifti(Path(folder) / "labels.nii.gz", volume.geometry, labels, intent_label=True)
                document["label_map_nifti"] = base64.b64encode(file.read_bytes()).decode("ascii")

    def _features_of_volume(self, volume: Volume) -> list[float]:
        if self._manifest.is_3d:
            raise InputError(
                "serve.features",
                "This model takes volumes; its features aren't offered.",
                "Leave return_features out.",
            )
        return self._features(prepare_image(volume, self._manifest))

    def _features(self, picture: torch.Tensor) -> list[float]:
        """Mean over space of the stage that explanations are taken from first."""
        layers = self._manifest.explain.layers
        if not layers or not self._model.has_network:
            raise InputError(
                "serve.features",
                "This model names no layer whose features could be given.",
                "Leave return_features out.",
            )
        network = self._model.network()
        return [float(value) for value in pooled_features(network, layers[0].name, picture.to(self.device))]

    def _document(self, seconds: float, batch: int) -> dict[str, Any]:
        return {
            "prediction": None,
            "confidence": None,
            "probabilities": {},
            "inference_time_ms": round(1000 * seconds, 3),
            "model_version": version_of(self.bundle),
            "prediction_set": [],
            "uncertainty": None,
            "out_of_distribution": None,
            "segments": [],
            "measurements": [],
            "notes": list(self._notes),
            "device": self._engine.device,
            "engine": self._engine.name,
            "batch_size": batch,
        }


def _given(volumes: dict[str, Volume]) -> Volume | dict[str, Volume]:
    """Return what ``run_bundle`` takes: one volume, or one per contrast."""
    return volumes[""] if set(volumes) == {""} else volumes


def guarded(do: Callable[[], Done], refuse: Callable[[Answer], Done]) -> Done:
    """Return what ``do`` returns; whatever it raises is the fault of one item and becomes its refusal."""
    try:
        return do()
    except Exception as error:  # noqa: BLE001 - translated and logged by place, never by text
        return refuse(refusal_of(error))


def refusal_of(error: Exception) -> Answer:
    """Return the answer that tells of an error; the text of a foreign one is withheld."""
    if not isinstance(error, AppError) and is_out_of_memory(error):
        error = EnvironmentFault("run.memory", "The server's memory didn't suffice.", "Send a smaller image.")
    if not isinstance(error, AppError):
        frames = places((type(error), error, error.__traceback__))
        where = frames[-1] if frames else "an unknown place"
        LOG.error("unexpected %s at %s", type(error).__name__, where)
        error = BugError("bug.unexpected", f"Unexpected {told(error)} at {where}.", "Report this place.")
    return Answer(status_of(error), body_of(error))


def version_of(bundle: Bundle) -> str:
    """Return the version as answers state it."""
    return f"v{bundle.manifest.version}"


def _add_classes(document: dict[str, Any], probabilities: dict[str, float]) -> None:
    if probabilities:
        best = max(probabilities, key=lambda name: probabilities[name])
        document |= {
            "prediction": best,
            "confidence": probabilities[best],
            "probabilities": probabilities,
        }


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _answer(document: dict[str, Any], batch: int) -> Answer:
    body = json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    return Answer(200, body, batch, document["inference_time_ms"])
