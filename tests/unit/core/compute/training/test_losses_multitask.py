"""Several tasks in one loss: weights by uncertainty, and what isn't known counts for nothing."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from core.compute.training.losses.multitask import MultitaskLoss, TaskWeights, known
from core.compute.training.losses.registry import build_loss
from core.recipes.cases import UNJUDGED

NAN = float("nan")


def three_tasks(weights: TaskWeights | None = None) -> MultitaskLoss:
    parts = [{"name": "dice"}, {"name": "focal"}, {"name": "boundary", "params": {"relative": True}}]
    losses = {
        "segmentation": build_loss("combined", losses=parts),
        "classification": build_loss("cross_entropy"),
        "regression": build_loss("smooth_l1"),
    }
    return MultitaskLoss(losses, weights)


def outputs_and_targets(count: int = 4) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    torch.manual_seed(0)
    outputs = {
        "segmentation": torch.randn(count, 3, 6, 5, 4),
        "classification": torch.randn(count, 3),
        "regression": torch.randn(count, 2),
    }
    labels = torch.zeros(count, 6, 5, 4, dtype=torch.int64)
    labels[:, 1:4, 1:4, 1:3] = 1
    labels[:, 4:, 3:, 2:] = 2
    targets = {
        "segmentation": labels,
        "classification": torch.arange(count) % 3,
        "regression": torch.randn(count, 2),
    }
    return outputs, targets


@pytest.mark.parametrize(
    ("task", "loss", "variance"), [("regression", 0.37, 0.37), ("classification", 0.8, 1.6)]
)
def test_at_the_optimum_the_variance_is_the_loss_of_a_regression_and_twice_that_of_a_classification(
    task: str, loss: float, variance: float
) -> None:
    weights = TaskWeights((task,))
    optimizer = torch.optim.LBFGS(weights.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        value: Tensor = weights(task, torch.tensor(loss))
        value.backward()
        return value

    optimizer.step(closure)  # type: ignore[arg-type]
    assert weights.variances()[task] == pytest.approx(variance, rel=1e-3)


def test_the_weighed_sum_is_the_papers() -> None:
    weights = TaskWeights(("segmentation", "classification", "regression"))
    sigma = torch.tensor([0.5, 2.0, 3.0])
    with torch.no_grad():
        weights.log_variances.copy_(2 * sigma.log())
    outputs, targets = outputs_and_targets()
    plain = {task: float(one(*known(task, outputs[task], targets[task])))
             for task, one in three_tasks().losses.items()}  # fmt: skip
    expected = (
        plain["segmentation"] / 0.25
        + plain["classification"] / 4
        + plain["regression"] / 18
        + math.log(0.5 * 2 * 3)
    )
    assert three_tasks(weights)(outputs, targets).item() == pytest.approx(expected, rel=1e-5)
    assert float(three_tasks()(outputs, targets)) == pytest.approx(sum(plain.values()), rel=1e-5)


def test_slopes_reach_every_output_and_every_variance() -> None:
    weights = TaskWeights(("segmentation", "classification", "regression"))
    outputs, targets = outputs_and_targets()
    for one in outputs.values():
        one.requires_grad_(True)
    three_tasks(weights)(outputs, targets).backward()
    assert all(one.grad is not None and bool(one.grad.abs().sum() > 0) for one in outputs.values())
    assert weights.log_variances.grad is not None and bool((weights.log_variances.grad != 0).all())


def test_slopes_are_right_in_double_precision() -> None:
    weights = TaskWeights(("classification", "regression")).double()
    loss = MultitaskLoss(
        {"classification": build_loss("cross_entropy"), "regression": build_loss("smooth_l1")}, weights
    )
    targets = {"classification": torch.tensor([0, -1, 2]),
               "regression": torch.tensor([[0.3, NAN], [2.5, 0.1], [NAN, NAN]])}  # fmt: skip

    def value(logits: Tensor, numbers: Tensor, logs: Tensor) -> Tensor:
        with torch.no_grad():
            weights.log_variances.copy_(logs)
        return loss({"classification": logits, "regression": numbers}, targets)

    torch.manual_seed(1)
    given = [torch.randn(3, n, dtype=torch.float64, requires_grad=True) for n in (3, 2)]
    logs = torch.tensor([0.4, -0.3], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, b: value(a, b, logs), given)


def test_images_of_which_nothing_is_known_change_nothing() -> None:
    outputs, targets = outputs_and_targets(6)
    weights = TaskWeights(("segmentation", "classification", "regression"))
    loss = three_tasks(weights)
    few = loss({k: v[:4] for k, v in outputs.items()}, {k: v[:4] for k, v in targets.items()})
    targets["segmentation"][4:] = UNJUDGED
    targets["classification"][4:] = -1
    targets["regression"][4:] = NAN
    for one in outputs.values():
        one.requires_grad_(True)
    all_six = loss(outputs, targets)
    all_six.backward()
    assert float(all_six.detach()) == pytest.approx(few.item(), rel=1e-6)
    for one in outputs.values():
        assert one.grad is not None and not bool(one.grad[4:].any()) and bool(one.grad[:4].any())


def test_a_task_without_any_truth_leaves_its_variance_alone() -> None:
    weights = TaskWeights(("segmentation", "classification", "regression"))
    outputs, targets = outputs_and_targets()
    targets["classification"][:] = -1
    three_tasks(weights)(outputs, targets).backward()
    assert weights.log_variances.grad is not None
    assert (weights.log_variances.grad != 0).tolist() == [True, False, True]


def test_voxels_that_are_not_judged_get_no_slope_and_no_say() -> None:
    outputs, targets = outputs_and_targets(1)
    logits = outputs["segmentation"].requires_grad_(True)
    labels = targets["segmentation"].clone()
    labels[:, :, :, 3] = UNJUDGED
    loss = build_loss("dice")
    value = loss(*known("segmentation", logits, labels))
    value.backward()
    assert (
        logits.grad is not None and not bool(logits.grad[..., 3].any()) and bool(logits.grad[..., :3].any())
    )
    seen = loss(logits[..., :3], labels[..., :3])
    assert float(value.detach()) == pytest.approx(float(seen.detach()), abs=1e-5)


@pytest.mark.parametrize("sizes", [(1, 3), (2, 2), (3, 1)])
def test_pieces_of_a_batch_give_the_slopes_of_the_whole_whatever_is_known_in_each(
    sizes: tuple[int, int],
) -> None:
    torch.manual_seed(2)
    targets = {"classification": torch.tensor([-1, 1, 0, 2]),
               "regression": torch.tensor([[0.3, NAN], [2.5, 0.1], [NAN, NAN], [1.0, 2.0]])}  # fmt: skip
    start = {"classification": torch.randn(4, 3), "regression": torch.randn(4, 2)}

    def slopes(pieces: tuple[int, ...]) -> list[Tensor]:
        weights = TaskWeights(("classification", "regression"))
        loss = MultitaskLoss(
            {"classification": build_loss("cross_entropy"), "regression": build_loss("mse")}, weights
        )
        outputs = {name: one.clone().requires_grad_(True) for name, one in start.items()}
        loss.announce(targets, None)
        first = 0
        for size in pieces:
            part = slice(first, first + size)
            value = loss({k: v[part] for k, v in outputs.items()}, {k: v[part] for k, v in targets.items()})
            (value * (size / 4)).backward()
            first += size
        return [one.grad for one in (*outputs.values(), weights.log_variances) if one.grad is not None]

    for one, whole in zip(slopes(sizes), slopes((4,)), strict=True):
        assert torch.allclose(one, whole, atol=1e-6)


def test_the_losses_of_numbers_are_torchs_over_what_is_known() -> None:
    torch.manual_seed(3)
    outputs, target = 2 * torch.randn(5, 2), torch.randn(5, 2)
    target[0, 0] = target[3, 1] = NAN
    seen = target.isfinite()
    expected = {
        "mse": functional.mse_loss(outputs[seen], target[seen]),
        "smooth_l1": functional.smooth_l1_loss(outputs[seen], target[seen], beta=0.5),
        "huber": functional.huber_loss(outputs[seen], target[seen], delta=0.5),
    }
    params = {"mse": {}, "smooth_l1": {"beta": 0.5}, "huber": {"delta": 0.5}}
    for name, value in expected.items():
        assert float(build_loss(name, **params[name])(outputs, target)) == pytest.approx(
            float(value), rel=1e-6
        )
    assert float(build_loss("mse")(outputs, torch.full_like(target, NAN))) == 0.0


def test_the_boundary_loss_relative_to_the_truth_is_0_for_the_truth_and_never_less() -> None:
    torch.manual_seed(4)
    labels = torch.zeros(2, 8, 9, 7, dtype=torch.int64)
    labels[:, 2:6, 2:7, 1:5] = 1
    relative, absolute = build_loss("boundary", relative=True), build_loss("boundary")
    true = 60 * (functional.one_hot(labels, 2).movedim(-1, 1).float() - 0.5)
    assert float(relative(true, labels)) == pytest.approx(0, abs=1e-6)
    for seed in range(5):
        torch.manual_seed(seed)
        logits = 3 * torch.randn(2, 2, 8, 9, 7)
        assert float(relative(logits, labels)) > 0
        constant = float(absolute(logits, labels)) - float(relative(logits, labels))
        assert constant == pytest.approx(float(absolute(true, labels)), rel=1e-4)


def test_a_loss_without_tasks_is_refused() -> None:
    with pytest.raises(ValueError, match="no task"):
        MultitaskLoss({}, None)
    assert isinstance(three_tasks().losses, nn.ModuleDict)
