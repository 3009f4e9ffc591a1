"""Networks that other installed packages bring, by the entry point group ``overread.networks``.

An entry point names a callable ``(in_channels, out_channels, **params) -> torch.nn.Module``: a subclass of
``nn.Module`` or a function. Its network takes float32 ``(N, in_channels, …)`` and gives logits ``(N, out_channels)``
(classification) or ``(N, out_channels, …)`` of the input's size (segmentation). A callable with a parameter
``spatial_dims`` is for pictures and volumes and gets 2 or 3. It may carry facts as the attribute ``spec`` (a
``NetworkSpec``), and its network ``parts`` (``models.networks.parts.attach``); else both are guessed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from models.networks.specs import NetworkSpec

ENTRY_POINTS = "overread.networks"


class BrokenNetworkError(RuntimeError):
    """An installed package's network can't be loaded or is no network."""


def plugin_names() -> tuple[str, ...]:
    """Return the names that installed packages bring."""
    return tuple(sorted(entry_points(group=ENTRY_POINTS).names))


def load_plugin(name: str) -> Callable[..., Any]:
    """Return a package's callable.

    Raises
    ------
    KeyError
        When no installed package brings that name.
    BrokenNetworkError
        When it can't be imported or called.
    """
    points = entry_points(group=ENTRY_POINTS, name=name)
    if not points:
        raise KeyError(name)
    try:
        loaded = next(iter(points)).load()
    except Exception as error:
        raise BrokenNetworkError(f"the network {name!r} can't be loaded ({type(error).__name__})") from error
    if not callable(loaded):
        raise BrokenNetworkError(f"the network {name!r} can't be called")
    return loaded


def plugin_spec(name: str) -> NetworkSpec:
    """Return the facts that a package's network carries, or plain ones (whose task isn't known: empty).

    Raises
    ------
    KeyError, BrokenNetworkError
        As ``load_plugin``.
    """
    builder = load_plugin(name)
    carried = getattr(builder, "spec", None)
    if isinstance(carried, NetworkSpec):
        return carried
    both = "spatial_dims" in inspect.signature(builder).parameters
    return NetworkSpec(
        name=name,
        title=name,
        task="",
        dimensions=(2, 3) if both else (2,),
        input_size=224,
        optimiser="adamw",
        learning_rate=1e-3,
        batch_size=8,
        cam_layers=(),
        backbone=(),
        head=(),
    )
