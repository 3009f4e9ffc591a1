"""The cases that a deployment is measured on, and those that its calibration may look at: never the same ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from core.bundles.manifest import Manifest
from core.compute.evaluation.evaluation_set import (
    EvaluationSet,
    evaluation_set_of,
    kept_out_of_training,
    read_evaluation_set,
)
from core.compute.evaluation.run import RECIPE_FILE, UNKNOWN_TRAINING, OpenedModel
from core.domain.errors import InputError
from core.recipes.cases import Case, Part
from core.recipes.load import load_recipe
from core.recipes.schema import Recipe
from core.recipes.sources.registry import list_cases
from core.recipes.split_result import restored

_SPLIT_FILE = "split.json"
_CALIBRATED_SHARE = 0.25
_PICTURES, _VOLUMES = (256, 64), (8, 6)


@dataclass(frozen=True, eq=False)
class Cases:
    """Cases by purpose.

    Attributes
    ----------
    tested, calibration : EvaluationSet or None
        None without data.
    notes : tuple of str
        What a reader of the table must know of them.
    """

    tested: EvaluationSet | None = None
    calibration: EvaluationSet | None = None
    notes: tuple[str, ...] = ()


def recipe_of(model: OpenedModel) -> Recipe | None:
    """Return the recipe of the run that made a model; None for a bundle alone."""
    if model.run_folder is None or not (model.run_folder / RECIPE_FILE).is_file():
        return None
    return load_recipe(model.run_folder / RECIPE_FILE)


def find_cases(model: OpenedModel, data: Path | None, calibration: Path | None, limit: int | None) -> Cases:
    """Divide the data into what is tested and what calibrates.

    Of the data of the model's own run its test part is tested and its other parts calibrate. Of other data a quarter
    of the patients calibrates, unless ``calibration`` names a folder of its own.

    Parameters
    ----------
    limit : int, optional
        At most so many tested cases, evenly drawn; by default 256 pictures or 8 volumes.

    Raises
    ------
    InputError
        From the layout of the data; ``deploy.cases`` when there are too few to divide.
    """
    manifest = model.bundle.manifest
    tests, calibrates = _VOLUMES if manifest.is_3d else _PICTURES
    found = _of_run(model, data)
    if found is None and data is None:
        return Cases()
    if found is None:
        assert data is not None
        whole = read_evaluation_set(data, manifest)
        tested, others = (whole, None) if calibration is not None else _divided(whole)
        found = Cases(tested, others, (UNKNOWN_TRAINING,))
    if calibration is not None:
        found = replace(found, calibration=read_evaluation_set(calibration, manifest))
    notes = () if found.tested is None else found.tested.notes
    return Cases(
        _drawn(found.tested, limit or tests), _drawn(found.calibration, calibrates), (*found.notes, *notes)
    )


def _of_run(model: OpenedModel, data: Path | None) -> Cases | None:
    recipe, folder = recipe_of(model), model.run_folder
    if recipe is None or folder is None or not (folder / _SPLIT_FILE).is_file():
        return None
    if data is None:
        # Procedural cases need no folder; all others do.
        try:
            cases = list_cases(recipe.data.source, None, recipe.data.channels, recipe.data.missing)
        except InputError:
            return None
        tested = None
    else:
        tested = kept_out_of_training(folder, data, model.bundle.manifest)
        if tested is None:
            return None
        cases = list_cases(recipe.data.source, data, recipe.data.channels, recipe.data.missing)
    parts = restored(json.loads((folder / _SPLIT_FILE).read_text(encoding="utf-8")), cases).parts
    manifest = model.bundle.manifest
    if tested is None and parts[Part.TEST]:
        tested = evaluation_set_of(parts[Part.TEST], recipe.data, manifest)
    seen = (*parts[Part.TRAIN], *parts[Part.VALIDATION])
    return Cases(tested, _set_of(seen, recipe, manifest), ())


def _set_of(cases: Sequence[Case], recipe: Recipe, manifest: Manifest) -> EvaluationSet | None:
    return evaluation_set_of(cases, recipe.data, manifest) if cases else None


def _divided(whole: EvaluationSet) -> tuple[EvaluationSet, EvaluationSet]:
    """Return tested and calibrating cases; those of one patient stay together."""
    patients = whole.patients() or [case.id for case in whole.cases]
    names = sorted(set(patients))
    count = max(1, round(_CALIBRATED_SHARE * len(names)))
    if len(names) < 2:
        raise InputError(
            "deploy.cases",
            "The data hold cases of one patient only: they can't both calibrate and test.",
            "Give more cases, or others with --calibration.",
        )
    order = np.random.default_rng(0).permutation(len(names))
    chosen = {names[n] for n in order[:count]}
    kept = [patient in chosen for patient in patients]
    return (
        replace(whole, cases=tuple(c for c, k in zip(whole.cases, kept, strict=True) if not k)),
        replace(whole, cases=tuple(c for c, k in zip(whole.cases, kept, strict=True) if k)),
    )


def _drawn(found: EvaluationSet | None, most: int) -> EvaluationSet | None:
    """Return at most so many cases, evenly over their order (folders of classes lie one behind the other)."""
    if found is None or len(found.cases) <= most:
        return found
    chosen = np.linspace(0, len(found.cases) - 1, most).round().astype(int)
    return replace(found, cases=tuple(found.cases[n] for n in chosen))
