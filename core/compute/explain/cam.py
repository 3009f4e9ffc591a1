"""Class activation maps of one layer, for any number of classes, in one pass through the trunk.

Everything before the layer is computed once without gradients. The layer's output becomes a leaf, only what
follows it is recorded, and each class costs one backward pass through that head. The maps equal captum's
``LayerGradCam``; of transformers, tokens are laid on their grid first.

Source: Selvaraju et al., ICCV 2017 (Grad-CAM); Chattopadhyay et al., WACV 2018 (Grad-CAM++); Jiang et al.,
IEEE TIP 2021 (LayerCAM).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import nn

from core.domain.errors import InputError

CAM_METHODS = ("gradcam", "gradcam++", "layercam")
Score = Callable[[torch.Tensor], torch.Tensor]
_TINY = 1e-12


def layer_maps(
    network: nn.Module,
    layer: str,
    image: torch.Tensor,
    scores: Sequence[Score],
    method: str = "gradcam",
) -> list[torch.Tensor]:
    """Return one map per score, ``(1, 1, …)`` float32 at the layer's resolution, not rectified.

    Parameters
    ----------
    network : torch.nn.Module
        In evaluation mode, without in-place activations (see ``frozen``).
    layer : str
        Dotted name of a module that is called once and returns ``(1, C, …)``, ``(1, …, C)`` (Swin) or tokens
        ``(1, patches, C)`` with or without a class token in front (ViT); see ``on_grid``.
    image : torch.Tensor
        ``(1, C, …)`` float32.
    scores : sequence of callables
        Each maps the network's answer to the scalar whose evidence is looked for.

    Raises
    ------
    InputError
        ``explain.layer`` for a layer that doesn't exist, isn't reached or has no spatial output.
    """
    activation, answer = head_only_pass(network, layer, image)
    maps = []
    for number, score in enumerate(scores):
        more = number + 1 < len(scores)
        (gradient,) = torch.autograd.grad(score(answer), activation, retain_graph=more)
        size = tuple(image.shape[2:])
        maps.append(
            _combine(on_grid(activation.detach(), size, layer), on_grid(gradient, size, layer), method)
        )
    return maps


def on_grid(output: torch.Tensor, size: Sequence[int], layer: str = "") -> torch.Tensor:
    """Return a layer's output as ``(N, C, …)`` on the layer's grid.

    Parameters
    ----------
    output : torch.Tensor
        ``(N, C, …)``, ``(N, …, C)``, ``(N, P, C)`` or ``(N, 1 + P, C)``. Channels are last where the axes after the
        first have the image's proportions and the last ones have not. Tokens are P patches in rows (the last axis of
        the image runs fastest); a class token in front has no place and is left out.
    size : sequence of int
        The image's. Layers of a two-dimensional network on one slice (``(1, H, W)``) get an axis of one.

    Raises
    ------
    InputError
        ``explain.layer`` when the tokens are not those of equal patches of the image.
    """
    if len(size) == 3 and size[0] == 1 and output.dim() < 5:
        return on_grid(output, size[1:], layer).unsqueeze(2)
    if output.dim() == len(size) + 2:
        first, last = output.shape[1:-1], output.shape[2:]
        return output.movedim(-1, 1) if _disproportion(first, size) < _disproportion(last, size) else output
    if output.dim() != 3:
        raise _unusable(layer)
    for leading in (1, 0):
        grid = _patches(output.shape[1] - leading, size)
        if grid is not None:
            return output[:, leading:].movedim(-1, 1).unflatten(2, grid)
    raise _unusable(layer)


def _disproportion(cells: Sequence[int], size: Sequence[int]) -> float:
    """Return the largest ratio of a cell's sides less 1; infinite for more cells than pixels."""
    if any(c > n for c, n in zip(cells, size, strict=True)):
        return math.inf
    sides = [n / c for c, n in zip(cells, size, strict=True)]
    return max(sides) / min(sides) - 1


def _patches(count: int, size: Sequence[int]) -> tuple[int, ...] | None:
    """Return the grid of ``count`` equal patches (square or cubic) that tile the image, None when there is none."""
    if count < 1:
        return None
    side = round((math.prod(size) / count) ** (1 / len(size)))
    grid = tuple(n // side for n in size) if side else ()
    return grid if grid and math.prod(grid) == count and all(n % side == 0 for n in size) else None


def head_only_pass(network: nn.Module, layer: str, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the layer's output as a leaf that requires grad, and the network's answer recorded from there
    on.
    """
    module = find_layer(network, layer)
    caught: list[torch.Tensor] = []

    def cut(_module: nn.Module, _given: Any, output: Any) -> torch.Tensor:
        if caught or not isinstance(output, torch.Tensor) or output.dim() < 3:
            raise _unusable(layer)
        leaf = output.detach().requires_grad_(True)
        caught.append(leaf)
        torch.set_grad_enabled(True)
        return leaf

    handle = module.register_forward_hook(cut)
    try:
        with torch.no_grad():
            answer = network(image)
    finally:
        handle.remove()
    if not caught:
        raise _unusable(layer)
    while not isinstance(answer, torch.Tensor):
        answer = answer[0]
    return caught[0], answer


def find_layer(network: nn.Module, layer: str) -> nn.Module:
    """Return the module of that dotted name; raises InputError ``explain.layer``."""
    try:
        return network.get_submodule(layer)
    except AttributeError as error:
        raise InputError(
            "explain.layer",
            f"The network has no layer “{layer}”.",
            f"Choose one of: {', '.join(convolution_names(network)[-8:])}.",
        ) from error


def convolution_names(network: nn.Module) -> list[str]:
    """Return the dotted names of all convolutions, in the order of definition."""
    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [name for name, module in network.named_modules() if isinstance(module, kinds)]


def upsampled(heat: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Interpolate ``(1, 1, …)`` linearly to ``size`` (edges aligned), as captum's ``LayerAttribution``."""
    mode = "trilinear" if len(size) == 3 else "bilinear"
    return functional.interpolate(heat, size=tuple(size), mode=mode, align_corners=False)


def _combine(activation: torch.Tensor, gradient: torch.Tensor, method: str) -> torch.Tensor:
    space = tuple(range(2, activation.dim()))
    if method == "gradcam":
        weights = gradient.mean(dim=space, keepdim=True)
    elif method == "gradcam++":
        squared = gradient.square()
        denominator = 2 * squared + activation.sum(dim=space, keepdim=True) * squared * gradient
        usable = denominator.abs() > _TINY
        alpha = torch.where(usable, squared / torch.where(usable, denominator, 1.0), 0.0)
        weights = (alpha * gradient.relu()).sum(dim=space, keepdim=True)
    elif method == "layercam":
        weights = gradient.relu()
    else:
        raise InputError(
            "explain.method", f"There is no map “{method}”.", "Use gradcam, gradcam++ or layercam."
        )
    return (weights * activation).sum(dim=1, keepdim=True)


def _unusable(layer: str) -> InputError:
    return InputError(
        "explain.layer",
        f"The layer “{layer}” has no map: it is not reached once, or its output has no space.",
        "Choose a convolution, or a block of a transformer.",
    )
