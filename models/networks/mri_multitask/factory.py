"""Builders of the multi-task network: by size and variant, with single choices changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from models.networks.mri_multitask.blocks import BlockOptions
from models.networks.mri_multitask.memory import MemoryPolicy, Mode
from models.networks.mri_multitask.network import DIVISOR, BaseMRINet
from models.networks.mri_multitask.sizes import size_of
from models.networks.parts import Parts, attach

SizeName = Literal["basic", "standard", "large", "xl"]
Variant = Literal["basic", "sota"]

_WINDOW = 6
_EXPERTS = 4


def create_basic_net(
    in_channels: int = 1,
    out_channels: int = 8,
    classes: int = 3,
    measurements: int = 2,
    size: SizeName = "basic",
    **options: Any,
) -> BaseMRINet:
    """Build the plain network: full attention, one perceptron per block, one resolution, fixed knots.

    ``options`` are those of ``mri_multitask``.
    """
    return mri_multitask(in_channels, out_channels, classes, measurements, size, "basic", **options)


def create_sota_net(
    in_channels: int = 1,
    out_channels: int = 8,
    classes: int = 3,
    measurements: int = 2,
    size: SizeName = "standard",
    **options: Any,
) -> BaseMRINet:
    """Build the network with all that it has: windows, experts, several resolutions, learnt knots and gates.

    ``options`` are those of ``mri_multitask``.
    """
    return mri_multitask(in_channels, out_channels, classes, measurements, size, "sota", **options)


def mri_multitask(
    in_channels: int = 1,
    out_channels: int = 8,
    classes: int = 0,
    measurements: int = 0,
    size: SizeName = "basic",
    variant: Variant = "basic",
    embed_dim: int | None = None,
    num_layers: int | None = None,
    num_heads: int | None = None,
    widths: Sequence[int] | None = None,
    depths: Sequence[int] | None = None,
    bottleneck: int | None = None,
    bottleneck_blocks: int | None = None,
    use_flash_attention: bool = True,
    window: int | None = None,
    use_moe: bool | None = None,
    num_experts: int = _EXPERTS,
    top_k: int = 2,
    scales: Sequence[int] | None = None,
    learnable_knots: bool | None = None,
    dropout: float = 0.0,
    drop_path: float | None = None,
    head_dropout: float = 0.0,
    checkpointing: Mode = "auto",
    chunking: Mode = "auto",
    memory_share: float = 0.5,
    distribute_slices: bool = False,
) -> BaseMRINet:
    """Build the multi-task network with its parts.

    Parameters
    ----------
    in_channels, out_channels, classes, measurements : int
        Contrasts, segmentation channels (0: no segmentation), classes and measurements.
    size, variant : str
        See ``sizes``; every None below is what they say.
    embed_dim, num_layers, num_heads, widths, depths, bottleneck, bottleneck_blocks
        See ``BaseMRINet``.
    use_flash_attention : bool
        Let torch choose the fastest kernel; False: the plain formula.
    window : int, optional
        Edge of the attention's windows in tokens (8 voxels each); 0: each token looks at all.
    use_moe, num_experts, top_k
        Whether every second block has a mixture of experts, of how many, and how many a token uses.
    scales : sequence of int, optional
        Resolutions that the patch embedding fuses.
    learnable_knots : bool, optional
        Whether the curves of the heads learn their knots, and gates over their bases.
    dropout, drop_path, head_dropout : float
        Dropout in the transformer, its stochastic depth, and dropout in the heads.
    checkpointing, chunking : str
        ``always``, ``never``, or ``auto``: when memory is short.
    memory_share : float
        Part of the free memory above which it is short.
    distribute_slices : bool
        Share the finest level between the processes of a distributed run that get the same volume.

    Raises
    ------
    ValueError
        For values that the network can't be built with.
    """
    made, sota = size_of(size, variant), variant == "sota"
    mixture = sota if use_moe is None else use_moe
    edge = (_WINDOW if sota else 0) if window is None else window
    curves = sota if learnable_knots is None else learnable_knots
    network = BaseMRINet(
        in_channels,
        out_channels,
        classes,
        measurements,
        embed_dim=embed_dim or made.embed_dim,
        num_layers=made.num_layers if num_layers is None else num_layers,
        num_heads=num_heads or made.num_heads,
        widths=widths or made.widths,
        depths=depths or made.depths,
        bottleneck=bottleneck or made.bottleneck,
        bottleneck_blocks=made.bottleneck_blocks if bottleneck_blocks is None else bottleneck_blocks,
        blocks=BlockOptions(
            window=edge or None,
            experts=num_experts if mixture else 0,
            top_k=min(top_k, num_experts),
            dropout=dropout,
            drop_path=(0.1 if sota else 0.0) if drop_path is None else drop_path,
            kernel="auto" if use_flash_attention else "math",
        ),
        scales=scales or ((1, 2, 4) if sota else (1,)),
        learnable_knots=curves,
        gated=curves,
        head_width=made.head_width,
        head_dropout=head_dropout,
        policy=MemoryPolicy(checkpointing, chunking, memory_share),
        over_ranks=distribute_slices,
    )
    attach(network, _parts(network))
    return network


def _parts(network: BaseMRINet) -> Parts:
    encoder = tuple((f"encoder.{level}",) for level in range(len(network.encoder)))
    stages = (("embedding",), *encoder, ("trunk", "merge"), ("bottleneck",))
    if network.decoder is None:
        return Parts(("heads",), stages, ("trunk",), DIVISOR)
    up = tuple((f"decoder.stages.{level}",) for level in range(len(network.decoder.stages)))
    return Parts(("heads",), stages + up, ("trunk", "decoder"), DIVISOR)
