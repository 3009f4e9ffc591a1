"""The network and the loss that a recipe asks for."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from core.bundles.bundle import Bundle, read_bundle
from core.compute.inference.networks import load_network
from core.compute.training.arithmetic import Outputs
from core.compute.training.feed import Feed
from core.compute.training.losses.multitask import MultitaskLoss, TaskWeights
from core.compute.training.losses.registry import build_loss, plugin_takes
from core.compute.training.text_weights import load_text_weights, text_params
from core.config.resources import shipped_bundles_dir
from core.domain.errors import EnvironmentFault, InputError
from core.recipes.nearest import did_you_mean
from core.recipes.schema import LossConfig, LossPart, Recipe
from models.networks.plugins import BrokenNetworkError
from models.networks.registry import build, names, spec

if TYPE_CHECKING:
    from core.compute.training.pretrained import PretrainedReport

_PLAIN_NAME = re.compile(r"[a-z0-9][a-z0-9-]*")
# Losses that take class weights, and those that take label smoothing.
_WEIGHTED = {"cross_entropy", "weighted_cross_entropy", "focal", "dice_ce", "dice_focal"}
_SMOOTHED = {"cross_entropy", "weighted_cross_entropy"}
_NUMBERS = {"mse", "smooth_l1", "huber"}


def network_params(recipe: Recipe) -> dict[str, Any]:
    """Return the network's arguments with channels in and out, and dimensions where the network has a choice.

    Of several tasks ``classes`` and ``measurements`` too, 0 where the recipe doesn't train them.
    """
    channels = len(recipe.data.channels) if len(recipe.data.channels) > 1 else recipe.preprocessing.channels
    params: dict[str, Any] = {"in_channels": channels, "out_channels": recipe.out_channels}
    if recipe.task == "multitask":
        params |= {"classes": len(recipe.classes), "measurements": len(recipe.measurements)}
    try:
        choice = len(spec(recipe.network.name).dimensions) > 1
    except KeyError as error:
        raise InputError(
            "training.network",
            f"There is no network “{recipe.network.name}”.",
            did_you_mean(recipe.network.name, names()),
        ) from error
    except BrokenNetworkError as error:
        raise _unusable(recipe.network.name, error) from error
    if choice:
        params["spatial_dims"] = recipe.spatial_dims
    return params | text_params(recipe)


def build_network(
    recipe: Recipe, initial: Bundle | None = None, on_loaded: Callable[[PretrainedReport], None] | None = None
) -> nn.Module:
    """Build the network, seeded, with the weights of a bundle or of the recipe's file where given.

    ``on_loaded`` is told what a weights file gave to the network.

    Raises
    ------
    InputError
        ``training.network`` (unknown name or argument), ``training.initial`` (the bundle is of another network),
        or what reading the weights refuses.
    EnvironmentFault
        ``training.network_unusable``: a library that the network needs isn't installed, or the package that brings
        the network is broken.
    """
    params = network_params(recipe)
    torch.manual_seed(recipe.seed)
    try:
        network = build(recipe.network.name, **params)
    except (TypeError, ValueError) as error:
        raise InputError(
            "training.network",
            f"The network “{recipe.network.name}” can't be built: {error}.",
            "Correct network.params.",
        ) from error
    except (ImportError, BrokenNetworkError) as error:
        raise _unusable(recipe.network.name, error) from error
    load_text_weights(network, recipe)
    _check_text(network, recipe)
    if initial is not None:
        _take_over(network, initial, recipe)
    elif recipe.network.weights is not None:
        report = _load_weights(network, recipe, recipe.network.weights)
        if report is not None and on_loaded is not None:
            on_loaded(report)
    return network


def _check_text(network: nn.Module, recipe: Recipe) -> None:
    """Refuse reports for a network that reads none."""
    takes = [
        one
        for one in inspect.signature(network.forward).parameters.values()
        if one.kind is not inspect.Parameter.KEYWORD_ONLY
    ]
    if recipe.data.text is not None and len(takes) < 2:
        raise InputError(
            "training.network",
            f"The network “{recipe.network.name}” takes no report.",
            "Remove data.text, or choose a network that reads reports, such as image_text.",
        )


def _unusable(name: str, error: Exception) -> EnvironmentFault:
    if isinstance(error, ImportError):
        library = (error.name or str(error)).partition(".")[0]
        what = f"The network “{name}” needs the library {library}, which isn't installed."
        return EnvironmentFault("training.network_unusable", what, "Install overread[train].")
    return EnvironmentFault("training.network_unusable", f"{error}.", "Reinstall the package that brings it.")


def _load_weights(network: nn.Module, recipe: Recipe, weights: str) -> PretrainedReport | None:
    """Load what ``network.weights`` names: a model that ships with the program, a bundle's folder, a weights file
    (which has a report).
    """
    shipped = shipped_bundles_dir() / weights
    folder = shipped if _PLAIN_NAME.fullmatch(weights) and shipped.is_dir() else Path(weights)
    if folder.is_dir():
        _take_over(network, read_bundle(folder), recipe)
        return None
    from core.compute.training.pretrained import load_pretrained

    return load_pretrained(network, recipe.network.name, folder)


def _take_over(network: nn.Module, initial: Bundle, recipe: Recipe) -> None:
    """Load a bundle's weights; its head may have other classes, then the head stays new."""
    source = load_network(initial)
    if (
        source is None
        or initial.manifest.network is None
        or initial.manifest.network.name != recipe.network.name
    ):
        raise InputError(
            "training.initial",
            f"{initial.manifest.title} can't be the start: it is not a {recipe.network.name} with its own weights.",
            "Choose a model of the recipe's network.",
        )
    own, given = network.state_dict(), source.state_dict()
    fitting = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
    if len(fitting) < 0.5 * len(own):
        raise InputError(
            "training.initial",
            f"{initial.manifest.title} can't be the start: {len(fitting)} of {len(own)} tensors fit.",
            "Give the recipe the network arguments of the model.",
        )
    network.load_state_dict(own | fitting)


def class_weights(recipe: Recipe, counts: Sequence[int]) -> list[float] | None:
    """Return the weight of each class: as given, or n / (classes · count), 1 on average over the cases.

    Source: scikit-learn ``compute_class_weight("balanced")``.
    """
    return _class_weights(recipe.loss, recipe.out_channels, counts)


def _class_weights(loss: LossConfig, classes: int, counts: Sequence[int]) -> list[float] | None:
    wanted = loss.class_weights
    if wanted == "none":
        return None
    if not isinstance(wanted, str):
        if len(wanted) != classes:
            raise InputError(
                "training.class_weights",
                f"loss.class_weights has {len(wanted)} values; there are {classes} classes.",
                "Give one per class, background first in segmentation.",
            )
        return [float(value) for value in wanted]
    total, known = sum(counts), sum(1 for count in counts if count)
    return [total / (known * count) if count else 0.0 for count in counts]


def balanced_counts(recipe: Recipe, feed: Feed) -> Sequence[int] | dict[str, Sequence[int]]:
    """Return what ``build_objective`` counts by, as far as the recipe's class weights are ``balanced``."""
    if recipe.tasks is None or recipe.task != "multitask":
        return feed.class_counts if recipe.loss.class_weights == "balanced" else ()
    return {
        task: feed.counts_of(task)
        for task, loss in recipe.tasks.losses.items()
        if loss.class_weights == "balanced" and task != "regression"
    }


class Objective(nn.Module):
    """A loss for training and the one that validation reports (without label smoothing).

    ``auxiliary_weight`` is that of what the network asks for itself.
    """

    def __init__(self, trained: nn.Module, reported: nn.Module, auxiliary_weight: float = 0.0) -> None:
        super().__init__()
        self.trained, self.reported = trained, reported
        self._auxiliary_weight = auxiliary_weight

    @property
    def auxiliary_weight(self) -> float:
        """Weight of the network's own loss: in training only."""
        return self._auxiliary_weight if self.training else 0.0

    def forward(self, outputs: Outputs, target: Outputs) -> torch.Tensor:
        """Return the training loss in training mode, else the reported one."""
        value: torch.Tensor = (self.trained if self.training else self.reported)(outputs, target)
        return value

    def announce(self, target: Outputs, reduce: Callable[[torch.Tensor], torch.Tensor] | None = None) -> None:
        """Tell a loss of several tasks what is known in the whole batch."""
        if isinstance(self.trained, MultitaskLoss) and isinstance(target, dict):
            self.trained.announce(target, reduce)

    def learnt(self) -> dict[str, float]:
        """Return the variances that weigh the tasks, as ``variance_<task>``."""
        weights = self.trained.weights if isinstance(self.trained, MultitaskLoss) else None
        return {} if weights is None else {f"variance_{task}": v for task, v in weights.variances().items()}


def build_objective(recipe: Recipe, counts: Sequence[int] | Mapping[str, Sequence[int]]) -> Objective:
    """Build the recipe's loss; class weights and label smoothing go to every part that takes them.

    Parameters
    ----------
    counts
        Training cases (segmentation: voxels) of each class, of several tasks by task; needed for ``balanced`` weights.
    """
    smoothing, auxiliary = recipe.training.label_smoothing, recipe.training.auxiliary_weight
    if recipe.tasks is not None and recipe.task == "multitask":
        by_task = counts if isinstance(counts, Mapping) else {}
        weights = TaskWeights(recipe.task_names) if recipe.tasks.weighting == "uncertainty" else None
        return Objective(
            _of_tasks(recipe, by_task, smoothing, weights),
            _of_tasks(recipe, by_task, 0.0, weights),
            auxiliary,
        )
    plain = counts if not isinstance(counts, Mapping) else ()
    class_weight = class_weights(recipe, plain)
    trained, reported = (_build(recipe.loss, class_weight, one) for one in (smoothing, 0.0))
    return Objective(trained, reported, auxiliary)


def _of_tasks(
    recipe: Recipe, counts: Mapping[str, Sequence[int]], smoothing: float, weights: TaskWeights | None
) -> MultitaskLoss:
    losses: dict[str, nn.Module] = {}
    sizes = {"segmentation": recipe.out_channels, "classification": len(recipe.classes)}
    assert recipe.tasks is not None
    for task, settings in recipe.tasks.losses.items():
        if (settings.name in _NUMBERS) != (task == "regression"):
            raise InputError(
                "training.loss",
                f"tasks.{task}: “{settings.name}” isn't a loss for a {task}.",
                f"A regression takes one of {', '.join(sorted(_NUMBERS))}, the other tasks any of the others.",
            )
        weight = None
        if task in sizes and (counts.get(task) or settings.class_weights != "balanced"):
            weight = _class_weights(settings, sizes[task], counts.get(task, ()))
        losses[task] = _build(_at_least_zero(settings), weight, smoothing)
    return MultitaskLoss(losses, weights)


def _at_least_zero(settings: LossConfig) -> LossConfig:
    """Return a loss whose boundary term is relative to the truth, so that no variance falls to 0."""
    if settings.name == "boundary":
        return settings.model_copy(update={"params": {"relative": True, **settings.params}})
    parts = tuple(
        part.model_copy(update={"params": {"relative": True, **part.params}})
        if part.name == "boundary"
        else part
        for part in settings.parts
    )
    return settings.model_copy(update={"parts": parts})


def _build(settings: LossConfig, weights: list[float] | None, smoothing: float) -> nn.Module:
    if settings.name == "combined" and settings.parts:
        losses = [_part(part, weights, smoothing) for part in settings.parts]
        return build_loss("combined", losses=losses)
    if settings.name == "combined":
        return build_loss("combined", **settings.params)
    part = LossPart(name=settings.name, params=settings.params)
    filled = _part(part, weights, smoothing)
    return build_loss(filled["name"], **filled["params"])


def _part(part: LossPart, weights: list[float] | None, smoothing: float) -> dict[str, Any]:
    params = dict(part.params)
    if weights is not None and (part.name in _WEIGHTED or plugin_takes(part.name, "class_weights")):
        params.setdefault("class_weights", weights)
    if smoothing and (part.name in _SMOOTHED or plugin_takes(part.name, "label_smoothing")):
        params.setdefault("label_smoothing", smoothing)
    return {"name": part.name, "weight": part.weight, "params": params}
