"""Networks with fewer channels than their builder gives them, described by plain numbers.

Pruning takes channels away module by module; no builder has an argument for that. So the registry takes the widths
that are left as ``pruned``: rows ``[module, channels in, channels out]``, with a fourth number, the groups, for
grouped convolutions. A bundle that holds such rows stays data: no code and no pickled module comes with it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

Row = Sequence[Any]
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_INSTANCE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


@dataclass(frozen=True)
class Width:
    """Channels of one module: in, out, and the groups of a convolution (1 elsewhere)."""

    inputs: int
    outputs: int
    groups: int = 1


def width_of(module: nn.Module) -> Width | None:
    """Return the width of a convolution, linear layer or normalisation; None for other modules."""
    if isinstance(module, _CONVOLUTIONS + _TRANSPOSED):
        return Width(module.in_channels, module.out_channels, module.groups)
    if isinstance(module, nn.Linear):
        return Width(module.in_features, module.out_features)
    if isinstance(module, _BATCH + _INSTANCE):
        return Width(module.num_features, module.num_features)
    if isinstance(module, nn.GroupNorm):
        return Width(module.num_channels, module.num_channels, module.num_groups)
    if isinstance(module, nn.LayerNorm) and len(module.normalized_shape) == 1:
        return Width(module.normalized_shape[0], module.normalized_shape[0])
    if isinstance(module, nn.PReLU) and module.num_parameters > 1:
        return Width(module.num_parameters, module.num_parameters)
    return None


def rows_of(full: nn.Module, pruned: nn.Module) -> list[list[str | int]]:
    """Return what ``narrowed`` needs to turn a network of ``full``'s shape into one of ``pruned``'s.

    What rows can't say (a loose parameter that became smaller) is left out: the caller compares the two.
    """
    modules = dict(full.named_modules())
    rows: list[list[str | int]] = []
    for name, module in pruned.named_modules():
        before, after = width_of(modules[name]), width_of(module)
        if before is None or after is None or before == after:
            continue
        groups = [after.groups] if max(after.groups, before.groups) > 1 else []
        rows.append([name, after.inputs, after.outputs, *groups])
    return rows


def narrowed(network: nn.Module, rows: Sequence[Row]) -> nn.Module:
    """Give modules of a network the widths of ``rows``, in place, with new random weights.

    Raises
    ------
    ValueError
        For a row that isn't one, an unknown module or one without a width, a module named twice, or a width that is
        no whole number from 1 to what the builder gave.
    """
    modules = dict(network.named_modules())
    seen: set[str] = set()
    for row in rows:
        name, width = _parsed(row)
        if name in seen:
            raise ValueError(f"pruned: {name} is named twice")
        seen.add(name)
        module = modules.get(name)
        full = None if module is None else width_of(module)
        if module is None or full is None:
            raise ValueError(f"pruned: the network has no convolution, layer or normalisation {name!r}")
        _check(name, width, full)
        _resize(module, width)
    return network


def _parsed(row: Row) -> tuple[str, Width]:
    fits = not isinstance(row, str) and len(row) in (3, 4) and isinstance(row[0], str)
    numbers = list(row[1:]) if fits else []
    if not fits or any(isinstance(n, bool) or not isinstance(n, int) for n in numbers):
        raise ValueError("pruned: a row is [module, channels in, channels out] or has the groups as a fourth")
    return str(row[0]), Width(*numbers)


def _check(name: str, width: Width, full: Width) -> None:
    pairs = (width.inputs, full.inputs), (width.outputs, full.outputs), (width.groups, full.groups)
    if any(not 1 <= number <= most for number, most in pairs):
        raise ValueError(f"pruned: {name} has {full.inputs} → {full.outputs} channels and can only lose some")
    if width.inputs % width.groups or width.outputs % width.groups:
        raise ValueError(f"pruned: the channels of {name} don't divide into {width.groups} groups")


def _resize(module: nn.Module, width: Width) -> None:
    """Set sizes and shapes of a module; buffers of normalisations follow."""
    if isinstance(module, _CONVOLUTIONS + _TRANSPOSED):
        module.in_channels, module.out_channels, module.groups = width.inputs, width.outputs, width.groups
        first, second = (
            (width.inputs, width.outputs)
            if isinstance(module, _TRANSPOSED)
            else (width.outputs, width.inputs)
        )
        _replace(module, "weight", (first, second // width.groups, *module.kernel_size))
        _replace(module, "bias", (width.outputs,))
    elif isinstance(module, nn.Linear):
        module.in_features, module.out_features = width.inputs, width.outputs
        _replace(module, "weight", (width.outputs, width.inputs))
        _replace(module, "bias", (width.outputs,))
    else:
        _resize_norm(module, width)
    reset: Callable[[], None] = module.reset_parameters  # type: ignore[assignment]
    reset()


def _resize_norm(module: nn.Module, width: Width) -> None:
    if isinstance(module, nn.GroupNorm):
        module.num_channels, module.num_groups = width.outputs, width.groups
    elif isinstance(module, nn.LayerNorm):
        module.normalized_shape = (width.outputs,)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = width.outputs
    else:
        module.num_features = width.outputs  # type: ignore[assignment]
    for name in ("weight", "bias"):
        _replace(module, name, (width.outputs,))
    for name in ("running_mean", "running_var"):
        if getattr(module, name, None) is not None:
            module.register_buffer(name, torch.zeros(width.outputs))


def _replace(module: nn.Module, name: str, shape: tuple[int, ...]) -> None:
    if isinstance(getattr(module, name, None), nn.Parameter):
        setattr(module, name, nn.Parameter(torch.zeros(shape)))
