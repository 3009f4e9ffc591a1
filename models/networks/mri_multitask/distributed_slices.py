"""The slices of one volume shared by the processes of a distributed run.

Each process works on its slices and the neighbours that its convolutions see, then all get all features. The
result is that of one process.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from models.networks.mri_multitask.embedding import PatchEmbedding, missing_contrasts, slab_of
from models.networks.mri_multitask.tracing import exporting


def slab(slices: int, unit: int, rank: int, world: int) -> tuple[int, int]:
    """Return first slice and end of a rank's part; parts are whole units, even but for one unit.

    Raises
    ------
    ValueError
        When the slices aren't whole units.
    """
    if slices % unit:
        raise ValueError(f"{slices} slices can't be shared in units of {unit}")
    units = slices // unit
    return unit * (units * rank // world), unit * (units * (rank + 1) // world)


def embedded_over_ranks(
    embedding: PatchEmbedding, image: Tensor, group: dist.ProcessGroup | None = None
) -> Tensor:
    """Return ``embedding(image)``, each process of the group computing the features of some slices.

    Parameters
    ----------
    embedding : PatchEmbedding
        The same weights in every process.
    image : Tensor
        ``(N, C, D, H, W)``, the same volume in every process.
    group : ProcessGroup, optional
        Who shares the work; None: all. Without a distributed run one process does it.

    Notes
    -----
    The gradient is that of the sum of all processes' losses: averaged over the processes, as distributed
    training does, it is that of one process.
    """
    world = dist.get_world_size(group) if dist.is_available() and dist.is_initialized() else 1
    if world == 1 or exporting():
        whole: Tensor = embedding(image)
        return whole
    absent = missing_contrasts(image)
    sizes = [slab(image.shape[2], embedding.unit, rank, world) for rank in range(world)]
    start, stop = sizes[dist.get_rank(group)]
    idle = start == stop
    if idle:
        # More processes than units: this one computes a unit and keeps nothing, so that its graph is the same.
        start, stop = 0, embedding.unit
    piece = slab_of(
        lambda part: embedding.piece(part, absent), image, start, stop, embedding.unit, embedding.stride
    )
    counts = [(last - first) // embedding.stride for first, last in sizes]
    gathered: Tensor = _GatherSlices.apply(piece[:, :, :0] if idle else piece, counts, group)
    return gathered


class _GatherSlices(torch.autograd.Function):
    """All parts of axis 2 in the order of the ranks; the gradient of a part is summed over the processes."""

    @staticmethod
    def forward(ctx: Any, piece: Tensor, counts: list[int], group: dist.ProcessGroup | None) -> Tensor:
        ctx.counts, ctx.group, ctx.rank = counts, group, dist.get_rank(group)
        shape = list(piece.shape)
        shape[2] = max(counts)
        padded = piece.new_zeros(shape)
        padded[:, :, : piece.shape[2]] = piece
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded.contiguous(), group=group)
        return torch.cat([part[:, :, :count] for part, count in zip(parts, counts, strict=True)], dim=2)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        total = gradient.contiguous().clone()
        dist.all_reduce(total, group=ctx.group)
        start = sum(ctx.counts[: ctx.rank])
        return total[:, :, start : start + ctx.counts[ctx.rank]], None, None
