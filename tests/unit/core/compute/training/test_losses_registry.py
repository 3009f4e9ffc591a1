"""Losses by name: combinations, uncertainty, the calling convention, refusals."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch

from core.compute.training.losses.combined import UncertaintyWeighted
from core.compute.training.losses.registry import build_loss, names
from core.domain.errors import InputError

PARAMS: dict[str, dict[str, object]] = {
    "weighted_cross_entropy": {"class_weights": [1.0, 2.0, 3.0]},
    "cells": {"cell": 4},
    "combined": {"losses": [{"name": "dice"}, {"name": "cross_entropy", "weight": 0.5}]},
}
NUMBERS = {"mse", "smooth_l1", "huber"}
SEGMENTATION = sorted(set(names()) - {"uncertainty"} - NUMBERS)


def test_names_are_those_that_recipes_use() -> None:
    assert set(names()) == {
        "dice", "generalized_dice", "dice_ce", "focal", "dice_focal", "tversky", "boundary", "hausdorff_dt",
        "cross_entropy", "weighted_cross_entropy", "bce", "cells", "combined", "uncertainty",
        "mse", "smooth_l1", "huber",
    }  # fmt: skip


@pytest.mark.parametrize("name", SEGMENTATION)
def test_half_precision_is_computed_in_single(name: str) -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (2, 8, 8))
    logits = torch.randn(2, 3, 8, 8)
    loss = build_loss(name, **PARAMS.get(name, {}))
    value = loss(logits.bfloat16(), labels)
    assert value.dtype == torch.float32
    assert value.shape == ()
    assert value.item() == pytest.approx(loss(logits.bfloat16().float(), labels).item(), abs=1e-6)


@pytest.mark.parametrize("name", SEGMENTATION)
def test_labels_may_keep_a_channel_axis(name: str) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    loss = build_loss(name, **PARAMS.get(name, {}))
    assert torch.equal(loss(logits, labels[:, None]), loss(logits, labels))


@pytest.mark.parametrize("name", ["cross_entropy", "weighted_cross_entropy", "focal", "bce"])
def test_pictures_are_classified_too(name: str) -> None:
    torch.manual_seed(0)
    loss = build_loss(name, **PARAMS.get(name, {}))
    assert loss(torch.randn(4, 3), torch.tensor([0, 1, 2, 1])).item() > 0


@pytest.mark.parametrize("name", sorted(set(SEGMENTATION) - {"weighted_cross_entropy", "cells"}))
def test_one_foreground_channel_works(name: str) -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 1, 8, 8), torch.randint(0, 2, (2, 8, 8))
    assert torch.isfinite(build_loss(name, **PARAMS.get(name, {}))(logits, labels))


@pytest.mark.parametrize("name", SEGMENTATION)
def test_an_absent_structure_leaves_the_loss_and_its_slope_finite(name: str) -> None:
    logits = torch.zeros(2, 3, 8, 8, requires_grad=True)
    loss = build_loss(name, **PARAMS.get(name, {}))(logits, torch.zeros(2, 8, 8, dtype=torch.int64))
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", SEGMENTATION)
def test_a_loss_remembers_nothing_of_the_data(name: str) -> None:
    torch.manual_seed(0)
    loss = build_loss(name, **PARAMS.get(name, {}))
    before = copy.deepcopy({**loss.state_dict(), **_plain_state(loss)})
    first = loss(torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8)))
    after = {**loss.state_dict(), **_plain_state(loss)}
    assert torch.isfinite(first)
    assert before.keys() == after.keys()
    assert all(str(before[key]) == str(after[key]) for key in before)


def _plain_state(loss: torch.nn.Module) -> dict[str, object]:
    return {
        f"{name}.{key}": value
        for name, module in loss.named_modules()
        for key, value in vars(module).items()
        if not key.startswith("_")
    }


def test_combined_weighs_as_told() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    tversky = {"name": "tversky", "weight": 0.25, "params": {"alpha": 0.1, "beta": 0.9}}
    combined = build_loss("combined", losses=[{"name": "dice", "weight": 2}, tversky])
    expected = 2 * build_loss("dice")(logits, labels)
    expected = expected + 0.25 * build_loss("tversky", alpha=0.1, beta=0.9)(logits, labels)
    assert combined(logits, labels).item() == pytest.approx(expected.item(), abs=1e-6)


def test_the_best_variance_is_the_tasks_loss() -> None:
    loss = UncertaintyWeighted({"one": torch.nn.Identity(), "two": torch.nn.Identity()})
    tasks = torch.tensor([0.3, 7.0], dtype=torch.float64)
    optimiser = torch.optim.LBFGS(
        loss.parameters(), max_iter=200, tolerance_grad=1e-10, tolerance_change=1e-14
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        total = loss.weigh(tasks)
        total.backward()
        return total

    optimiser.step(closure)
    assert loss.variances() == {"one": pytest.approx(0.3, rel=1e-3), "two": pytest.approx(7.0, rel=1e-3)}


def test_uncertainty_is_the_papers_sum_and_has_right_slopes() -> None:
    loss = build_loss("uncertainty", tasks={"mask": {"name": "dice_ce"}, "kind": {"name": "cross_entropy"}})
    loss = loss.double()
    with torch.no_grad():
        loss.get_parameter("log_variances").copy_(torch.tensor([0.4, -0.7]))
    generator = torch.Generator().manual_seed(0)
    outputs = {
        "mask": torch.randn(2, 2, 4, 4, dtype=torch.float64, generator=generator),
        "kind": torch.randn(2, 3, dtype=torch.float64, generator=generator),
    }
    targets = {"mask": torch.randint(0, 2, (2, 4, 4), generator=generator), "kind": torch.tensor([0, 2])}
    parts = [build_loss("dice_ce")(outputs["mask"], targets["mask"]).item()]
    parts.append(build_loss("cross_entropy")(outputs["kind"], targets["kind"]).item())
    variances = torch.tensor([0.4, -0.7], dtype=torch.float64).exp()
    expected = sum(
        part / (2 * v.item()) + 0.5 * v.log().item() for part, v in zip(parts, variances, strict=True)
    )
    assert loss(outputs, targets).item() == pytest.approx(expected, abs=1e-7)
    logs = loss.get_parameter("log_variances")
    kind = outputs["kind"].requires_grad_()

    def total(_: torch.Tensor, kind: torch.Tensor) -> torch.Tensor:
        return loss({"mask": outputs["mask"], "kind": kind}, targets)

    assert torch.autograd.gradcheck(total, (logs, kind))


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("dise", {}, "dice"),
        ("tversky", {"alfa": 0.2}, "alpha"),
        ("weighted_cross_entropy", {}, "class_weights"),
        ("cross_entropy", {"class_weights": [1.0, -1.0]}, "parameters"),
        ("combined", {"losses": []}, "at least one"),
        ("combined", {"losses": [{"name": "dice", "wait": 2}]}, "weight"),
        ("combined", {"losses": [{"name": "dice", "weight": "much"}]}, "number"),
        ("combined", {"losses": [{"weight": 1}]}, "name"),
        ("combined", {"losses": [{"name": "focall"}]}, "focal"),
        ("uncertainty", {"tasks": {}}, "at least one"),
        ("uncertainty", {"tasks": {"a": {"name": "dice", "weight": 1}}}, "Known: name, params"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_remedy(
    name: str, params: dict[str, object], words: str
) -> None:
    with pytest.raises(InputError) as refusal:
        build_loss(name, **params)
    assert refusal.value.code == "training.loss"
    assert words in refusal.value.remedy


def test_labels_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="don't belong"):
        build_loss("dice")(torch.zeros(1, 2, 8, 8), torch.zeros(1, 8, 9, dtype=torch.int64))


def test_the_registry_loads_without_monai() -> None:
    code = (
        "import sys; from core.compute.training.losses.registry import build_loss; build_loss('dice_ce'); "
        "assert not {'monai', 'lightning'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
