"""Transforms of a phase: built and checked once, then a pure function of the sample and its seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from monai.data.meta_obj import get_track_meta, set_track_meta
from pydantic import ValidationError

from core.compute.training.data.catalogue import NAMED
from core.compute.training.data.named import (
    IMAGE,
    LABEL,
    Item,
    Named,
    RandAffine,
    RandRotate,
    Step,
    Target,
)
from core.compute.training.data.passthrough import (
    ALBUMENTATIONS,
    MONAI_INTENSITY,
    MONAI_SPATIAL,
    UnknownParameter,
    albumentations_step,
    monai_step,
)
from core.compute.training.data.patches import window_size
from core.compute.training.data.prepare import Sample
from core.compute.training.plugins import load_plugin, plugin_names
from core.domain.errors import EnvironmentFault, InputError
from core.recipes.cases import Part
from core.recipes.nearest import did_you_mean
from core.recipes.schema import Recipe, Transform

ENTRY_POINTS = "overread.transforms"
_MONAI, _ALB = "monai.", "alb."


class Pipeline:
    """The transforms of one phase.

    Parameters
    ----------
    names : tuple of str
        As the recipe has them, for messages.
    steps : tuple of Step
        In order.
    margin : tuple of int
        By how many voxels on each side a window is cut wider, so that turning it brings in what lies beside it
        instead of a repeated edge; the pipeline returns the window. Empty: not wider.
    """

    def __init__(self, names: tuple[str, ...], steps: tuple[Step, ...], margin: tuple[int, ...] = ()) -> None:
        self.names, self._steps, self.margin = names, steps, margin

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self._steps)

    def __call__(self, sample: Sample, seed: tuple[int, ...]) -> Sample:
        """Return the changed sample; the same sample and seed give the same result, bit for bit.

        Raises
        ------
        InputError
            ``training.transform`` when a transform can't work on this image; it is named.
        """
        if not self._steps:
            return sample
        # Some transforms of MONAI write into what they are given.
        item: Item = {IMAGE: sample.image.clone()}
        labels = sample.label_map
        if labels is not None:
            item[LABEL] = labels[None].clone()
        with _plain_tensors():
            for number, (name, step) in enumerate(zip(self.names, self._steps, strict=True)):
                item = _applied(name, step, item, np.random.RandomState(_word((*seed, number))), sample)
        target = sample.target
        if labels is not None:
            moved = _whole_numbers(item[LABEL])
            target = {**target, "segmentation": moved} if isinstance(target, dict) else moved
        return replace(sample, image=item[IMAGE].float().contiguous(), target=target)


def _applied(name: str, step: Step, item: Item, state: np.random.RandomState, sample: Sample) -> Item:
    try:
        return step(item, state)
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        reason = str(error).strip().splitlines()
        shape = "×".join(str(n) for n in sample.image.shape)
        raise InputError(
            "training.transform",
            f"The transform {name} can't work on the image {shape} of case {sample.case}: "
            f"{reason[0][:200] if reason else type(error).__name__}",
            "Correct its parameters.",
        ) from error


def _whole_numbers(label: torch.Tensor) -> torch.Tensor:
    out = label[0]
    return (out if out.dtype == torch.uint8 else out.round().to(torch.uint8)).contiguous()


def _word(seed: tuple[int, ...]) -> int:
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


@contextmanager
def _plain_tensors() -> Iterator[None]:
    """MONAI's record of what it did to a tensor isn't needed here."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


def build_transforms(recipe: Recipe, part: Part) -> Pipeline:
    """Build the transforms of a phase.

    Raises
    ------
    InputError
        ``training.transform``: a name that isn't known (with the nearest one) or a parameter that is wrong.
    EnvironmentFault
        ``training.plugin``: an installed package's transform can't be loaded.
    """
    target = Target(dims=recipe.spatial_dims, labelled=bool(recipe.structures))
    chosen: tuple[Transform, ...] = getattr(recipe.transforms, part.value)
    sampling = recipe.data.sampling if part is Part.TRAIN else None
    window = None if sampling is None else window_size(sampling, recipe.spatial_dims)
    turning = None if window is None else _first_affine(chosen)
    steps: list[Step] = []
    margin: tuple[int, ...] = ()
    for number, entry in enumerate(chosen):
        suits = target.model_copy(update={"window": window}) if number == turning else target
        steps.append(_built(entry, suits, f"transforms.{part.value}.{number}"))
    if turning is not None and window is not None:
        margin = _affine(chosen[turning]).reach(window)
    return Pipeline(tuple(entry.name for entry in chosen), tuple(steps), margin)


def _first_affine(chosen: tuple[Transform, ...]) -> int | None:
    """Return the number of the affine transform that may leave the window of a wider piece, if there is one.

    Before it nothing may stand that changes sizes or places in another way.
    """
    for number, entry in enumerate(chosen):
        if entry.name in ("rand_affine", "rand_rotate"):
            return number
        if entry.name not in NAMED or entry.name in ("rand_elastic", "rand_zoom", "resize"):
            return None
    return None


def _affine(entry: Transform) -> RandAffine | RandRotate:
    kind = RandAffine if entry.name == "rand_affine" else RandRotate
    return kind.model_validate(entry.params)


def transform_names() -> tuple[str, ...]:
    """Return all names that a recipe may use, sorted; those of installed packages among them."""
    foreign = [_MONAI + name for name in MONAI_SPATIAL | MONAI_INTENSITY] + [
        _ALB + name for name in ALBUMENTATIONS
    ]
    return tuple(sorted({*NAMED, *foreign, *plugin_names(ENTRY_POINTS)}))


def _built(entry: Transform, target: Target, where: str) -> Step:
    if entry.name not in transform_names():
        raise _refusal(where, f"there is no transform “{entry.name}”", _name_hint(entry.name))
    try:
        if entry.name.startswith(_MONAI):
            return monai_step(entry.name.removeprefix(_MONAI), entry.params, target)
        if entry.name.startswith(_ALB):
            return albumentations_step(entry.name.removeprefix(_ALB), entry.params, target)
        return _named(entry.name).model_validate(entry.params).build(target)
    except UnknownParameter as error:
        hint = did_you_mean(error.name, error.known)
        raise _refusal(where, f"{entry.name} has no parameter “{error.name}”", hint) from error
    except ValidationError as error:
        raise _refusal(where, *_first_problem(entry, error)) from error
    except (ValueError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # The second line of albumentations' messages names the parameter.
        reason = "; ".join(lines[:3])[:240] or type(error).__name__
        raise _refusal(where, f"{entry.name}: {reason}", "Correct the parameter.") from error


def _named(name: str) -> type[Named]:
    """Return the class behind a name of ours or of an installed package."""
    if name in NAMED:
        return NAMED[name]
    loaded = load_plugin(ENTRY_POINTS, name)
    if not (isinstance(loaded, type) and issubclass(loaded, Named)):
        raise EnvironmentFault(
            "training.plugin", f"“{name}” of {ENTRY_POINTS} is no Named transform.", "Reinstall its package."
        )
    return loaded


def _name_hint(name: str) -> str:
    same = [known for known in transform_names() if known.casefold() == name.casefold()]
    return did_you_mean(name, same or transform_names())


def _first_problem(entry: Transform, error: ValidationError) -> tuple[str, str]:
    first = error.errors(include_url=False, include_input=False)[0]
    path = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        known = tuple(_named(entry.name).model_fields)
        return f"{entry.name} has no parameter “{path[0]}”", did_you_mean(path[0], known)
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{entry.name}{'.' if path else ''}{'.'.join(path)}: {message}", "Correct the parameter."


def _refusal(where: str, what: str, remedy: str) -> InputError:
    return InputError("training.transform", f"{where}: {what}.", remedy)
