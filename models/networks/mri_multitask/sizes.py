"""The four sizes of the multi-task network: 15, 32, 85 and 200 million parameters.

Width and number of the transformer's blocks are given by the size; they make 0.2, 1.2, 6.4 and 37.9 million
parameters (``12 · embed_dim² · layers``, and more with experts). The rest is convolutions, most of them at stride
16: a residual block of ``c`` channels there has ``54 · c²`` parameters and works on 1/4096 of the voxels. The
counts hold for one contrast, eight segmentation channels, three classes and two measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

SIZES = ("basic", "standard", "large", "xl")
VARIANTS = ("basic", "sota")


@dataclass(frozen=True)
class Size:
    """One size of the network; see ``network.BaseMRINet`` for the words."""

    millions: float
    embed_dim: int
    num_layers: int
    num_heads: int
    widths: tuple[int, int, int]
    depths: tuple[int, int, int, int, int, int]
    bottleneck: int
    bottleneck_blocks: int
    head_width: int = 64


_SIZES: dict[tuple[str, str], Size] = {
    ("basic", "basic"): Size(15, 64, 4, 4, (32, 64, 128), (1, 1, 1, 3, 1, 1), 304, 2, 128),
    ("standard", "basic"): Size(32, 128, 6, 8, (32, 64, 128), (1, 1, 1, 2, 1, 1), 400, 3),
    ("large", "basic"): Size(85, 256, 8, 8, (32, 64, 256), (1, 1, 2, 2, 1, 1), 608, 3),
    ("xl", "basic"): Size(200, 512, 12, 16, (64, 128, 384), (1, 2, 2, 2, 1, 1), 752, 4),
    ("basic", "sota"): Size(15, 64, 4, 4, (32, 64, 128), (1, 2, 1, 2, 1, 1), 304, 2, 96),
    ("standard", "sota"): Size(32, 128, 6, 8, (32, 64, 128), (1, 1, 1, 2, 1, 1), 392, 3),
    ("large", "sota"): Size(85, 256, 8, 8, (32, 64, 256), (1, 1, 2, 2, 1, 1), 576, 3),
    ("xl", "sota"): Size(200, 512, 12, 16, (64, 128, 384), (1, 2, 2, 2, 1, 1), 720, 3),
}


def size_of(size: str, variant: str) -> Size:
    """Return a size.

    Parameters
    ----------
    size : str
        One of ``SIZES``.
    variant : str
        ``basic``, or ``sota``: with windows, experts and learnt knots, whose parameters count too.

    Raises
    ------
    ValueError
        For an unknown size or variant.
    """
    if size not in SIZES:
        raise ValueError(f"the size is one of {', '.join(SIZES)}, not {size!r}")
    if variant not in VARIANTS:
        raise ValueError(f"the variant is one of {', '.join(VARIANTS)}, not {variant!r}")
    return _SIZES[size, variant]
