"""B-spline bases of which only the ``order + 1`` non-zero ones are worked out.

A grid of ``cells`` intervals is extended by ``order`` knots on both sides and carries ``cells + order``
bases. Inside the grid the bases sum to 1; on the extension they fade; beyond it they are all zero.

Source: C. de Boor, "On calculating with B-splines", J. Approx. Theory 6, 1972; L. Piegl and W. Tiller,
"The NURBS Book", algorithm A2.2 (the triangle of non-zero bases); M. Unser, "Splines: a perfect fit for
signal and image processing", IEEE Signal Proc. Mag. 1999, equation 3 (the cubic B-spline's closed form).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_INFINITELY_FAR = 4.0
# Numbers at once: in the cache, and below the size from which torch shares one operation between threads.
_PIECE = 30_000


def extended_knots(low: float, high: float, cells: int, order: int) -> Tensor:
    """Return the uniform knots of a grid and its extension, ``(cells + 2·order + 1,)`` float64."""
    step = (high - low) / cells
    return low + step * torch.arange(-order, cells + order + 1, dtype=torch.float64)


def cubic_bases(x: Tensor, low: float, step: float, count: int) -> Tensor:
    """Return all cubic bases on uniform knots in closed form.

    Parameters
    ----------
    x : Tensor
        ``(N, features)``.
    low, step : float
        First point of the grid (not of its extension) and the distance of its points.
    count : int
        Number of bases, ``cells + 3``.

    Returns
    -------
    Tensor
        ``(N, count, features)``. With ``u`` the distance to a basis' centre in steps, its value is
        ``(max(2 - u, 0)³ - 4 max(1 - u, 0)³) / 6``.
    """
    places, centres = _places(x, low, step, count)
    distance = (places - centres).abs()
    outer = (2.0 - distance).clamp_min(0.0)
    inner = (1.0 - distance).clamp_min(0.0)
    return (outer.pow(3) - 4.0 * inner.pow(3)) / 6.0


def _places(x: Tensor, low: float, step: float, count: int) -> tuple[Tensor, Tensor]:
    """The inputs ``(N, 1, features)`` and the bases' centres ``(count, 1)``, in steps from ``low``."""
    # Far beyond the grid the distance is capped: a square of a huge input would be infinite, times zero.
    places = ((x - low) / step).clamp(-_INFINITELY_FAR, count + _INFINITELY_FAR).unsqueeze(1)
    return places, torch.arange(-1, count - 1, dtype=x.dtype, device=x.device).unsqueeze(1)


def fast_cubic_bases(x: Tensor, low: float, step: float, count: int) -> Tensor:
    """Return ``cubic_bases`` for a caller who needs no recorded gradient: in place, in cached pieces."""
    bases = x.new_empty(x.shape[0], count, x.shape[1])
    places, centres = _places(x, low, step, count)
    for rows, piece in _pieces(places, bases):
        distance = (rows - centres).abs_()
        inner = (1.0 - distance).clamp_min_(0.0)
        outer = distance.neg_().add_(2.0).clamp_min_(0.0)
        torch.mul(outer, outer, out=piece).mul_(outer)
        piece.addcmul_(inner * inner, inner, value=-4.0).mul_(1.0 / 6.0)
    return bases


def _pieces(places: Tensor, bases: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut both along the rows so that a piece's intermediates stay in the processor's cache."""
    if places.device.type != "cpu" or not len(places):
        return iter([(places, bases)])
    length = max(1, _PIECE // max(bases[0].numel(), 1))
    return zip(places.split(length), bases.split(length), strict=True)


class CubicSplineLinear(torch.autograd.Function):
    """``Σ over features and bases of basis(x) · weight`` as one matrix product, with its own backward.

    ``apply(x, weight, low, step)``: ``x`` ``(N, in)``, ``weight`` ``(out, count, in)`` → ``(N, out)``.
    The basis matrix is built in place, and the backward pass needs no recorded elementwise operations.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, low: float, step: float) -> Tensor:
        """Return the sums and keep the basis matrix."""
        bases = fast_cubic_bases(x, low, step, weight.shape[1])
        ctx.save_for_backward(x, weight, bases)
        ctx.grid = (low, step)
        return bases.flatten(1) @ weight.flatten(1).t()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        """Return the gradients with respect to ``x`` and ``weight``."""
        x, weight, bases = ctx.saved_tensors
        to_x = to_weight = None
        if ctx.needs_input_grad[1]:
            to_weight = (gradient.t() @ bases.flatten(1)).view_as(weight)
        if ctx.needs_input_grad[0]:
            to_bases = (gradient @ weight.flatten(1)).view_as(bases)
            to_x = _through_slopes(x, to_bases, *ctx.grid)
        return to_x, to_weight, None, None


def _through_slopes(x: Tensor, to_bases: Tensor, low: float, step: float) -> Tensor:
    """Sum ``to_bases`` times the slopes ``sign · (2 max(1 - u, 0)² - max(2 - u, 0)² / 2) / step``."""
    sums = []
    places, centres = _places(x, low, step, to_bases.shape[1])
    for rows, piece in _pieces(places, to_bases):
        offsets = rows - centres
        distance = offsets.abs()
        inner = (1.0 - distance).clamp_min_(0.0)
        outer = distance.neg_().add_(2.0).clamp_min_(0.0)
        slopes = inner.mul_(inner).mul_(2.0).addcmul_(outer, outer, value=-0.5)
        sums.append(slopes.mul_(offsets.sign_()).mul_(piece).sum(1))
    return torch.cat(sums).div_(step)


def local_bases(x: Tensor, knots: Tensor, order: int) -> tuple[Tensor, Tensor]:
    """Return the bases that aren't zero at ``x``, by the Cox–de Boor recursion inside its interval.

    Parameters
    ----------
    x : Tensor
        ``(N, features)``.
    knots : Tensor
        ``(features, K)``, strictly increasing along the last axis.
    order : int
        Degree of the pieces.

    Returns
    -------
    first : Tensor
        ``(N, features)`` int64, number of the first of these bases, from ``-order`` (bases below 0 or from
        ``K - order - 1`` on don't exist; their values are to be thrown away).
    values : Tensor
        ``(N, order + 1, features)``; zero where ``x`` is outside of the knots. Differentiable by ``x`` and
        ``knots``.
    """
    padded = _padded(knots, order)
    count = knots.shape[1]
    place = x.detach().unsqueeze(-1)
    span = (place >= padded.detach()).sum(-1) - 1
    inside = (span >= order) & (span < order + count - 1)
    span = span.clamp(order, order + count - 2)
    steps = torch.arange(1 - order, order + 1, device=x.device)
    window = padded.expand(x.shape[0], -1, -1).gather(2, span.unsqueeze(-1) + steps)
    near = window.unbind(-1)
    where = torch.where(inside, x, near[max(order - 1, 0)] if order else x)
    values = [torch.ones_like(where)]
    for degree in range(1, order + 1):
        saved = torch.zeros_like(where)
        following = []
        for index in range(degree):
            right = near[order + index]
            left = near[order - degree + index]
            share = values[index] / (right - left)
            following.append(saved + (right - where) * share)
            saved = (where - left) * share
        values = [*following, saved]
    stacked = torch.stack(values, dim=1) * inside.unsqueeze(1)
    return span - 2 * order, stacked


def _padded(knots: Tensor, order: int) -> Tensor:
    """The knots with ``order`` more on both sides, so that each interval has a full neighbourhood."""
    if order == 0:
        return knots
    steps = torch.arange(1, order + 1, dtype=knots.dtype, device=knots.device)
    below = knots[:, :1] - (knots[:, 1:2] - knots[:, :1]) * steps.flip(0)
    above = knots[:, -1:] + (knots[:, -1:] - knots[:, -2:-1]) * steps
    return torch.cat([below.detach(), knots, above.detach()], dim=1)


def spline_bases(x: Tensor, knots: Tensor, order: int) -> Tensor:
    """Return all bases ``(N, K - order - 1, features)`` on any increasing knots ``(features, K)``."""
    first, values = local_bases(x, knots, order)
    count = knots.shape[1] - order - 1
    row = torch.arange(order + 1, device=x.device).unsqueeze(-1)
    places = first.unsqueeze(1) + order + row
    dense = values.new_zeros(x.shape[0], count + 2 * order, x.shape[1])
    return dense.scatter(1, places, values)[:, order : order + count]


def interval_knots(first: Tensor, raw: Tensor) -> Tensor:
    """Return increasing knots ``(features, K)`` from a first knot ``(features,)`` and raw increments.

    The increments are ``softplus(raw)``, ``raw`` being ``(features, K - 1)``, so the order of the knots
    can't be lost in training.
    """
    increments = torch.nn.functional.softplus(raw)
    return torch.cat([first.unsqueeze(1), first.unsqueeze(1) + increments.cumsum(1)], dim=1)


def raw_increments(knots: Tensor) -> Tensor:
    """Return the ``raw`` of ``interval_knots`` for given knots: the inverse of softplus."""
    increments = knots.diff(dim=1)
    return increments + torch.log(-torch.expm1(-increments))


def quantile_knots(x: Tensor, cells: int, order: int, *, blend: float, margin: float) -> Tensor:
    """Return knots that follow the distribution of a sample.

    Parameters
    ----------
    x : Tensor
        ``(N, features)``, N at least 2.
    cells, order : int
        See the module.
    blend : float
        Share of the uniform grid in the result, in (0, 1]: 0 would let equal values collapse an interval.
    margin : float
        What the uniform grid reaches beyond the smallest and largest value.

    Returns
    -------
    Tensor
        ``(features, cells + 2·order + 1)``.

    Notes
    -----
    Source: Z. Liu et al., "KAN: Kolmogorov-Arnold Networks", arXiv 2404.19756, section 2.2 and appendix
    (grids are updated from the activations; adaptive and uniform grids are mixed).
    """
    ordered = x.sort(dim=0).values
    picks = torch.linspace(0, x.shape[0] - 1, cells + 1, device=x.device).round().long()
    adaptive = ordered[picks].t()
    low, high = ordered[:1].t() - margin, ordered[-1:].t() + margin
    step = (high - low) / cells
    uniform = low + step * torch.arange(cells + 1, dtype=x.dtype, device=x.device)
    grid = blend * uniform + (1.0 - blend) * adaptive
    outside = torch.arange(1, order + 1, dtype=x.dtype, device=x.device)
    return torch.cat([grid[:, :1] - step * outside.flip(0), grid, grid[:, -1:] + step * outside], dim=1)
