"""Builders of the networks that are one class here: small CNN, cell net, 3-D U-Net, DeepLabV3+."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from models.networks.cell_net import CellNet
from models.networks.cnn2d import Cnn2d
from models.networks.deeplab import DeepLabV3Plus
from models.networks.parts import Parts, attach
from models.networks.unet3d import UNet3d


def cnn2d(
    in_channels: int = 1, out_channels: int = 6, channels: Sequence[int] = (24, 48, 96, 128)
) -> nn.Module:
    """Build the small residual classifier."""
    stages = tuple((f"features.{level}",) for level in range(len(channels) + 1))
    return attach(Cnn2d(in_channels, out_channels, channels), Parts(("head",), stages, ("features",)))


def cell_net(
    in_channels: int = 1,
    out_channels: int = 3,
    channels: Sequence[int] = (24, 32, 64, 128),
    dropout: float = 0.2,
    dense: bool = False,
) -> nn.Module:
    """Build the network that judges cells."""
    network = CellNet(in_channels, out_channels, channels, dropout, dense)
    stages = tuple((f"features.{level}",) for level in range(len(channels) + 1))
    divisor = 2 ** len(channels) if dense else 1
    return attach(network, Parts(("head",), stages, ("features",), divisor))


def unet3d(
    in_channels: int = 1, out_channels: int = 8, channels: Sequence[int] = (16, 32, 64, 80, 80)
) -> nn.Module:
    """Build the plain 3-D U-Net."""
    network = UNet3d(in_channels, out_channels, channels)
    last = len(channels) - 1
    down = tuple((f"encoder.{level}",) for level in range(last + 1))
    up = tuple((f"up.{level}", f"decoder.{level}") for level in range(last - 1, -1, -1))
    cam = ("decoder.0", f"encoder.{last}") if last else ("encoder.0",)
    return attach(network, Parts(("head",), down + up, cam, network.divisor))


def deeplabv3plus(
    in_channels: int = 1,
    out_channels: int = 2,
    spatial_dims: int = 3,
    features: int = 32,
    blocks: Sequence[int] = (2, 2, 2, 2),
    pyramid_channels: int = 128,
    rates: Sequence[int] = (6, 12, 18),
    norm: str = "batch",
    dropout: float = 0.1,
) -> nn.Module:
    """Build DeepLabV3+ (see its class for the arguments)."""
    network = DeepLabV3Plus(
        in_channels, out_channels, spatial_dims, features, blocks, pyramid_channels, rates, norm, dropout
    )
    stages = (
        ("stem", "stages.0"),
        *((f"stages.{level}",) for level in range(1, 4)),
        ("pyramid",),
        ("low", "decoder"),
    )
    return attach(network, Parts(("head",), stages, ("decoder", "pyramid")))
