"""Networks by stable name: what a bundle's manifest and a training recipe refer to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from models.networks.cnn2d import Cnn2d
from models.networks.unet3d import UNet3d

_BUILDERS: dict[str, Callable[..., nn.Module]] = {"unet3d": UNet3d, "cnn2d": Cnn2d}


def names() -> tuple[str, ...]:
    """Return the names that ``build`` knows."""
    return tuple(sorted(_BUILDERS))


def build(name: str, **params: Any) -> nn.Module:
    """Build a network with random weights.

    Parameters
    ----------
    name : str
        One of ``names()``.
    **params
        Arguments of the network's class.

    Raises
    ------
    KeyError
        For an unknown name.
    TypeError
        For an argument that the network doesn't take.
    """
    if name not in _BUILDERS:
        raise KeyError(f"unknown network {name!r}; known: {', '.join(names())}")
    return _BUILDERS[name](**params)
