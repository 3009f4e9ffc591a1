"""Builders of the classifiers whose encoder is written here."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from models.networks.classifier import classifier
from models.networks.convnext import ConvNextEncoder
from models.networks.parts import Parts
from models.networks.simple_cnn import SimpleCnnEncoder
from models.networks.swin import SwinEncoder
from models.networks.vit import VitEncoder
from models.networks.xception import FEATURES, XceptionEncoder


def simple_cnn(
    in_channels: int = 1,
    out_channels: int = 2,
    spatial_dims: int = 2,
    channels: Sequence[int] = (32, 64, 128, 128),
    dropout: float = 0.0,
    head_units: int | None = None,
) -> nn.Module:
    """Build a plain convolutional network (``channels``: one level each)."""
    levels = range(len(channels))
    parts = Parts((), tuple((f"features.{level}",) for level in levels), (f"features.{len(channels) - 1}.2",))
    return classifier(
        SimpleCnnEncoder(in_channels, channels, spatial_dims),
        int(channels[-1]),
        parts,
        in_channels=in_channels,
        encoder_channels=in_channels,
        out_channels=out_channels,
        dropout=dropout,
        head_units=head_units,
        spatial_dims=spatial_dims,
    )


def xception(
    in_channels: int = 3, out_channels: int = 1000, dropout: float = 0.0, head_units: int | None = None
) -> nn.Module:
    """Build Xception (pictures of 299 × 299)."""
    parts = Parts(
        (),
        (
            ("conv1", "bn1", "conv2", "bn2"),
            ("block1", "block2", "block3"),
            ("block4", "block5", "block6", "block7"),
            ("block8", "block9", "block10", "block11"),
            ("block12", "conv3", "bn3", "conv4", "bn4"),
        ),
        ("act4",),
    )
    return classifier(
        XceptionEncoder(),
        FEATURES,
        parts,
        in_channels=in_channels,
        out_channels=out_channels,
        dropout=dropout,
        head_units=head_units,
    )


def swin_t(
    in_channels: int = 3,
    out_channels: int = 1000,
    dropout: float = 0.0,
    head_units: int | None = None,
    drop_path: float = 0.2,
) -> nn.Module:
    """Build the tiny Swin Transformer (``drop_path``: rate of stochastic depth)."""
    return _swin((2, 2, 6, 2), in_channels, out_channels, dropout, head_units, drop_path)


def swin_s(
    in_channels: int = 3,
    out_channels: int = 1000,
    dropout: float = 0.0,
    head_units: int | None = None,
    drop_path: float = 0.3,
) -> nn.Module:
    """Build the small Swin Transformer (``drop_path``: rate of stochastic depth)."""
    return _swin((2, 2, 18, 2), in_channels, out_channels, dropout, head_units, drop_path)


def _swin(
    depths: tuple[int, ...],
    in_channels: int,
    out_channels: int,
    dropout: float,
    head_units: int | None,
    drop_path: float,
) -> nn.Module:
    parts = Parts(
        (),
        (
            ("features.0",),
            ("features.1",),
            ("features.2", "features.3"),
            ("features.4", "features.5"),
            ("features.6", "features.7", "norm"),
        ),
        ("permute",),
    )
    return classifier(
        SwinEncoder(depths=depths, drop_path=drop_path),
        768,
        parts,
        in_channels=in_channels,
        out_channels=out_channels,
        dropout=dropout,
        head_units=head_units,
    )


def vit_b_16(
    in_channels: int = 3,
    out_channels: int = 1000,
    image_size: int = 224,
    dropout: float = 0.0,
    head_units: int | None = None,
) -> nn.Module:
    """Build ViT-B/16; ``image_size`` is that of the position table, other multiples of 16 are interpolated."""
    layers = "encoder.layers.encoder_layer_{}"
    blocks = tuple((layers.format(index),) for index in range(11))
    parts = Parts(
        (),
        (
            ("conv_proj", "class_token", "encoder.pos_embedding"),
            *blocks,
            (layers.format(11), "encoder.ln"),
        ),
        (f"{layers.format(11)}.ln_1",),
        divisor=16,
    )
    return classifier(
        VitEncoder(image_size),
        768,
        parts,
        in_channels=in_channels,
        out_channels=out_channels,
        dropout=dropout,
        head_units=head_units,
    )


def convnext_tiny(
    in_channels: int = 3,
    out_channels: int = 1000,
    dropout: float = 0.0,
    head_units: int | None = None,
    drop_path: float = 0.1,
) -> nn.Module:
    """Build the tiny ConvNeXt (``drop_path``: rate of stochastic depth)."""
    parts = Parts(
        (),
        (
            ("features.0",),
            ("features.1",),
            ("features.2", "features.3"),
            ("features.4", "features.5"),
            ("features.6", "features.7", "norm"),
        ),
        ("features.7",),
    )
    return classifier(
        ConvNextEncoder(drop_path=drop_path),
        768,
        parts,
        in_channels=in_channels,
        out_channels=out_channels,
        dropout=dropout,
        head_units=head_units,
    )
