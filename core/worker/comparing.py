"""Two bundles on the same test cases, case by case, with the paired interval of their difference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from core.bundles.bundle import Bundle, read_bundle
from core.bundles.digest import bundle_digest
from core.compute.evaluation.segmentation import confusion, dice_from
from core.compute.inference.loaded import ModelCache
from core.compute.inference.run import run_bundle
from core.domain.errors import BugError, InputError, SafetyError
from core.domain.progress import CancelToken, PauseToken, Progress
from core.domain.volume import Volume
from core.formats.nifti import read_nifti
from core.jobs.messages import CompareTask
from core.recipes.cases import Part
from core.recipes.sources.library_cases import CASES_FILE, CaseEntry, read_case_list, restored
from core.worker.paired import paired


def compare_bundles(
    task: CompareTask, *, progress: Progress, cancel: CancelToken, pause: PauseToken
) -> dict[str, Any]:
    """Run both bundles on the test cases of the task's folder.

    Returns
    -------
    dict
        ``metric`` (``"dice"``: mean over the labels of a case; ``"accuracy"``), ``current``, ``candidate``,
        ``difference`` (means over the cases), ``ci95`` and ``p`` of the difference, ``cases`` (``case_id``,
        ``current``, ``candidate``, ``per_label``, ``truth``), ``current_sha256``, ``candidate_sha256``.

    Raises
    ------
    InputError
        ``compare.no_cases`` without a test case.
    SafetyError
        ``compare.other_labels`` when the two don't name the same labels.
    """
    folder = Path(task.cases_folder)
    current, candidate = read_bundle(Path(task.current_path)), read_bundle(Path(task.candidate_path))
    _require_same_labels(current, candidate)
    tested = [case for case in read_case_list(folder / CASES_FILE).cases if case.part is Part.TEST]
    if not tested:
        raise InputError(
            "compare.no_cases", "There is no test case to compare on.", "Decide on more findings."
        )
    cache, rows = ModelCache(), []
    for number, case in enumerate(tested):
        progress("Comparing", number / len(tested))
        volume = volume_of_case(folder, case)
        row: dict[str, Any] = {"case_id": case.id, "patient": case.patient, "truth": ""}
        answers = []
        for bundle in (current, candidate):
            pause.wait_while_paused(cancel)
            cancel.raise_if_cancelled()
            answers.append(_score(bundle, volume, folder, case, task.device, cache, cancel))
        row |= _both(*answers)
        if case.label is not None:
            row["truth"] = candidate.manifest.labels[case.label].name
        rows.append(row)
    progress("Comparing", 1.0)
    metric = "accuracy" if current.manifest.task == "classification" else "dice"
    identity = {"current_sha256": bundle_digest(current), "candidate_sha256": bundle_digest(candidate)}
    return {"metric": metric, **paired(rows, task.seed), "cases": rows, **identity}


def volume_of_case(folder: Path, case: CaseEntry) -> Volume:
    """Return a case's image with what a NIfTI doesn't hold, so that a model sees it as in the reading application."""
    (image,) = next(iter(case.images.values()))
    return restored(read_nifti(folder / image), case.attributes)


def _both(before: float | dict[str, float], after: float | dict[str, float]) -> dict[str, Any]:
    """Return the scores of both models on a case; a label that only one of them invents is right for the other."""
    if not isinstance(before, dict) or not isinstance(after, dict):
        return {"current": before, "candidate": after, "per_label": {}}
    names = sorted({*before, *after})
    per_label = {name: [before.get(name, 1.0), after.get(name, 1.0)] for name in names}
    columns = np.array(list(per_label.values())) if per_label else np.ones((1, 2))
    current, candidate = columns.mean(axis=0)
    return {"current": float(current), "candidate": float(candidate), "per_label": per_label}


def _score(
    bundle: Bundle,
    volume: Volume,
    folder: Path,
    case: CaseEntry,
    device: str,
    cache: ModelCache,
    cancel: CancelToken,
) -> float | dict[str, float]:
    """Return whether a class is right (1 or 0), or the Dice of each label that is drawn or should be."""
    output = run_bundle(bundle, volume, device=device, cancel=cancel, cache=cache)
    labels = bundle.manifest.labels
    if bundle.manifest.task == "classification":
        best = max(output.classes, key=lambda item: item.probability).label
        return float(case.label is not None and best == labels[case.label].name)
    if output.labels is None or case.mask is None:
        raise BugError("compare.no_labels", "A model or a case has no label map to compare.")
    truth = np.asarray(read_nifti(folder / case.mask).voxels)
    dice = dice_from(confusion(output.labels, truth, max(label.value for label in labels) + 1))
    return {label.name: float(dice[label.value]) for label in labels if np.isfinite(dice[label.value])}


def _require_same_labels(current: Bundle, candidate: Bundle) -> None:
    ours, theirs = ({lb.value: lb.name for lb in b.manifest.labels} for b in (current, candidate))
    if ours != theirs or current.manifest.task != candidate.manifest.task:
        raise SafetyError(
            "compare.other_labels",
            "The two models don't answer with the same labels.",
            "Train from the model in use.",
        )
