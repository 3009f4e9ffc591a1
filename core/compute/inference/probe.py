"""Which engine runs a model fastest on this machine, without changing its answers.

Each candidate is timed on a window of the model's size. Engines that compute in lower precision must first
give the same labels as the exact one on the bundle's reference input. The winner is remembered per model and
machine.
"""

from __future__ import annotations

import json
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from core.bundles.signing import sha256_hex
from core.compute.inference.backends import Backend
from core.compute.inference.classify import classify
from core.compute.inference.loaded import LoadedModel
from core.compute.inference.prepare import prepare_image, prepare_volume
from core.compute.inference.reference import ReferenceCase, read_reference
from core.compute.inference.segment import segment
from core.config.atomic import atomic_write_bytes
from core.domain.errors import AppError
from core.domain.progress import CancelToken

LABEL_AGREEMENT = 0.999
LABEL_DICE = 0.99
PROBABILITY_TOLERANCE = 0.02
_PROBE_WINDOW = (64, 64, 64)
_PROBE_IMAGE = (224, 224)
_ROUNDS = 2
_VERSION = 1


@dataclass(frozen=True)
class ProbeResult:
    """The chosen engine, seconds per window of each, agreement of the inexact ones, and why others were
    dropped.
    """

    chosen: str
    seconds: dict[str, float]
    agreement: dict[str, float]
    refused: dict[str, str]
    key: str


def choose_backend(
    model: LoadedModel, cache_folder: Path | None = None, cancel: CancelToken | None = None
) -> tuple[Backend, ProbeResult]:
    """Return the fastest admissible engine of ``model``, from the cache or by measuring.

    Parameters
    ----------
    cache_folder : pathlib.Path, optional
        Where results are kept between processes; without it they are measured once per process.
    """
    key = _key(model)
    name = f"{model.bundle.identity.sha256[:16]}-{key[:16]}.json"
    file = None if cache_folder is None else cache_folder / name
    result = _cached(file, key, model) or _measure(model, key, cancel)
    if file is not None and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(file, json.dumps(asdict(result), indent=2).encode())
    backend = model.backend(result.chosen)
    model.keep_only(result.chosen)
    return backend, result


def _measure(model: LoadedModel, key: str, cancel: CancelToken | None) -> ProbeResult:
    seconds: dict[str, float] = {}
    agreement: dict[str, float] = {}
    refused: dict[str, str] = {}
    sample = _sample(model)
    for name in model.candidates():
        if cancel is not None:
            cancel.raise_if_cancelled()
        try:
            seconds[name] = _timed(model.backend(name), sample)
        except (AppError, RuntimeError, MemoryError, ImportError) as error:
            refused[name] = f"{type(error).__name__}: it could not run here"
    for name in sorted(seconds, key=lambda candidate: seconds[candidate]):
        if model.backend(name).exact:
            return ProbeResult(name, seconds, agreement, refused, key)
        passed, share = _passes_gate(model, name, cancel)
        agreement[name] = share
        if passed:
            return ProbeResult(name, seconds, agreement, refused, key)
        refused[name] = f"labels agree only to {share:.5f} with the exact engine"
    return ProbeResult(model.exact_name(), seconds, agreement, refused, key)


def _passes_gate(model: LoadedModel, name: str, cancel: CancelToken | None) -> tuple[bool, float]:
    """Whether an engine answers the reference input as the exact one does, and how well it agrees (0…1)."""
    if not model.bundle.has_reference:
        return False, 0.0
    case = read_reference(model.bundle)
    if model.bundle.manifest.task != "segmentation":
        return _gate_classes(model, name, case)
    exact, other = (_labels(model, engine, case, cancel) for engine in (model.exact_name(), name))
    share = float((exact == other).mean())
    return share >= LABEL_AGREEMENT and lowest_dice(exact, other) >= LABEL_DICE, share


def _gate_classes(model: LoadedModel, name: str, case: ReferenceCase) -> tuple[bool, float]:
    image = prepare_image(case.volume, model.bundle.manifest)
    exact, other = (
        classify(image, model, model.backend(engine)).probabilities for engine in (model.exact_name(), name)
    )
    difference = float(np.abs(exact - other).max())
    return difference <= PROBABILITY_TOLERANCE and exact.argmax() == other.argmax(), 1.0 - difference


def _labels(
    model: LoadedModel, engine: str, case: ReferenceCase, cancel: CancelToken | None
) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    manifest = model.bundle.manifest
    prepared = prepare_volume(case.volume, manifest, cancel)
    return segment(prepared, manifest, model.backend(engine), manifest.inference, cancel=cancel).labels


def lowest_dice(first: np.ndarray, second: np.ndarray) -> float:
    """Return the smallest Dice coefficient over all labels that occur in either map; 1 when none does."""
    scores = [1.0]
    for value in np.union1d(np.unique(first), np.unique(second)):
        if value == 0:
            continue
        a, b = first == value, second == value
        scores.append(2.0 * int((a & b).sum()) / (int(a.sum()) + int(b.sum())))
    return min(scores)


def _sample(model: LoadedModel) -> torch.Tensor:
    """Noise of the size of one call: (batch, channels, window)."""
    manifest = model.bundle.manifest
    generator = torch.Generator().manual_seed(0)
    channels = manifest.preprocessing.channels
    if manifest.is_3d:
        size: tuple[int, ...] = manifest.inference.patch_kji or _PROBE_WINDOW
        batch = manifest.inference.batch
    else:
        size, batch = manifest.preprocessing.resize_hw or _PROBE_IMAGE, 1
    return torch.rand((batch, channels, *size), generator=generator)


def _timed(backend: Backend, sample: torch.Tensor) -> float:
    backend(sample)
    best = float("inf")
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        backend(sample)
        if backend.device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - started)
    return best


def _key(model: LoadedModel) -> str:
    """Identify model, machine, libraries and thread count: another of them means measuring again."""
    facts = [
        _VERSION,
        sorted(model.bundle.hashes.items()),
        model.device,
        model.candidates(),
        platform.machine(),
        torch.backends.cpu.get_cpu_capability(),
        torch.get_num_threads(),
        torch.__version__,
        onnxruntime.__version__,
    ]
    return sha256_hex(json.dumps(facts).encode())


def _cached(file: Path | None, key: str, model: LoadedModel) -> ProbeResult | None:
    if file is None or not file.is_file():
        return None
    try:
        result = ProbeResult(**json.loads(file.read_bytes()))
    except (OSError, ValueError, TypeError):
        file.unlink(missing_ok=True)
        return None
    if result.key != key or result.chosen not in model.candidates():
        file.unlink(missing_ok=True)
        return None
    return result
