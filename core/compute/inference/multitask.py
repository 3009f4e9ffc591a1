"""A network with several heads: structures on the series' grid, calibrated classes, numbers in their units."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from core.bundles.manifest import Manifest
from core.compute.inference.backends import Engine, is_out_of_memory
from core.compute.inference.classify import Classification, calibrated
from core.compute.inference.loaded import LoadedModel
from core.compute.inference.prepare import PreparedVolume
from core.compute.inference.segment import labels_of
from core.compute.inference.sliding import cropped, padded_whole
from core.domain.errors import EnvironmentFault, InputError
from core.domain.progress import CancelToken
from core.domain.result import MeasuredValue

SEGMENTATION, CLASSIFICATION, REGRESSION = "segmentation", "classification", "regression"
_GIGABYTE = 1e9


@dataclass(frozen=True, eq=False)
class TasksAnswer:
    """What each head said; None or empty where the model has no such head.

    Attributes
    ----------
    labels : numpy.ndarray or None
        ``(K, J, I)`` uint8 on the series' grid.
    classification : Classification or None
        Calibrated.
    measurements : tuple of MeasuredValue
        In the manifest's order.
    uncertainty : float or None
        Of the classes where there are some, else of the label map (0…1).
    """

    labels: NDArray[np.uint8] | None
    classification: Classification | None
    measurements: tuple[MeasuredValue, ...]
    uncertainty: float | None
    seconds: dict[str, float] = field(default_factory=dict)


def predict_tasks(
    prepared: PreparedVolume,
    model: LoadedModel,
    engine: Engine,
    text: torch.Tensor | None = None,
    cancel: CancelToken | None = None,
) -> TasksAnswer:
    """Run the network once over the whole image.

    Parameters
    ----------
    text : torch.Tensor, optional
        ``(1, L)`` int64 ids of the report.

    Raises
    ------
    InputError
        ``model.output`` when the network lacks an output that the manifest promises, or has another size of it.
    Cancelled
        Before or after the network's call.
    """
    manifest = model.bundle.manifest
    image, before = padded_whole(prepared.tensor, manifest.inference, flat=not manifest.is_3d)
    started = time.perf_counter()
    outputs = _run(image, manifest, engine, text, cancel)
    inferred = time.perf_counter() - started
    started = time.perf_counter()
    labels, doubt = None, None
    if manifest.structures:
        logits = cropped(_output(outputs, SEGMENTATION, manifest), before, prepared.tensor.shape[1:])
        labels, doubt = labels_of([logits], prepared.grid, manifest)
    answer = None
    if manifest.image_classes:
        logits = _output(outputs, CLASSIFICATION, manifest)
        whole = image[None] if manifest.is_3d else image[None, :, 0]
        answer = calibrated(logits, whole, model)
        doubt = answer.uncertainty
    seconds = {"infer": inferred, "postprocess": time.perf_counter() - started}
    return TasksAnswer(labels, answer, _measured(outputs, manifest), doubt, seconds)


def predict_within_memory(
    prepared: PreparedVolume,
    model: LoadedModel,
    engine: Engine,
    text: torch.Tensor | None = None,
    cancel: CancelToken | None = None,
) -> tuple[TasksAnswer, Engine, list[str]]:
    """Run the network as ``predict_tasks``, on parts of the image at a time where memory is short.

    Returns
    -------
    answer : TasksAnswer
        What it says.
    engine : Engine
        What it ran on.
    fallbacks : list of str
        What was changed, in sentences.

    Raises
    ------
    EnvironmentFault
        ``run.memory`` with what is needed and what is free, for a network that can't work in parts.
    MemoryError
        When the smallest way didn't suffice either.
    """
    lack = _lack_of_memory(model, prepared.grid.model.shape_kji, engine.device)
    if not lack:
        try:
            return predict_tasks(prepared, model, engine, text, cancel), engine, []
        except Exception as error:
            smaller = model.thrifty() if is_out_of_memory(error) else None
            if smaller is None:
                raise
    else:
        smaller = model.thrifty()
        if smaller is None:
            raise EnvironmentFault("run.memory", lack, "Close other programs or studies and run it again.")
    note = "memory is short: the network worked on parts of the image at a time"
    return predict_tasks(prepared, model, smaller, text, cancel), smaller, [note]


def _lack_of_memory(model: LoadedModel, shape: tuple[int, ...], device: str) -> str:
    """Return in a sentence that the free memory won't do; empty when it will, or nothing is known."""
    manifest = model.bundle.manifest
    per_voxel = manifest.inference.memory_bytes_per_voxel
    if per_voxel is None or device != "cpu":
        return ""
    free = psutil.virtual_memory().available
    needed = float(np.prod(shape)) * per_voxel
    if needed <= free:
        return ""
    return (
        f"{manifest.title} takes the whole image at once and needs about {needed / _GIGABYTE:.1f} GB of memory; "
        f"{free / _GIGABYTE:.1f} GB are free."
    )


def _run(
    image: torch.Tensor,
    manifest: Manifest,
    engine: Engine,
    text: torch.Tensor | None,
    cancel: CancelToken | None,
) -> dict[str, torch.Tensor]:
    if cancel is not None:
        cancel.raise_if_cancelled()
    if manifest.is_3d:
        outputs = engine.outputs(image[None], text, cancel)
    else:
        outputs = engine.outputs(image[None, :, 0], text, cancel)
        if SEGMENTATION in outputs:
            outputs[SEGMENTATION] = outputs[SEGMENTATION].unsqueeze(2)
    if cancel is not None:
        cancel.raise_if_cancelled()
    return outputs


def _output(outputs: dict[str, torch.Tensor], name: str, manifest: Manifest) -> torch.Tensor:
    if name not in outputs:
        raise InputError(
            "model.output",
            f"The network of {manifest.title} has no output “{name}”; it answers with {', '.join(outputs)}.",
            "Ask the maker of the model for a corrected bundle.",
        )
    return outputs[name][0]


def _measured(outputs: dict[str, torch.Tensor], manifest: Manifest) -> tuple[MeasuredValue, ...]:
    """Return ``mean + std * output`` for each measurement.

    Raises
    ------
    InputError
        ``model.output``: another count, or a number that is not finite.
    """
    if not manifest.measurements:
        return ()
    numbers = _output(outputs, REGRESSION, manifest).reshape(-1).double().cpu().numpy()
    if len(numbers) != len(manifest.measurements) or not np.isfinite(numbers).all():
        raise InputError(
            "model.output",
            f"{manifest.title} answers with {numbers.size} numbers, or not with numbers, "
            f"instead of {len(manifest.measurements)} measurements.",
            "Ask the maker of the model for a corrected bundle.",
        )
    return tuple(
        MeasuredValue(
            item.name,
            item.mean + item.std * float(number),
            item.unit,
            item.code.concept() if item.code else None,
        )
        for item, number in zip(manifest.measurements, numbers, strict=True)
    )
