"""Every form of a model on real cases: what it is given, how right it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.bundles.bundle import Bundle
from core.bundles.manifest import Manifest
from core.compute.deploy.engines import EngineCache, Inputs, Recorder, Variant
from core.compute.evaluation.evaluation_set import EvaluationSet
from core.compute.inference.backends import Engine
from core.compute.inference.output import InferenceOutput
from core.compute.inference.reference import read_reference
from core.compute.inference.run import run_bundle
from core.domain.errors import AppError, InputError
from core.domain.progress import CancelToken, Progress, no_progress
from core.recipes.cases import Case, CaseData

WINDOWS_PER_CASE = 4
_SIDES = (64, 64, 64)


def reference_inputs(bundle: Bundle, engine: Engine) -> list[Inputs]:
    """Return what the network is given for the bundle's reference input; none when the bundle carries none."""
    if not bundle.has_reference:
        return []
    recorder = _recorder(bundle, engine)
    case = read_reference(bundle)
    cache = EngineCache(bundle, {recorder.name: recorder})
    run_bundle(bundle, case.given, text=case.text, device="cpu", backend=recorder.name, cache=cache)
    return recorder.take()


def invented_inputs(bundle: Bundle, divisor: int) -> list[Inputs]:
    """Return noise of the size that the network is usually given, where there is nothing real."""
    manifest = bundle.manifest
    steps, window = manifest.preprocessing, manifest.inference.patch_kji
    size: tuple[int, ...] = window or _SIDES
    if steps.conform is not None:
        size = (steps.conform.size,) * 3
    if not manifest.is_3d:
        size = steps.resize_hw or (window[1:] if window else _SIDES[1:])
    size = tuple(-(-side // divisor) * divisor for side in size)
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((1, manifest.channels_in(), *size), generator=generator)
    text = None if manifest.text is None else torch.zeros((1, manifest.text.max_tokens), dtype=torch.int64)
    return [Inputs(image, text)]


def recorded_inputs(
    bundle: Bundle, engine: Engine, cases: EvaluationSet, most: int, cancel: CancelToken | None = None
) -> list[Inputs]:
    """Return what the network is given for real cases: single rows, at most ``most``.

    Raises
    ------
    InputError
        ``deploy.cases`` when no case could be run.
    """
    recorder = _recorder(bundle, engine)
    cache = EngineCache(bundle, {recorder.name: recorder})
    found: list[Inputs] = []
    for case in cases.cases:
        if cancel is not None:
            cancel.raise_if_cancelled()
        if len(found) >= most:
            break
        content = _read(cases, case)
        if content is not None and _run(bundle, case, content, recorder.name, cache) is not None:
            found += recorder.take()
    if not found:
        raise InputError(
            "deploy.cases", f"None of the {len(cases.cases)} cases could be run.", "Choose other data."
        )
    return found[:most]


def measure_quality(
    bundle: Bundle,
    variants: Sequence[Variant],
    cases: EvaluationSet,
    *,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> None:
    """Set accuracy (classes), mean Dice (structures) and ``numbers`` of every variant on the same cases.

    ``numbers`` is 1 less the mean absolute error of the measurements in their standard deviations.

    A case that a variant can't answer counts for none of them.
    """
    manifest = bundle.manifest
    cache = EngineCache(bundle, {variant.name: variant.engine for variant in variants})
    rows: list[list[dict[str, float]]] = []
    for n, case in enumerate(cases.cases):
        if cancel is not None:
            cancel.raise_if_cancelled()
        progress("Measuring the forms", n / len(cases.cases))
        content = _read(cases, case)
        if content is None:
            continue
        answers = [_run(bundle, case, content, variant.name, cache) for variant in variants]
        if all(answer is not None for answer in answers):
            rows.append([_scores(manifest, cases, case, content, a) for a in answers if a is not None])
    for number, variant in enumerate(variants):
        mine = [row[number] for row in rows]
        names = {name for row in mine for name in row}
        variant.quality = {
            name: float(np.mean([row[name] for row in mine if name in row])) for name in sorted(names)
        }
        variant.cases = len(mine)


def _recorder(bundle: Bundle, engine: Engine) -> Recorder:
    text = bundle.manifest.text
    return Recorder(engine, WINDOWS_PER_CASE, 0 if text is None else text.max_tokens)


def _read(cases: EvaluationSet, case: Case) -> CaseData | None:
    try:
        return cases.read(case)
    except AppError:
        return None


def _run(
    bundle: Bundle, case: Case, content: CaseData, engine: str, cache: EngineCache
) -> InferenceOutput | None:
    given: Any = dict(content.volumes) if bundle.manifest.inputs else next(iter(content.volumes.values()))
    text = (content.text or case.text) if bundle.manifest.text is not None else None
    try:
        return run_bundle(bundle, given, text=text, device="cpu", backend=engine, cache=cache)
    except AppError:
        return None


def _scores(
    manifest: Manifest, cases: EvaluationSet, case: Case, content: CaseData, answer: InferenceOutput
) -> dict[str, float]:
    return dict(_parts(manifest, cases, case, content, answer))


def _parts(
    manifest: Manifest, cases: EvaluationSet, case: Case, content: CaseData, answer: InferenceOutput
) -> Iterator[tuple[str, float]]:
    label = case.label if case.label is not None else content.label
    names = [item.name for item in manifest.image_classes]
    if answer.classes and label is not None:
        best = max(answer.classes, key=lambda item: item.probability).label
        yield "accuracy", float(best == names[label])
    if answer.labels is not None and content.labels is not None:
        values = cases.structures.values() or [item.value for item in manifest.structures]
        yield "dice", mean_dice(answer.labels, content.labels, values)
    known = {**case.values, **content.values}
    found = {item.name: item.value for item in answer.measurements}
    errors = [
        abs(found[item.name] - known[item.name]) / item.std
        for item in manifest.measurements
        if item.name in known and item.name in found
    ]
    if errors:
        yield "numbers", 1.0 - float(np.mean(errors))


def mean_dice(given: NDArray[np.uint8], truth: NDArray[np.uint8], values: Iterable[int]) -> float:
    """Return the mean Dice over the structures that are in either map; 1 when none is.

    Source: L. Dice, Ecology 1945.
    """
    found = []
    for value in values:
        one, other = given == value, truth == value
        size = int(one.sum()) + int(other.sum())
        if size:
            found.append(2 * int((one & other).sum()) / size)
    return float(np.mean(found)) if found else 1.0
