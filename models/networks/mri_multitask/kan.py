"""Kolmogorov-Arnold layers: a learnt curve on each connection.

Source: Z. Liu et al., "KAN: Kolmogorov-Arnold Networks", arXiv 2404.19756, equations 2.10 to 2.12:
``φ(x) = w_b · silu(x) + Σ c_i B_i(x)``, the outputs being sums of ``φ`` over the inputs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.mri_multitask.splines import (
    CubicSplineLinear,
    cubic_bases,
    extended_knots,
    fast_cubic_bases,
    interval_knots,
    quantile_knots,
    raw_increments,
    spline_bases,
)
from models.networks.mri_multitask.tracing import exporting

_OPEN_GATE = 2.0
_FEATURES_AT_ONCE = 32


class KANLayer(nn.Module):
    """Curves from each of ``in_features`` to each of ``out_features``.

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the last axis before and after.
    grid : int
        Number of intervals of the grid.
    order : int
        Degree of the splines.
    range : tuple of float
        First and last point of the grid.
    learnable_knots : bool
        Whether the knots are trained, each input having its own.
    gated : bool
        Whether each basis of each input has a gate ``sigmoid(g)``, with which training can choose bases.
    noise : float
        Size of the random curves at the start.

    Notes
    -----
    Within the grid the bases sum to 1. Beyond it they fade over ``order`` intervals, and beyond these all
    are zero: only the base branch ``w_b · silu(x)`` answers, as in the paper's design.
    Knots are kept in one dimension, which neither weight decay nor eight-bit storage touches.
    The splines are always worked out in at least float32, also under autocast. On the uniform cubic grid
    (the default) there is no second derivative.
    """

    knots: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        grid: int = 5,
        order: int = 3,
        range: tuple[float, float] = (-1.0, 1.0),
        learnable_knots: bool = False,
        gated: bool = False,
        noise: float = 0.1,
    ) -> None:
        super().__init__()
        if grid < 1 or order < 1 or not range[0] < range[1]:
            raise ValueError(f"No spline has {grid} intervals of degree {order} on the range {range}.")
        self.in_features, self.out_features = in_features, out_features
        self.grid, self.order, self.range = grid, order, range
        self.bases = grid + order
        self.base_weight = nn.Parameter(torch.empty(out_features, in_features))
        self.coefficients = nn.Parameter(torch.zeros(out_features, self.bases, in_features))
        self.gates = nn.Parameter(torch.full((self.bases, in_features), _OPEN_GATE)) if gated else None
        knots = self._first_knots().float()
        self.learnable_knots = learnable_knots
        if learnable_knots:
            self.first_knot = nn.Parameter(knots[:, 0].clone())
            self.raw_increments = nn.Parameter(raw_increments(knots).flatten())
        else:
            self.register_buffer("knots", knots.flatten())
        self._uniform = not learnable_knots
        self.reset_parameters(noise)

    def reset_parameters(self, noise: float = 0.1) -> None:
        """Draw the base weights, and fit the coefficients to small random curves by least squares."""
        nn.init.kaiming_uniform_(self.base_weight, a=5**0.5)
        if self.base_weight.is_meta:
            return
        low, high = self.range
        points = torch.linspace(low, high, self.grid + 1, dtype=torch.float64)
        points = points.unsqueeze(1).expand(-1, self.in_features)
        # The last point of the grid belongs to the extension's first interval and is inside the knots.
        curves = torch.rand(self.grid + 1, self.in_features, self.out_features) - 0.5
        self.fit(points, curves.double() * (noise / self.grid))

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(…, out_features)`` of ``x`` ``(…, in_features)``."""
        rows = x.reshape(-1, self.in_features)
        base = functional.linear(functional.silu(rows), self.base_weight)
        if torch.is_autocast_enabled(rows.device.type):
            with torch.autocast(rows.device.type, enabled=False):
                spline = self._spline(rows)
        else:
            spline = self._spline(rows)
        return (base + spline.to(base.dtype)).reshape(*x.shape[:-1], self.out_features)

    def current_knots(self) -> Tensor:
        """Return the knots ``(in_features, grid + 2·order + 1)``, differentiable when they are learnt."""
        if self.learnable_knots:
            return interval_knots(self.first_knot, self.raw_increments.unflatten(0, (self.in_features, -1)))
        return self.knots.unflatten(0, (self.in_features, -1))

    def basis_matrix(self, x: Tensor) -> Tensor:
        """Return the bases ``(N, grid + order, in_features)`` at ``x`` ``(N, in_features)``, without gates."""
        if self._closed_form:
            low, high = self.range
            recorded = torch.is_grad_enabled() or exporting()
            bases = cubic_bases if recorded else fast_cubic_bases
            return bases(x, low, (high - low) / self.grid, self.bases)
        return spline_bases(x, self.current_knots().to(x.dtype), self.order)

    def gate_values(self) -> Tensor | None:
        """Return the gates ``(grid + order, in_features)`` in (0, 1), or None without gates."""
        return None if self.gates is None else torch.sigmoid(self.gates)

    @torch.no_grad()
    def fit(self, x: Tensor, curves: Tensor) -> None:
        """Set the coefficients so that the splines pass the given values, by least squares.

        Parameters
        ----------
        x : Tensor
            ``(N, in_features)``.
        curves : Tensor
            ``(N, in_features, out_features)``, value of each connection's spline at ``x``.
        """
        for start in range(0, self.in_features, _FEATURES_AT_ONCE):
            part = slice(start, start + _FEATURES_AT_ONCE)
            self._fit_part(x, curves[:, part], part)

    @torch.no_grad()
    def update_grid(self, x: Tensor, *, blend: float = 0.02, margin: float = 0.01) -> None:
        """Move the knots to the quantiles of ``x`` ``(…, in_features)`` and keep the curves.

        Parameters
        ----------
        x : Tensor
            A sample of the layer's inputs; at least two rows.
        blend, margin : float
            See ``quantile_knots``.

        Raises
        ------
        ValueError
            If ``x`` has fewer than two rows, or ``blend`` isn't in (0, 1].
        """
        rows = x.reshape(-1, self.in_features).double()
        if rows.shape[0] < 2 or not 0.0 < blend <= 1.0:
            raise ValueError(f"A grid can't be drawn from {rows.shape[0]} rows with a blend of {blend}.")
        knots = quantile_knots(rows, self.grid, self.order, blend=blend, margin=margin)
        matrix = self._gated(self.basis_matrix(rows))
        coefficients = self.coefficients.double()
        self._set_knots(knots)
        for start in range(0, self.in_features, _FEATURES_AT_ONCE):
            part = slice(start, start + _FEATURES_AT_ONCE)
            curves = torch.einsum("nbi,obi->nio", matrix[:, :, part], coefficients[:, :, part])
            self._fit_part(rows, curves, part)

    @property
    def _closed_form(self) -> bool:
        return self._uniform and self.order == 3

    def _spline(self, rows: Tensor) -> Tensor:
        dtype = torch.promote_types(self.coefficients.dtype, torch.float32)
        rows, weight = rows.to(dtype), self.coefficients.to(dtype)
        gates = self.gate_values()
        if gates is not None:
            weight = weight * gates.to(dtype)
        if self._closed_form and torch.is_grad_enabled() and not exporting():
            low, high = self.range
            result: Tensor = CubicSplineLinear.apply(rows, weight, low, (high - low) / self.grid)
            return result
        return functional.linear(self.basis_matrix(rows).flatten(1), weight.flatten(1))

    def _gated(self, matrix: Tensor) -> Tensor:
        gates = self.gate_values()
        return matrix if gates is None else matrix * gates.to(matrix.dtype)

    def _fit_part(self, x: Tensor, curves: Tensor, part: slice) -> None:
        matrix = self._gated(self.basis_matrix(x.double()))[:, :, part]
        left = matrix.permute(2, 0, 1).cpu()
        right = curves.double().permute(1, 0, 2).cpu()
        found = torch.linalg.lstsq(left, right, driver="gelsd").solution
        self.coefficients[:, :, part] = found.permute(2, 1, 0).to(self.coefficients)

    def _first_knots(self) -> Tensor:
        return extended_knots(*self.range, self.grid, self.order).expand(self.in_features, -1).clone()

    def _set_knots(self, knots: Tensor) -> None:
        if self.learnable_knots:
            self.first_knot.copy_(knots[:, 0])
            self.raw_increments.copy_(raw_increments(knots).flatten())
        else:
            self.knots.copy_(knots.flatten())
            self._uniform = False

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        if not self.learnable_knots:
            uniform = self._first_knots().flatten().to(self.knots)
            self._uniform = bool(torch.allclose(self.knots, uniform, rtol=1e-5, atol=1e-5))


class KANHead(nn.Module):
    """A task head: normalised features through Kolmogorov-Arnold layers.

    Parameters
    ----------
    in_features, out_features : int
        Sizes of the last axis before and after.
    hidden : sequence of int
        Widths between.
    dropout : float
        Share of the features dropped before each layer during training.
    **options
        Passed to each ``KANLayer``.

    Notes
    -----
    Each layer's input is normalised and halved, so that nearly all of it (two standard deviations) lies
    on the grid from -1 to 1.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        hidden: Sequence[int] = (64,),
        dropout: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__()
        widths = (in_features, *hidden, out_features)
        pairs = list(itertools.pairwise(widths))
        norms = [nn.LayerNorm(width) for width, _ in pairs]
        self.layers = nn.ModuleList(KANLayer(*pair, **options) for pair in pairs)
        self.dropout = nn.Dropout(dropout)
        for norm in norms:
            nn.init.constant_(norm.weight, 0.5)
        self.norms = nn.ModuleList(norms)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(…, out_features)`` of ``x`` ``(…, in_features)``."""
        for norm, layer in zip(self.norms, self.layers, strict=True):
            x = layer(self.dropout(norm(x)))
        return x
