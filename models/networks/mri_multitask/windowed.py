"""Attention inside windows, of sequences and of volumes: the cost grows with ``n · w``, not ``n²``.

Source: I. Beltagy et al., "Longformer", arXiv 2004.05150 (windows over sequences); Z. Liu et al., "Swin
Transformer", ICCV 2021, section 3.2 (shifted windows, masks where they wrap, relative position bias).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.mri_multitask.attention import Kernel, attend, check_heads
from models.networks.mri_multitask.tracing import exporting

Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Bias = Literal["relative", "dense", "none"]


def relative_index(window: Sequence[int]) -> Tensor:
    """Return ``(w, w)`` int64: for each pair of positions in a window the number of their offset.

    Parameters
    ----------
    window : sequence of int
        Lengths of the window's axes; ``w`` is their product, and the offsets number ``Π (2·length - 1)``.
    """
    axes = [torch.arange(length) for length in window]
    places = torch.cartesian_prod(*axes).reshape(-1, len(window))
    offsets = places[:, None] - places[None]
    index = torch.zeros(offsets.shape[:2], dtype=torch.int64)
    for axis, length in enumerate(window):
        index = index * (2 * length - 1) + offsets[..., axis] + length - 1
    return index


class WindowBias(nn.Module):
    """A learnt score for each head and each pair of positions in a window.

    Parameters
    ----------
    window : sequence of int
        Lengths of the window's axes.
    heads : int
        Number of heads.
    kind : Bias
        ``relative``: pairs with the same offset share one number; ``dense``: each pair has its own;
        ``none``: no bias.
    """

    index: Tensor

    def __init__(self, window: Sequence[int], heads: int, kind: Bias = "relative") -> None:
        super().__init__()
        if kind not in get_args(Bias):
            raise ValueError(f"The bias of a window is one of {get_args(Bias)}, not {kind!r}.")
        self.kind = kind
        size = math.prod(window)
        if kind == "relative":
            self.table = nn.Parameter(torch.zeros(heads, math.prod(2 * length - 1 for length in window)))
            self.register_buffer("index", relative_index(window), persistent=False)
        elif kind == "dense":
            self.table = nn.Parameter(torch.zeros(heads, size, size))
        if kind != "none":
            nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self) -> Tensor | None:
        """Return ``(heads, w, w)``, or None without a bias."""
        if self.kind == "none":
            return None
        return self.table[:, self.index] if self.kind == "relative" else self.table


def fold(x: Tensor, window: Sequence[int]) -> Tensor:
    """Cut ``(N, *grid, c)``, whole windows along each axis, to ``(N, windows, w, c)``."""
    counts = [size // length for size, length in zip(x.shape[1:-1], window, strict=True)]
    axes = len(window)
    pairs = [number for pair in zip(counts, window, strict=True) for number in pair]
    split = x.reshape(x.shape[0], *pairs, x.shape[-1])
    order = [0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1]
    return split.permute(order).reshape(x.shape[0], math.prod(counts), math.prod(window), x.shape[-1])


def unfold(windows: Tensor, window: Sequence[int], grid: Sequence[int]) -> Tensor:
    """Put ``(N, windows, w, c)`` together again to ``(N, *grid, c)``."""
    counts = [size // length for size, length in zip(grid, window, strict=True)]
    axes = len(window)
    split = windows.reshape(windows.shape[0], *counts, *window, windows.shape[-1])
    order = [0, *(number for axis in range(axes) for number in (1 + axis, 1 + axes + axis)), 2 * axes + 1]
    return split.permute(order).reshape(windows.shape[0], *grid, windows.shape[-1])


@lru_cache(maxsize=32)
def window_masks(
    grid: tuple[int, ...], padded: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...]
) -> list[tuple[Numbers, Flags | None]]:
    """Return which windows share a mask, and the masks.

    Parameters
    ----------
    grid, padded : tuple of int
        Sizes of the axes before and after padding to whole windows.
    window, shift : tuple of int
        Lengths of the windows' axes, and how far the padded grid is rolled back.

    Returns
    -------
    list of (ndarray, ndarray or None)
        Numbers of windows ``(g,)`` int64, and ``(w, w)`` boolean: True where both positions are real and
        were neighbours before the roll; each position sees itself, so that no row is empty. None: all True.
        Only the last two windows along an axis can differ: the wrap is in the last one, and the padding before
        it may reach into the one before.
    """
    counts = [size // length for size, length in zip(padded, window, strict=True)]
    numbers = np.arange(math.prod(counts)).reshape(counts)
    kinds = [_axis_kinds(*axis) for axis in zip(grid, padded, window, shift, strict=True)]
    groups = []
    for kind in itertools.product(*kinds):
        where = np.ix_(*(places for places, _, _ in kind))
        groups.append((numbers[where].reshape(-1), _pattern([k[1] for k in kind], [k[2] for k in kind])))
    return groups


def _axis_kinds(size: int, whole: int, length: int, roll: int) -> list[tuple[Numbers, Flags, Flags]]:
    """Group the windows along one axis: their places, and per position whether it wrapped and is real."""
    rolled = np.arange(whole).reshape(-1, length)
    wrapped = rolled >= whole - roll
    # Padding stands at the end before the roll: in the rolled grid just before what wrapped.
    real = (rolled + roll) % whole < size
    both, kind = np.unique(np.concatenate([wrapped, real], axis=1), axis=0, return_inverse=True)
    return [
        (np.flatnonzero(kind.reshape(-1) == number), row[:length], row[length:])
        for number, row in enumerate(both)
    ]


def _pattern(wrapped: Sequence[Flags], real: Sequence[Flags]) -> Flags | None:
    """Return the mask of a window from its axes; None when it hides nothing."""
    region = np.stack(np.meshgrid(*wrapped, indexing="ij"), axis=-1).reshape(-1, len(wrapped))
    seen = np.stack(np.meshgrid(*real, indexing="ij"), axis=-1).reshape(-1, len(real)).all(axis=1)
    together = (region[:, None] == region[None]).all(axis=-1)
    mask: Flags = (together & np.asarray(seen)[None]) | np.eye(len(region), dtype=np.bool_)
    return None if mask.all() else mask


class WindowedAttention(nn.Module):
    """Multi-head attention inside windows of a grid ``(N, *grid, width)``.

    Parameters
    ----------
    width, heads : int
        Features per position, and the heads that share them.
    window : sequence of int
        Lengths of the window along each axis of the grid.
    shift : sequence of int, optional
        How far the windows are moved, per axis, in [0, window); ignored along an axis that fits one window.
    bias : Bias
        See ``WindowBias``.
    qkv_bias, dropout, projection_dropout, kernel
        As in ``MultiHeadAttention``.

    Notes
    -----
    A grid that isn't whole windows is padded; nobody looks at the padding.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        window: Sequence[int],
        *,
        shift: Sequence[int] | None = None,
        bias: Bias = "relative",
        qkv_bias: bool = True,
        dropout: float = 0.0,
        projection_dropout: float = 0.0,
        kernel: Kernel = "auto",
    ) -> None:
        super().__init__()
        check_heads(width, heads, kernel)
        self.heads, self.dropout, self.kernel = heads, dropout, kernel
        self.window = tuple(window)
        self.shift = tuple(shift) if shift is not None else (0,) * len(self.window)
        if any(not 0 <= move < length for move, length in zip(self.shift, self.window, strict=True)):
            raise ValueError(f"A window of {self.window} can't be shifted by {self.shift}.")
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.bias = WindowBias(self.window, heads, bias)
        self.projection = nn.Linear(width, width)
        self.projection_dropout = nn.Dropout(projection_dropout)

    @property
    def draws_randomness(self) -> bool:
        """Whether a forward pass takes random numbers now."""
        return self.training and self.dropout > 0.0

    def forward(self, x: Tensor, key_padding_mask: Tensor | None = None) -> Tensor:
        """Return the attended grid.

        Parameters
        ----------
        x : Tensor
            ``(N, *grid, width)``.
        key_padding_mask : Tensor, optional
            ``(N, *grid)`` boolean, True where nobody may look.

        Returns
        -------
        Tensor
            ``(N, *grid, width)``.
        """
        grid = tuple(int(size) for size in x.shape[1:-1])
        padded = tuple(-(-size // length) * length for size, length in zip(grid, self.window, strict=True))
        shift = tuple(
            0 if whole <= length else move
            for whole, length, move in zip(padded, self.window, self.shift, strict=True)
        )
        windows = fold(self._arranged(self.qkv(x), padded, shift), self.window)
        groups = window_masks(grid, padded, self.window, shift)
        hidden = None
        if key_padding_mask is not None:
            hidden = fold(self._arranged(key_padding_mask.unsqueeze(-1), padded, shift), self.window)
        attended = self._attended(windows, groups, hidden)
        whole = unfold(attended, self.window, padded)
        if any(shift):
            whole = whole.roll(shift, tuple(range(1, len(shift) + 1)))
        for axis, size in enumerate(grid):
            whole = whole.narrow(axis + 1, 0, size)
        result: Tensor = self.projection_dropout(self.projection(whole))
        return result

    def _arranged(self, x: Tensor, padded: Sequence[int], shift: Sequence[int]) -> Tensor:
        """Pad ``(N, *grid, c)`` at the end of each axis and roll it back by the shift."""
        pads = [
            number for size, whole in zip(x.shape[1:-1], padded, strict=True) for number in (whole - size, 0)
        ]
        if any(pads):
            x = functional.pad(x, [0, 0, *reversed(pads)])
        if any(shift):
            x = x.roll([-move for move in shift], tuple(range(1, len(shift) + 1)))
        return x

    def _attended(
        self, windows: Tensor, groups: list[tuple[Numbers, Flags | None]], hidden: Tensor | None
    ) -> Tensor:
        """Attend in ``(N, windows, w, 3·width)``, one call per group of windows with the same mask."""
        bias = self.bias()
        if bias is not None:
            bias = bias.to(windows.dtype)
        masks = [None if mask is None else torch.from_numpy(mask).to(windows.device) for _, mask in groups]
        if len(groups) == 1 or all(mask is None for mask in masks):
            return self._group(windows, bias, masks[-1], hidden)
        parts = []
        for (numbers, _), mask in zip(groups, masks, strict=True):
            chosen = torch.from_numpy(numbers).to(windows.device)
            parts.append(
                self._group(windows[:, chosen], bias, mask, None if hidden is None else hidden[:, chosen])
            )
        order = np.argsort(np.concatenate([numbers for numbers, _ in groups]))
        return torch.cat(parts, dim=1)[:, torch.from_numpy(order).to(windows.device)]

    def _group(
        self, windows: Tensor, bias: Tensor | None, allowed: Tensor | None, hidden: Tensor | None
    ) -> Tensor:
        """Attend in ``(N, g, w, 3·width)`` with ``allowed`` ``(w, w)`` and ``hidden`` ``(N, g, w, 1)``."""
        split = windows.flatten(0, 1).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)
        visible = None if allowed is None else allowed[None, None]
        if hidden is not None:
            own = torch.eye(windows.shape[2], dtype=torch.bool, device=windows.device)
            seen = ~hidden.flatten(0, 1).squeeze(-1)[:, None, None, :]
            visible = (seen if visible is None else visible & seen) | own
        if bias is None:
            mask = visible
        else:
            mask = bias[None]
            if visible is not None:
                mask = mask.masked_fill(~visible, float("-inf"))
        attended = attend(query, key, value, mask, self.dropout if self.training else 0.0, self.kernel)
        if exporting():
            # The exporter takes the memory layout of one kernel for that of another: join the heads by a copy.
            return torch.cat(attended.unbind(1), dim=-1).unflatten(0, windows.shape[:2])
        return attended.transpose(1, 2).flatten(2).unflatten(0, windows.shape[:2])


class WindowedAttention1d(WindowedAttention):
    """``WindowedAttention`` over sequences ``(N, n, width)``; ``window`` and ``shift`` are numbers of tokens."""

    def __init__(
        self,
        width: int,
        heads: int,
        window: int,
        *,
        shift: int = 0,
        bias: Bias = "relative",
        qkv_bias: bool = True,
        dropout: float = 0.0,
        projection_dropout: float = 0.0,
        kernel: Kernel = "auto",
    ) -> None:
        super().__init__(
            width,
            heads,
            (window,),
            shift=(shift,),
            bias=bias,
            qkv_bias=qkv_bias,
            dropout=dropout,
            projection_dropout=projection_dropout,
            kernel=kernel,
        )


class WindowedAttention3d(WindowedAttention):
    """``WindowedAttention`` over volumes ``(N, D, H, W, width)``; one length serves all three axes.

    ``shifted`` moves the windows by half their length, as every second block of a Swin network does.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        window: int | tuple[int, int, int],
        *,
        shifted: bool = False,
        bias: Bias = "relative",
        qkv_bias: bool = True,
        dropout: float = 0.0,
        projection_dropout: float = 0.0,
        kernel: Kernel = "auto",
    ) -> None:
        lengths = (window,) * 3 if isinstance(window, int) else window
        super().__init__(
            width,
            heads,
            lengths,
            shift=tuple(length // 2 for length in lengths) if shifted else None,
            bias=bias,
            qkv_bias=qkv_bias,
            dropout=dropout,
            projection_dropout=projection_dropout,
            kernel=kernel,
        )
