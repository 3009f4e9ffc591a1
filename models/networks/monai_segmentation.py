"""Builders of the segmentation networks that are MONAI's: one tensor of logits, no layer without use."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from monai.networks.nets.attentionunet import AttentionUnet
from monai.networks.nets.basic_unetplusplus import BasicUNetPlusPlus
from monai.networks.nets.dynunet import DynUNet
from monai.networks.nets.segresnet import SegResNet
from monai.networks.nets.swin_unetr import SwinUNETR
from monai.networks.nets.unet import UNet
from torch import Tensor, nn

from models.networks.layers import without_inplace
from models.networks.parts import Parts, attach

ACTIVATIONS = ("relu", "leakyrelu", "prelu", "elu", "gelu", "mish", "swish")
NORMS = ("batch", "instance", "group")


def unet(
    in_channels: int = 1,
    out_channels: int = 2,
    spatial_dims: int = 3,
    depth: int = 4,
    features: int = 16,
    activation: str = "prelu",
    norm: str = "instance",
    dropout: float = 0.0,
    residual_units: int = 2,
) -> nn.Module:
    """Build MONAI's U-Net; ``depth`` halvings, ``features`` channels at full resolution, doubled per level."""
    network = UNet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        channels=[features * 2**level for level in range(depth + 1)],
        strides=[2] * depth,
        num_res_units=residual_units,
        act=_activation(activation),
        norm=_norm(norm, features),
        dropout=dropout,
    )
    down = [f"model.{'1.submodule.' * level}0" for level in range(depth)]
    bottom = f"model.{'1.submodule.' * depth}".removesuffix(".")
    up = [f"model.{'1.submodule.' * level}2" for level in range(depth - 1, 0, -1)]
    stages = tuple((name,) for name in (*down, bottom, *up))
    cam = ("model.1.submodule.2" if depth > 1 else bottom, bottom)
    return attach(without_inplace(network), Parts(("model.2",), stages, cam, 2**depth))


def attention_unet(
    in_channels: int = 1,
    out_channels: int = 2,
    spatial_dims: int = 3,
    depth: int = 4,
    features: int = 16,
    dropout: float = 0.0,
) -> nn.Module:
    """Build MONAI's Attention U-Net (batch normalisation, ReLU); ``depth`` halvings."""
    network = AttentionUnet(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        channels=[features * 2**level for level in range(depth + 1)],
        strides=[2] * depth,
        dropout=dropout,
    )
    layer = [f"model.1.{'submodule.1.' * level}" for level in range(depth)]
    down = [(f"{name}submodule.0",) for name in layer[:-1]] + [(f"{layer[-1]}submodule",)]
    up = [(f"{name}upconv", f"{name}attention", f"{name}merge") for name in reversed(layer)]
    stages = (("model.0",), *down, *up)
    cam = ("model.1.merge", f"{layer[-1]}submodule")
    return attach(without_inplace(network), Parts(("model.2",), stages, cam, 2**depth))


class UNetPlusPlus(BasicUNetPlusPlus):
    """MONAI's U-Net++ with its last output only, as a tensor."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, deep_supervision=False, **settings)
        for name in ("final_conv_0_1", "final_conv_0_2", "final_conv_0_3"):
            setattr(self, name, nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the image's size."""
        logits: Tensor = super().forward(x)[0]
        return logits


def unet_plus_plus(
    in_channels: int = 1,
    out_channels: int = 2,
    spatial_dims: int = 3,
    features: Sequence[int] = (16, 32, 64, 128, 256, 16),
    activation: str = "leakyrelu",
    norm: str = "instance",
    dropout: float = 0.0,
) -> nn.Module:
    """Build MONAI's U-Net++ without deep supervision; six ``features``: five levels and the last one."""
    network = UNetPlusPlus(
        spatial_dims=spatial_dims,
        in_channels=in_channels,
        out_channels=out_channels,
        features=tuple(features),
        act=_activation(activation),
        norm=_norm(norm, min(features)),
        dropout=dropout,
    )
    down = tuple((f"conv_{level}_0",) for level in range(5))
    up = tuple(tuple(f"upcat_{level}_{column}" for level in range(5 - column)) for column in range(1, 5))
    return attach(
        without_inplace(network), Parts(("final_conv_0_4",), down + up, ("upcat_0_4", "conv_4_0"), 16)
    )


def segresnet(
    in_channels: int = 1,
    out_channels: int = 2,
    spatial_dims: int = 3,
    features: int = 16,
    blocks_down: Sequence[int] = (1, 2, 2, 4),
    blocks_up: Sequence[int] = (1, 1, 1),
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """Build MONAI's SegResNet (group normalisation)."""
    network = SegResNet(
        spatial_dims=spatial_dims,
        init_filters=features,
        in_channels=in_channels,
        out_channels=out_channels,
        dropout_prob=dropout or None,
        act=_activation(activation),
        norm=_norm("group", features),
        blocks_down=tuple(blocks_down),
        blocks_up=tuple(blocks_up),
    )
    last = len(blocks_down) - 1
    stages = (
        ("convInit", "down_layers.0"),
        *((f"down_layers.{level}",) for level in range(1, last + 1)),
        *((f"up_samples.{level}", f"up_layers.{level}") for level in range(len(blocks_up))),
    )
    cam = (f"up_layers.{len(blocks_up) - 1}", f"down_layers.{last}")
    return attach(without_inplace(network), Parts(("conv_final",), stages, cam, 2**last))


class PlainDynUNet(DynUNet):
    """MONAI's DynUNet, each layer registered once (so that its weights are a plain table)."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, deep_supervision=False, **settings)
        del self.skip_layers

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the image's size."""
        x = self.input_block(x)
        skips = [x]
        for down in self.downsamples:
            x = down(x)
            skips.append(x)
        x = self.bottleneck(x)
        for up, skip in zip(self.upsamples, reversed(skips), strict=True):
            x = up(x, skip)
        logits: Tensor = self.output_block(x)
        return logits


def dynunet(
    in_channels: int = 1,
    out_channels: int = 2,
    spatial_dims: int = 3,
    depth: int = 4,
    features: int = 32,
    activation: str = "leakyrelu",
    norm: str = "instance",
    dropout: float = 0.0,
    residual: bool = False,
) -> nn.Module:
    """Build MONAI's DynUNet (nnU-Net's layout) without deep supervision; ``depth`` (≥ 2) halvings."""
    if depth < 2:
        raise ValueError(f"dynunet needs a depth of at least 2, not {depth}")
    most = 320 if spatial_dims == 3 else 512
    network = PlainDynUNet(
        spatial_dims,
        in_channels,
        out_channels,
        kernel_size=[3] * (depth + 1),
        strides=[1] + [2] * depth,
        upsample_kernel_size=[2] * depth,
        filters=[min(features * 2**level, most) for level in range(depth + 1)],
        dropout=dropout or None,
        norm_name=_norm(norm, features),
        act_name=_activation(activation),
        res_block=residual,
    )
    stages = (
        ("input_block",),
        *((f"downsamples.{level}",) for level in range(depth - 1)),
        ("bottleneck",),
        *((f"upsamples.{level}",) for level in range(depth)),
    )
    cam = (f"upsamples.{depth - 1}", "bottleneck")
    return attach(without_inplace(network), Parts(("output_block",), stages, cam, 2**depth))


def swin_unetr(
    in_channels: int = 1,
    out_channels: int = 2,
    spatial_dims: int = 3,
    features: int = 24,
    dropout: float = 0.0,
    drop_path: float = 0.0,
    checkpointing: bool = False,
) -> nn.Module:
    """Build MONAI's SwinUNETR; ``features`` is a multiple of 12, sizes are multiples of 32.

    Raises
    ------
    ImportError
        Without the package einops, which MONAI would miss only in the first step.
    """
    if find_spec("einops") is None:
        raise ImportError("the network swin_unetr needs the package einops; install overread[train]")
    network = SwinUNETR(
        in_channels,
        out_channels,
        feature_size=features,
        spatial_dims=spatial_dims,
        drop_rate=dropout,
        dropout_path_rate=drop_path,
        use_checkpoint=checkpointing,
    )
    stages = (
        ("swinViT.patch_embed", "encoder1"),
        ("swinViT.layers1", "encoder2"),
        ("swinViT.layers2", "encoder3"),
        ("swinViT.layers3", "encoder4"),
        ("swinViT.layers4", "encoder10"),
        *((f"decoder{level}",) for level in range(5, 0, -1)),
    )
    return attach(without_inplace(network), Parts(("out",), stages, ("decoder1", "encoder10"), 32))


def _activation(name: str) -> str | tuple[str, dict[str, Any]]:
    if name not in ACTIVATIONS:
        raise ValueError(f"activation {name!r}; known: {', '.join(ACTIVATIONS)}")
    return (name, {"negative_slope": 0.01}) if name == "leakyrelu" else name


def _norm(name: str, channels: int) -> str | tuple[str, dict[str, Any]]:
    if name not in NORMS:
        raise ValueError(f"norm {name!r}; known: {', '.join(NORMS)}")
    if name == "group":
        return ("group", {"num_groups": next(count for count in (8, 4, 2, 1) if channels % count == 0)})
    return (name, {"affine": True})
