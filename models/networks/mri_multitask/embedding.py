"""Patch embedding of a volume, in chunks of slices where memory is short.

A chunk is read with as many neighbouring slices as its convolutions see (the halo), and what the halo's rim
gave is cut away: the features are those of the whole volume.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.mri_multitask.memory import MemoryPolicy, bytes_of, saved
from models.networks.mri_multitask.tracing import exporting


class PatchEmbedding(nn.Module):
    """Features of overlapping or separate patches, at one or several resolutions, with absent contrasts named.

    Parameters
    ----------
    in_channels : int
        Contrasts.
    width : int
        Channels of the features.
    stride : int
        Voxels per step along each axis.
    overlap : bool
        Patches of ``2 * stride - 1`` voxels that overlap, or of ``stride`` voxels that don't.
    scales : sequence of int
        Resolutions that are fused: 1 is the image, 2 its mean over 2³ voxels, and so on. Each must divide the
        stride or be a multiple of it.
    policy : MemoryPolicy, optional
        When to work in chunks of slices.

    Notes
    -----
    Input ``(N, in_channels, D, H, W)``, sizes multiples of ``unit``; output ``(N, width, D / stride, …)``. A
    channel that is zero everywhere counts as a contrast that wasn't taken: its learnt vector is added. Nothing is
    normalised here: a normalisation over the volume would see more than a chunk, one over the channels of each voxel
    would lose how bright the voxel is.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        stride: int = 2,
        overlap: bool = True,
        scales: Sequence[int] = (1,),
        policy: MemoryPolicy | None = None,
    ) -> None:
        super().__init__()
        for scale in scales:
            if scale < 1 or (stride % scale and scale % stride):
                raise ValueError(
                    f"the scale {scale} neither divides the stride {stride} nor is a multiple of it"
                )
        self.stride, self.scales, self.width = stride, tuple(scales), width
        self.unit = math.lcm(stride, *scales)
        self.policy = policy or MemoryPolicy()
        self.branches = nn.ModuleList(self._branch(in_channels, scale, overlap) for scale in scales)
        many = len(self.scales) > 1
        self.mix = nn.Conv3d(width * len(self.scales), width, 1, bias=False) if many else nn.Identity()
        self.missing = nn.Parameter(torch.randn(in_channels, width) * 0.02)
        self.activation = nn.GELU()

    def _branch(self, in_channels: int, scale: int, overlap: bool) -> nn.Conv3d:
        step = max(self.stride // scale, 1)
        if scale > 1 and step == 1:
            return nn.Conv3d(in_channels, self.width, 3, padding=1)
        kernel = 2 * step - 1 if overlap else step
        return nn.Conv3d(in_channels, self.width, kernel, stride=step, padding=step - 1 if overlap else 0)

    def forward(self, image: Tensor, again: bool = False) -> Tensor:
        """Return the features of the whole volume, computed in one piece or in chunks.

        ``again``: compute them again for the gradient, as chunks always are.
        """
        absent = missing_contrasts(image)
        if exporting():
            return self.piece(image, absent)
        slices = image.shape[2]
        chunk = self.policy.chunk(slices, self._slice_bytes(image), self.unit, image.device)
        again = again or chunk < slices
        return in_chunks(
            lambda part: self.piece(part, absent), image, chunk, self.unit, self.stride, again=again
        )

    def piece(self, image: Tensor, absent: Tensor) -> Tensor:
        """Return the features of some slices; ``absent`` ``(N, in_channels)`` is that of the whole volume."""
        maps = [self._at(image, index) for index in range(len(self.scales))]
        fused = self.mix(torch.cat(maps, dim=1)) if len(maps) > 1 else maps[0]
        told = absent.to(self.missing.dtype) @ self.missing
        features: Tensor = self.activation(fused + told[:, :, None, None, None].to(fused.dtype))
        return features

    def _at(self, image: Tensor, index: int) -> Tensor:
        scale = self.scales[index]
        coarse = functional.avg_pool3d(image, scale) if scale > 1 else image
        features: Tensor = self.branches[index](coarse)
        if scale > self.stride:
            features = functional.interpolate(
                features, scale_factor=float(scale // self.stride), mode="nearest"
            )
        return features

    def _slice_bytes(self, image: Tensor) -> int:
        rows, columns = image.shape[3] // self.stride, image.shape[4] // self.stride
        maps = 4 + 2 * len(self.scales)
        return bytes_of((image.shape[0], maps * self.width, rows, columns), image) // self.stride


def missing_contrasts(image: Tensor) -> Tensor:
    """Return which channels of ``(N, C, D, H, W)`` are zero everywhere, ``(N, C)`` of the image's type, 0 or 1."""
    return (image.abs().amax(dim=(2, 3, 4)) == 0).to(image.dtype)


def in_chunks(
    function: Callable[[Tensor], Tensor],
    image: Tensor,
    chunk: int,
    halo: int,
    stride: int,
    *,
    again: bool = False,
) -> Tensor:
    """Return ``function(image)``, computed on chunks of slices.

    Parameters
    ----------
    function : callable
        Maps ``(N, C, D, H, W)`` to ``(N, C', D / stride, …)`` and sees at most ``halo`` slices to each side,
        zeros beyond the volume.
    chunk, halo : int
        Input slices, multiples of ``stride`` (of the coarsest resolution inside ``function``).
    again : bool
        Compute each chunk again for the gradient, so that only one chunk's inner values are in memory.

    Raises
    ------
    ValueError
        When chunk or halo is no multiple of the stride.
    """
    slices = image.shape[2]
    if chunk >= slices:
        whole: Tensor = saved(function, image, again=again)
        return whole
    if chunk < 1 or chunk % stride or halo % stride:
        raise ValueError(f"chunks of {chunk} and a halo of {halo} slices must be multiples of {stride}")
    parts = [
        saved(slab_of, function, image, start, min(start + chunk, slices), halo, stride, again=again)
        for start in range(0, slices, chunk)
    ]
    return torch.cat(parts, dim=2)


def slab_of(
    function: Callable[[Tensor], Tensor], image: Tensor, start: int, stop: int, halo: int, stride: int
) -> Tensor:
    """Return the part of ``function(image)`` that belongs to the input slices ``start`` to ``stop``."""
    low, high = max(start - halo, 0), min(stop + halo, image.shape[2])
    features = function(image[:, :, low:high])
    first = (start - low) // stride
    return features[:, :, first : first + (stop - start) // stride]
