"""Losses against their papers' formulas, written again in numpy, and against finite differences."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from core.compute.training.losses.registry import build_loss

Array = np.ndarray


def case(shape: tuple[int, ...] = (6, 7), classes: int = 3, count: int = 2) -> tuple[Tensor, Tensor]:
    """Return float64 logits (N, C, …) and labels (N, …) in which every class occurs in every item."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, classes, (count, *shape))
    labels.reshape(count, -1)[:, :classes] = np.arange(classes)
    logits = rng.normal(size=(count, classes, *shape)) * 2
    return torch.from_numpy(logits), torch.from_numpy(labels)


def softmax(logits: Tensor) -> Array:
    raw = np.exp(logits.numpy() - logits.numpy().max(axis=1, keepdims=True))
    return raw / raw.sum(axis=1, keepdims=True)


def onehot(labels: Tensor, classes: int) -> Array:
    return np.moveaxis(np.eye(classes)[labels.numpy()], -1, 1)


def flat(values: Array) -> Array:
    """Return (C, everything else)."""
    return np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)


@pytest.mark.parametrize("shape", [(6, 7), (4, 5, 6)])
def test_dice_is_the_papers(shape: tuple[int, ...]) -> None:
    logits, labels = case(shape)
    p, g = flat(softmax(logits)), flat(onehot(labels, 3))
    dice = 2 * (p * g).sum(1) / (p.sum(1) + g.sum(1))
    assert build_loss("dice", smooth=0.0)(logits, labels).item() == pytest.approx(
        1 - dice[1:].mean(), abs=1e-9
    )
    everything = build_loss("dice", smooth=0.0, include_background=True)
    assert everything(logits, labels).item() == pytest.approx(1 - dice.mean(), abs=1e-9)


def test_dice_per_item_is_the_mean_of_the_items() -> None:
    logits, labels = case()
    single = build_loss("dice", batch=False)
    alone = [single(logits[[index]], labels[[index]]).item() for index in range(2)]
    assert single(logits, labels).item() == pytest.approx(np.mean(alone), abs=1e-9)


def test_squared_dice_is_that_of_v_net() -> None:
    logits, labels = case()
    p, g = flat(softmax(logits))[1:], flat(onehot(labels, 3))[1:]
    expected = 1 - (2 * (p * g).sum(1) / ((p**2).sum(1) + (g**2).sum(1))).mean()
    assert build_loss("dice", squared=True, smooth=0.0)(logits, labels).item() == pytest.approx(
        expected, abs=1e-9
    )


def test_generalized_dice_is_the_papers() -> None:
    logits, labels = case((4, 5, 6))
    p, g = flat(softmax(logits)), flat(onehot(labels, 3))
    w = 1 / g.sum(1) ** 2
    expected = 1 - 2 * (w * (p * g).sum(1)).sum() / (w * (p + g).sum(1)).sum()
    assert build_loss("generalized_dice", smooth=0.0)(logits, labels).item() == pytest.approx(
        expected, abs=1e-9
    )


@pytest.mark.parametrize(("alpha", "beta"), [(0.3, 0.7), (0.9, 0.1)])
def test_tversky_is_the_papers(alpha: float, beta: float) -> None:
    logits, labels = case()
    p, g = flat(softmax(logits))[1:], flat(onehot(labels, 3))[1:]
    tp, fp, fn = (p * g).sum(1), (p * (1 - g)).sum(1), ((1 - p) * g).sum(1)
    expected = 1 - (tp / (tp + alpha * fp + beta * fn)).mean()
    loss = build_loss("tversky", alpha=alpha, beta=beta, smooth=0.0)
    assert loss(logits, labels).item() == pytest.approx(expected, abs=1e-9)


def test_tversky_prefers_finding_by_default() -> None:
    labels = torch.zeros(1, 8, 8, dtype=torch.int64)
    labels[0, :4] = 1
    missed = torch.stack([torch.zeros(8, 8), torch.full((8, 8), -20.0)])[None]
    invented = torch.stack([torch.zeros(8, 8), torch.full((8, 8), 20.0)])[None]
    missed[0, 1, :2], invented[0, 1, 6:] = 20.0, -20.0
    loss = build_loss("tversky")
    assert loss(missed, labels) > loss(invented, labels)


def test_tversky_of_halves_is_dice() -> None:
    logits, labels = case((4, 5, 6))
    tversky = build_loss("tversky", alpha=0.5, beta=0.5, smooth=0.0)(logits, labels)
    assert tversky.item() == pytest.approx(build_loss("dice", smooth=0.0)(logits, labels).item(), abs=1e-12)


@pytest.mark.parametrize("weights", [None, (0.5, 1.0, 3.0)])
@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_is_the_papers(gamma: float, weights: tuple[float, ...] | None) -> None:
    logits, labels = case()
    right = np.take_along_axis(softmax(logits), labels.numpy()[:, None], axis=1)[:, 0]
    w = np.ones(3)[labels.numpy()] if weights is None else np.array(weights)[labels.numpy()]
    expected = (w * -((1 - right) ** gamma) * np.log(right)).sum() / w.sum()
    loss = build_loss("focal", gamma=gamma, class_weights=weights)
    assert loss(logits, labels).item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("weights", [None, (0.5, 1.0, 3.0)])
@pytest.mark.parametrize("pictures", [True, False])
def test_focal_of_gamma_zero_is_cross_entropy(pictures: bool, weights: tuple[float, ...] | None) -> None:
    logits, labels = case()
    if pictures:
        logits, labels = logits[:, :, 0, :3].reshape(6, 3), torch.tensor([0, 2, 1, 2, 0, 1])
    focal = build_loss("focal", gamma=0.0, class_weights=weights)(logits, labels)
    entropy = build_loss("cross_entropy", class_weights=weights)(logits, labels)
    assert focal.item() == pytest.approx(entropy.item(), abs=1e-12)


def test_cross_entropy_smooths_labels_as_the_formula() -> None:
    logits, labels = case()
    target = onehot(labels, 3) * 0.9 + 0.1 / 3
    expected = -(target * np.log(softmax(logits))).sum(1).mean()
    loss = build_loss("cross_entropy", label_smoothing=0.1)
    assert loss(logits, labels).item() == pytest.approx(expected, abs=1e-9)


def test_weighted_cross_entropy_is_the_weighted_mean() -> None:
    logits, labels = case()
    weights = np.array([0.2, 1.0, 5.0])
    w = weights[labels.numpy()]
    right = np.take_along_axis(softmax(logits), labels.numpy()[:, None], axis=1)[:, 0]
    expected = -(w * np.log(right)).sum() / w.sum()
    loss = build_loss("weighted_cross_entropy", class_weights=weights.tolist())
    assert loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_dice_cross_entropy_is_the_sum() -> None:
    logits, labels = case()
    p, g = flat(softmax(logits)), flat(onehot(labels, 3))
    dice = 1 - ((2 * (p * g).sum(1) + 1) / (p.sum(1) + g.sum(1) + 1))[1:].mean()
    entropy = build_loss("cross_entropy")(logits, labels).item()
    assert build_loss("dice_ce", dice_weight=0.5)(logits, labels).item() == pytest.approx(
        entropy + 0.5 * dice
    )


def test_dice_focal_is_the_sum() -> None:
    logits, labels = case()
    parts = [build_loss(name)(logits, labels).item() for name in ("dice", "focal")]
    loss = build_loss("dice_focal", dice_weight=2.0, focal_weight=0.5)
    assert loss(logits, labels).item() == pytest.approx(2 * parts[0] + 0.5 * parts[1])


def test_binary_cross_entropy_takes_labels_and_tables() -> None:
    logits = torch.tensor([[0.3], [-1.2]], dtype=torch.float64)
    p = 1 / (1 + np.exp(-logits.numpy()[:, 0]))
    expected = -(np.log(p[0]) + np.log(1 - p[1])) / 2
    loss = build_loss("bce")
    assert loss(logits, torch.tensor([1, 0])).item() == pytest.approx(expected)
    assert loss(logits, torch.tensor([[1.0], [0.0]])).item() == pytest.approx(expected)
    weighted = build_loss("bce", positive_weights=[3.0])(logits, torch.tensor([1, 0]))
    assert weighted.item() == pytest.approx(-(3 * np.log(p[0]) + np.log(1 - p[1])) / 2)


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice_ce"])
def test_one_channel_is_class_one_against_class_zero(name: str) -> None:
    logits, labels = case(classes=2)
    single = logits[:, 1:] - logits[:, :1]
    loss = build_loss(name)
    assert loss(single, labels).item() == pytest.approx(loss(logits, labels).item(), abs=1e-9)


def signed_distance(mask: Array) -> Array:
    """Return Kervadec's level set: distance to the mask outside, 1 − distance to the rest inside."""
    return distance_transform_edt(~mask) * ~mask - (distance_transform_edt(mask) - 1) * mask


@pytest.mark.parametrize("shape", [(8, 9), (6, 7, 8)])
def test_boundary_is_the_mean_of_probability_and_distance(shape: tuple[int, ...]) -> None:
    logits, labels = case(shape)
    p = softmax(logits)[:, 1:]
    phi = np.stack([[signed_distance(item == c) for c in (1, 2)] for item in labels.numpy()])
    assert build_loss("boundary")(logits, labels).item() == pytest.approx((p * phi).mean(), abs=1e-6)


def test_boundary_is_negative_inside_and_grows_with_distance() -> None:
    labels = torch.zeros(1, 16, 16, dtype=torch.int64)
    labels[0, 4:10, 4:10] = 1

    def loss_of(mask: Tensor) -> float:
        logit = torch.where(mask, 20.0, -20.0)
        return build_loss("boundary")(torch.stack([-logit, logit])[None], labels).item()

    near, far = torch.zeros(2, 16, 16, dtype=torch.bool)
    near[10, 4:10], far[15, 4:10] = True, True
    assert loss_of(labels[0] == 1) < 0 < loss_of(near) < loss_of(far)


def test_hausdorff_is_the_papers() -> None:
    logits, labels = case((8, 9), classes=2)
    p, g = softmax(logits)[:, 1], labels.numpy() == 1

    def field(mask: Array) -> Array:
        return distance_transform_edt(mask) + distance_transform_edt(~mask)

    terms = [(p[i] - g[i]) ** 2 * (field(p[i] > 0.5) ** 2 + field(g[i]) ** 2) for i in range(2)]
    assert build_loss("hausdorff_dt")(logits, labels).item() == pytest.approx(np.mean(terms), rel=1e-6)


GRADIENTS: dict[str, dict[str, object]] = {
    "dice": {},
    "generalized_dice": {},
    "dice_ce": {"class_weights": [1.0, 2.0, 0.5]},
    "focal": {"gamma": 2.0},
    "dice_focal": {},
    "tversky": {},
    "boundary": {},
    "hausdorff_dt": {},
    "cross_entropy": {"label_smoothing": 0.1},
    "weighted_cross_entropy": {"class_weights": [1.0, 2.0, 0.5]},
    "bce": {},
    "combined": {"losses": [{"name": "dice", "weight": 0.5}, {"name": "focal", "weight": 0.5}]},
}


@pytest.mark.parametrize("shape", [(4, 5), (2, 3, 4)])
@pytest.mark.parametrize("name", sorted(GRADIENTS))
def test_slopes_are_those_of_finite_differences(name: str, shape: tuple[int, ...]) -> None:
    logits, labels = case(shape)
    loss: Callable[..., Tensor] = build_loss(name, **GRADIENTS[name])
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), (logits.requires_grad_(),), atol=1e-6)
