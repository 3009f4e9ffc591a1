"""Splines agree with scipy's, and Kolmogorov-Arnold layers with their formula."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline
from torch.nn import functional

from models.networks.mri_multitask.kan import KANHead, KANLayer
from models.networks.mri_multitask.splines import (
    CubicSplineLinear,
    cubic_bases,
    extended_knots,
    fast_cubic_bases,
    interval_knots,
    local_bases,
    quantile_knots,
    raw_increments,
    spline_bases,
)


def by_scipy(x, knots, order):
    """``(N, count, features)``, zero outside of each basis' support."""
    columns = []
    for feature, row in enumerate(np.asarray(knots, dtype=np.float64)):
        bases = [
            BSpline.basis_element(row[i : i + order + 2], extrapolate=False)(x[:, feature].double().numpy())
            for i in range(len(row) - order - 1)
        ]
        columns.append(np.nan_to_num(np.stack(bases, axis=1)))
    return torch.from_numpy(np.stack(columns, axis=2))


def uniform(features, low=-1.0, high=1.0, cells=5, order=3):
    return extended_knots(low, high, cells, order).expand(features, -1)


def random_knots(features, order, cells=6):
    generator = torch.Generator().manual_seed(3)
    steps = 0.1 + torch.rand(features, cells + 2 * order, generator=generator, dtype=torch.float64)
    return interval_knots(torch.linspace(-3.0, -2.0, features).double(), raw_increments_of(steps))


def raw_increments_of(steps):
    return raw_increments(torch.cat([torch.zeros(len(steps), 1), steps.cumsum(1)], dim=1))


def inputs(rows, features, reach=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(rows, features, generator=generator) * 2.0 - 1.0) * reach


@pytest.mark.parametrize("bases", [cubic_bases, fast_cubic_bases])
@pytest.mark.parametrize("rows", [1, 7, 2500])
def test_the_closed_form_is_scipys_spline(bases, rows):
    x = inputs(rows, 3, reach=3.0)
    found = bases(x, -1.0, 0.4, 8)
    assert (found - by_scipy(x, uniform(3), 3)).abs().max() <= 1e-6


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_recursion_is_scipys_spline_on_uniform_and_random_knots(order):
    x = inputs(400, 3, reach=2.0)
    for knots in (uniform(3, order=order), random_knots(3, order)):
        found = spline_bases(x.double(), knots, order)
        assert (found - by_scipy(x, knots, order)).abs().max() <= 1e-6
    single = spline_bases(x, uniform(3, order=order).float(), order)
    assert (single - by_scipy(x, uniform(3, order=order).float(), order)).abs().max() <= 1e-6


def test_the_closed_form_is_the_recursion():
    x = inputs(300, 4, reach=2.5).double()
    assert torch.allclose(cubic_bases(x, -1.0, 0.4, 8), spline_bases(x, uniform(4), 3), atol=1e-12)


def test_the_bases_sum_to_one_inside_the_grid_and_vanish_beyond_the_extension():
    x = inputs(500, 2)
    ones = torch.ones(500, 2)
    assert torch.allclose(cubic_bases(x, -1.0, 0.4, 8).sum(1), ones, atol=1e-6)
    assert torch.allclose(spline_bases(x, uniform(2).float(), 3).sum(1), ones, atol=1e-6)
    far = torch.tensor([[-2.3], [2.3], [1e30], [-1e30]])
    assert cubic_bases(far, -1.0, 0.4, 8).abs().max() == 0.0
    assert spline_bases(far, uniform(1).float(), 3).abs().max() == 0.0


def test_a_basis_is_non_zero_only_on_its_four_intervals():
    x = torch.linspace(-2.2, 2.2, 1201).unsqueeze(1)
    knots = uniform(1)[0]
    found = cubic_bases(x, -1.0, 0.4, 8)[:, :, 0]
    assert ((found > 0).sum(1) <= 4).all()
    for index in range(8):
        inside = (x[:, 0] > knots[index] + 1e-5) & (x[:, 0] < knots[index + 4] - 1e-5)
        outside = (x[:, 0] < knots[index] - 1e-5) | (x[:, 0] > knots[index + 4] + 1e-5)
        assert (found[outside, index] == 0).all() and (found[inside, index] > 0).all()
    first, values = local_bases(x, uniform(1).float(), 3)
    assert values.shape == (1201, 4, 1) and first.min() >= -3


def test_gradients_of_the_fused_product_are_right():
    torch.manual_seed(0)
    x = (inputs(9, 3, reach=1.9).double() + 1e-3).requires_grad_(True)
    weight = torch.randn(2, 8, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x, weight: CubicSplineLinear.apply(x, weight, -1.0, 0.4), (x, weight)
    )


@pytest.mark.parametrize("order", [2, 3])
def test_gradients_by_inputs_coefficients_knots_and_gates_are_right(order):
    torch.manual_seed(0)
    layer = KANLayer(3, 2, grid=4, order=order, learnable_knots=True, gated=True).double()
    x = (inputs(6, 3, reach=1.4, seed=5).double()).requires_grad_(True)
    names = [name for name, _ in layer.named_parameters()]
    assert {"coefficients", "gates", "first_knot", "raw_increments", "base_weight"} == set(names)

    def call(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *layer.parameters()))


@pytest.mark.parametrize("options", [{}, {"gated": True}, {"order": 2}, {"learnable_knots": True}])
def test_a_layer_is_silu_and_scipys_splines(options):
    torch.manual_seed(0)
    layer = KANLayer(4, 3, **options)
    x = inputs(50, 4, reach=1.5)
    bases = by_scipy(x, layer.current_knots().detach(), layer.order).float()
    gates = layer.gate_values()
    weight = layer.coefficients if gates is None else layer.coefficients * gates
    expected = functional.silu(x) @ layer.base_weight.t() + torch.einsum("nbi,obi->no", bases, weight)
    assert torch.allclose(layer(x), expected, atol=1e-6)
    with torch.no_grad():
        assert torch.allclose(layer(x.view(5, 10, 4)), expected.view(5, 10, 3), atol=1e-6)


def test_beyond_the_grid_only_the_base_branch_answers():
    layer = KANLayer(4, 3, noise=5.0)
    far = torch.tensor([[3.0, -3.0, 10.0, 1e20]])
    far.requires_grad_(True)
    found = layer(far)
    found.sum().backward()
    assert torch.allclose(found, functional.silu(far) @ layer.base_weight.t())
    assert far.grad.isfinite().all()


def test_the_first_curves_are_small_and_differ():
    torch.manual_seed(0)
    layer = KANLayer(6, 5, noise=0.1)
    curves = torch.einsum("nbi,obi->nio", layer.basis_matrix(inputs(200, 6)), layer.coefficients)
    assert 0.0 < curves.abs().max() < 0.1 and curves.std() > 1e-3


@pytest.mark.parametrize("options", [{}, {"gated": True}, {"learnable_knots": True}])
def test_moving_the_grid_keeps_what_a_spline_on_both_grids_can_draw(options):
    torch.manual_seed(0)
    layer = KANLayer(3, 2, **options).double()
    x = inputs(400, 3).double().pow(3)
    cubic = torch.stack([x**3 - x, 2.0 * x**2 - 0.5], dim=-1)
    layer.fit(x, cubic)
    before = layer(x)
    layer.update_grid(x)
    knots = layer.current_knots()
    assert torch.allclose(layer(x), before, atol=1e-5)
    assert (knots.diff(dim=1) > 0).all()
    counts = [
        ((x[:, 0] >= a) & (x[:, 0] < b)).sum() for a, b in zip(knots[0, 3:8], knots[0, 4:9], strict=True)
    ]
    assert min(counts) > 60 and max(counts) < 100


def test_a_grid_of_equal_values_stays_increasing():
    knots = quantile_knots(torch.zeros(10, 2).double(), 5, 3, blend=0.02, margin=0.01)
    assert (knots.diff(dim=1) > 0).all()
    with pytest.raises(ValueError, match="1 rows"):
        KANLayer(2, 2).update_grid(torch.zeros(1, 2))


def test_a_moved_grid_survives_saving():
    torch.manual_seed(0)
    layer, x = KANLayer(3, 2), inputs(60, 3)
    layer.update_grid(x.pow(3))
    other = KANLayer(3, 2)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))
    fresh = KANLayer(3, 2)
    other.load_state_dict(fresh.state_dict())
    assert torch.equal(other(x), fresh(x))
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    assert layer.state_dict()["knots"].ndim == 1


@pytest.mark.parametrize("learnable", [False, True])
def test_splines_stay_in_float32_under_autocast(learnable):
    torch.manual_seed(0)
    layer, x = KANLayer(8, 4, noise=1.0, learnable_knots=learnable), inputs(30, 8)
    torch.nn.init.zeros_(layer.base_weight)
    exact = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = layer(x)
    mixed.float().sum().backward()
    assert mixed.dtype == torch.bfloat16
    assert torch.equal(mixed, exact.to(torch.bfloat16))
    assert layer.coefficients.grad.isfinite().all()


def test_training_bends_the_curves_to_a_function():
    torch.manual_seed(0)
    layer = KANLayer(1, 1, grid=8, learnable_knots=True, gated=True)
    x = torch.linspace(-1.0, 1.0, 100).unsqueeze(1)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.03)
    for _ in range(250):
        optimiser.zero_grad()
        loss = (layer(x) - torch.sin(4.0 * x)).square().mean()
        loss.backward()
        optimiser.step()
    assert loss < 1e-3


def test_impossible_grids_are_refused():
    with pytest.raises(ValueError, match="0 intervals"):
        KANLayer(2, 2, grid=0)
    with pytest.raises(ValueError, match="range"):
        KANLayer(2, 2, range=(1.0, -1.0))


def test_a_head_keeps_its_inputs_on_the_grid():
    torch.manual_seed(0)
    head = KANHead(32, 3, hidden=(16,))
    seen = []
    head.layers[0].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    assert head(100.0 * torch.randn(200, 32) + 7.0).shape == (200, 3)
    assert (seen[0].abs() <= 1.0).float().mean() > 0.9
