"""Networks by stable name: what a bundle's manifest and a training recipe refer to.

MONAI loads when one of its networks is built, not before. Installed packages add their own by an entry point
(``models.networks.plugins``); a name of ours is always ours.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any

from torch import nn

from models.networks.narrowing import narrowed
from models.networks.plugins import BrokenNetworkError, load_plugin, plugin_names, plugin_spec
from models.networks.specs import SPECS, NetworkSpec

Builder = Callable[..., nn.Module]


def names() -> tuple[str, ...]:
    """Return the names that ``build`` knows, those of installed packages among them."""
    return tuple(sorted({*SPECS, *plugin_names()}))


def spec(name: str) -> NetworkSpec:
    """Return facts and training defaults of a network.

    Raises
    ------
    KeyError
        For an unknown name.
    BrokenNetworkError
        For an installed package's network that can't be loaded.
    """
    if name in SPECS:
        return SPECS[name]
    try:
        return plugin_spec(name)
    except KeyError:
        raise KeyError(f"unknown network {name!r}; known: {', '.join(names())}") from None


def describe(name: str) -> dict[str, Any]:
    """Return a network's facts as JSON values, its arguments with their defaults under ``params``.

    Raises
    ------
    KeyError
        For an unknown name.
    """
    facts = {
        key: list(value) if isinstance(value, tuple) else value for key, value in asdict(spec(name)).items()
    }
    params = {
        parameter.name: _json_value(parameter.default)
        for parameter in inspect.signature(_builder(name)).parameters.values()
    }
    return {**facts, "params": params}


def cam_layers(name: str) -> tuple[str, ...]:
    """Return the modules (dotted names) whose output explains a decision, first the usual one."""
    return spec(name).cam_layers


def build(name: str, **params: Any) -> nn.Module:
    """Build a network with random weights.

    Parameters
    ----------
    name : str
        One of ``names()``.
    **params
        Arguments of the network's builder (JSON values; ``describe`` lists them). All take ``in_channels``
        and ``out_channels``, and ``pruned``: the widths that pruning left (see ``narrowing``).

    Returns
    -------
    torch.nn.Module
        Float32, in training mode, with ``parts`` (see ``models.networks.parts``) and ``divisor``.

    Raises
    ------
    KeyError
        For an unknown name.
    TypeError
        For an argument that the network doesn't take.
    ValueError
        For a value that it can't be built with.
    ImportError
        When a library that the network needs isn't installed.
    BrokenNetworkError
        For an installed package's network that can't be loaded or is no network.
    """
    spec(name)
    pruned = params.pop("pruned", None)
    network = _builder(name)(**params)
    if not isinstance(network, nn.Module):
        raise BrokenNetworkError(f"the network {name!r} is no torch.nn.Module")
    return network if pruned is None else narrowed(network, pruned)


def _json_value(default: Any) -> Any:
    if default is inspect.Parameter.empty:
        return None
    return list(default) if isinstance(default, tuple) else default


def _builder(name: str) -> Builder:
    if name not in SPECS:
        return load_plugin(name)
    if name in {"cnn2d", "cell_net", "unet3d", "deeplabv3plus"}:
        return _own(name)
    if name == "image_text":
        return _image_text()
    if name == "mri_multitask":
        return _mri_multitask()
    if SPECS[name].task == "segmentation":
        return _monai_segmentation(name)
    if name in {"simple_cnn", "swin_t", "swin_s", "vit_b_16", "convnext_tiny", "xception"}:
        return _own_classifier(name)
    return _monai_classifier(name)


def _image_text() -> Builder:
    from models.networks.multimodal.image_text import image_text

    return image_text


def _mri_multitask() -> Builder:
    from models.networks.mri_multitask.factory import mri_multitask

    return mri_multitask


def _own_classifier(name: str) -> Builder:
    from models.networks import classification

    builders: dict[str, Builder] = {
        "simple_cnn": classification.simple_cnn,
        "swin_t": classification.swin_t,
        "swin_s": classification.swin_s,
        "vit_b_16": classification.vit_b_16,
        "convnext_tiny": classification.convnext_tiny,
        "xception": classification.xception,
    }
    return builders[name]


def _monai_classifier(name: str) -> Builder:
    from models.networks import monai_classification as nets

    if name.startswith("efficientnet_"):
        return partial(nets.efficientnet, name.removeprefix("efficientnet_"))
    if name.startswith("resnet"):
        return partial(nets.resnet, int(name.removeprefix("resnet")))
    builders: dict[str, Builder] = {"densenet121": nets.densenet121, "medical_cnn": nets.medical_cnn}
    return builders[name]


def _monai_segmentation(name: str) -> Builder:
    from models.networks import monai_segmentation as nets

    builders: dict[str, Builder] = {
        "unet": nets.unet,
        "attention_unet": nets.attention_unet,
        "unet_plus_plus": nets.unet_plus_plus,
        "segresnet": nets.segresnet,
        "dynunet": nets.dynunet,
        "swin_unetr": nets.swin_unetr,
    }
    return builders[name]


def _own(name: str) -> Builder:
    from models.networks import own

    builders: dict[str, Builder] = {
        "cnn2d": own.cnn2d,
        "cell_net": own.cell_net,
        "unet3d": own.unet3d,
        "deeplabv3plus": own.deeplabv3plus,
    }
    return builders[name]
