"""Losses by stable name: what a recipe refers to. MONAI loads with the first loss that needs it.

An installed package adds its own by the entry point group ``overread.losses``: a subclass of ``torch.nn.Module``, or a
function that makes one, with JSON values as arguments. The loss is called with logits ``(N, C, …)`` and integer labels
``(N, …)`` and returns a scalar; where it has the parameters ``class_weights`` (one number per class) or
``label_smoothing``, the recipe's go to it. A name of ours is always ours.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from torch import nn

from core.compute.training.losses.cells import Cells
from core.compute.training.losses.combined import Combined, UncertaintyWeighted
from core.compute.training.losses.dice import DiceCrossEntropy
from core.compute.training.losses.entropy import BinaryCrossEntropy, CrossEntropy, Focal, WeightedCrossEntropy
from core.compute.training.losses.regression import Huber, MeanSquared, SmoothL1
from core.compute.training.plugins import load_plugin, plugin_names
from core.domain.errors import EnvironmentFault, InputError

ENTRY_POINTS = "overread.losses"
Builder = Callable[..., nn.Module]

_PLAIN: dict[str, Builder] = {
    "dice_ce": DiceCrossEntropy,
    "focal": Focal,
    "cross_entropy": CrossEntropy,
    "weighted_cross_entropy": WeightedCrossEntropy,
    "bce": BinaryCrossEntropy,
    "cells": Cells,
    "mse": MeanSquared,
    "smooth_l1": SmoothL1,
    "huber": Huber,
}
_OVERLAP = ("dice", "generalized_dice", "tversky", "dice_focal")
_BORDER = ("boundary", "hausdorff_dt")
_COMPOSED = ("combined", "uncertainty")


_OURS = frozenset((*_PLAIN, *_OVERLAP, *_BORDER, *_COMPOSED))


def names() -> tuple[str, ...]:
    """Return the names that ``build_loss`` knows, those of installed packages among them."""
    return tuple(sorted({*_OURS, *plugin_names(ENTRY_POINTS)}))


def plugin_takes(name: str, parameter: str) -> bool:
    """Return whether an installed package's loss has a parameter; False for losses of ours and unknown names.

    Raises
    ------
    EnvironmentFault
        ``training.plugin`` when it can't be loaded.
    """
    if name in _OURS or name not in plugin_names(ENTRY_POINTS):
        return False
    return parameter in inspect.signature(load_plugin(ENTRY_POINTS, name)).parameters


def build_loss(name: str, **params: Any) -> nn.Module:
    """Build a loss.

    Parameters
    ----------
    name : str
        One of ``names()``.
    **params
        Arguments of its class (JSON values). ``combined`` takes ``losses``: a list of ``{name, weight,
        params}`` (weight 1 and no params by default). ``uncertainty`` takes ``tasks``: task name to
        ``{name, params}``; it is called with logits and targets by task name and has parameters to train.

    Returns
    -------
    torch.nn.Module
        Called with logits ``(N, C, …)`` and integer labels ``(N, …)``, returns a scalar in float32 (float64
        for such logits). It holds no state that depends on the data. ``mse``, ``smooth_l1`` and ``huber`` take
        outputs and numbers ``(N, R)`` instead.

    Raises
    ------
    InputError
        ``training.loss`` for an unknown name, an argument the loss doesn't take, or a value it refuses.
    EnvironmentFault
        ``training.plugin`` when an installed package's loss can't be loaded or is no ``torch.nn.Module``.
    """
    if name == "combined":
        return _combined(**_checked(name, _combined, params))
    if name == "uncertainty":
        return _uncertainty(**_checked(name, _uncertainty, params))
    builder = _builder(name)
    try:
        loss = builder(**_checked(name, builder, params))
    except (TypeError, ValueError) as error:
        raise InputError(
            "training.loss", f"The loss “{name}” can't be made: {error}.", "Correct its parameters."
        ) from error
    if not isinstance(loss, nn.Module):
        raise EnvironmentFault(
            "training.plugin", f"“{name}” makes no torch.nn.Module.", "Reinstall its package."
        )
    return loss


def _builder(name: str) -> Builder:
    if name in _PLAIN:
        return _PLAIN[name]
    if name in _OVERLAP:
        from core.compute.training.losses import overlap

        builders: dict[str, Builder] = {
            "dice": overlap.Dice,
            "generalized_dice": overlap.GeneralizedDice,
            "tversky": overlap.Tversky,
            "dice_focal": overlap.DiceFocal,
        }
        return builders[name]
    if name in _BORDER:
        from core.compute.training.losses import boundary

        return {"boundary": boundary.Boundary, "hausdorff_dt": boundary.HausdorffDistance}[name]
    if name in plugin_names(ENTRY_POINTS):
        return load_plugin(ENTRY_POINTS, name)
    raise _refused(f"There is no loss “{name}”", name, names())


def _combined(losses: Sequence[Mapping[str, Any]]) -> nn.Module:
    if not losses:
        raise InputError("training.loss", "“combined” has no losses.", "List at least one under losses.")
    built = [_part(item, "combined", weighted=True) for item in losses]
    return Combined(built, [_weight(item.get("weight", 1.0)) for item in losses])


def _weight(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise InputError("training.loss", f"The weight {value!r} of a loss is no number.", "Give a number.")


def _uncertainty(tasks: Mapping[str, Mapping[str, Any]]) -> nn.Module:
    if not tasks:
        raise InputError("training.loss", "“uncertainty” has no tasks.", "Name at least one under tasks.")
    return UncertaintyWeighted({task: _part(item, "uncertainty") for task, item in tasks.items()})


def _part(item: Mapping[str, Any], owner: str, weighted: bool = False) -> nn.Module:
    known = ("name", "params", "weight") if weighted else ("name", "params")
    for key in item:
        if key not in known:
            raise _refused(f"A loss of “{owner}” has no field “{key}”", key, known)
    if "name" not in item:
        raise InputError("training.loss", f"A loss of “{owner}” has no name.", "Give each a name.")
    return build_loss(str(item["name"]), **dict(item.get("params") or {}))


def _checked(name: str, builder: Builder, params: dict[str, Any]) -> dict[str, Any]:
    known = {key: value for key, value in inspect.signature(builder).parameters.items() if key != "self"}
    kinds = {parameter.kind for parameter in known.values()}
    known = {key: value for key, value in known.items() if value.kind is not inspect.Parameter.VAR_KEYWORD}
    for key in params:
        if key not in known and inspect.Parameter.VAR_KEYWORD not in kinds:
            raise _refused(f"The loss “{name}” has no parameter “{key}”", key, tuple(known))
    for key, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and key not in params:
            raise InputError("training.loss", f"The loss “{name}” needs “{key}”.", f"Give “{key}” a value.")
    return params


def _refused(sentence: str, given: str, known: Sequence[str]) -> InputError:
    near = get_close_matches(given, known, n=1)
    remedy = f"Did you mean “{near[0]}”?" if near else f"Known: {', '.join(known)}."
    return InputError("training.loss", f"{sentence}.", remedy)
