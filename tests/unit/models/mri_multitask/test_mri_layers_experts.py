"""A mixture of experts is the weighted sum of its experts; depth and heads are what their formulas say."""

from __future__ import annotations

import copy
import threading

import pytest
import torch
from torch import nn

from models.networks.layers import StochasticDepth
from models.networks.mri_multitask.depth import drop_path, drop_paths, linear_rates
from models.networks.mri_multitask.experts import MixtureOfExperts, load_balance, total_balance_loss
from models.networks.mri_multitask.kan import KANHead
from models.networks.mri_multitask.parallel_heads import ParallelHeads, draws_randomness


def mixture(**options):
    torch.manual_seed(0)
    return MixtureOfExperts(8, 16, **({"experts": 4} | options))


def tokens(seed=0, count=37):
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(seed))


def weighted_sum(layer, x, top_k):
    scores = x @ layer.gate.weight.t()
    kept = torch.full_like(scores, float("-inf"))
    best = scores.topk(top_k, dim=-1).indices
    kept = kept.scatter(1, best, scores.gather(1, best))
    outputs = torch.stack([expert(x) for expert in layer.experts], dim=1)
    return (outputs * kept.softmax(-1).unsqueeze(-1)).sum(1)


@pytest.mark.parametrize("top_k", [1, 2, 4])
def test_a_mixture_is_the_sum_of_its_best_experts(top_k):
    layer, x = mixture(top_k=top_k), tokens()
    dense = copy.deepcopy(layer)
    expected = weighted_sum(dense, x, top_k)
    assert torch.allclose(layer(x), expected, atol=1e-6)
    layer(x).square().sum().backward()
    expected.square().sum().backward()
    for ours, theirs in zip(layer.parameters(), dense.parameters(), strict=True):
        if theirs.grad is None:
            assert ours.grad is None or ours.grad.abs().max() == 0
        else:
            assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)


def test_only_the_chosen_experts_run_and_each_on_its_own_tokens():
    layer, x = mixture(top_k=1), tokens()
    rows = {}
    for index, expert in enumerate(layer.experts):
        expert.register_forward_pre_hook(lambda _, args, index=index: rows.update({index: len(args[0])}))
    layer(x)
    assert sum(rows.values()) == len(x)
    with torch.no_grad():
        layer.gate.weight.zero_()
        layer.gate.weight[2] = 1.0
    rows.clear()
    layer(x.abs()).sum().backward()
    assert rows == {0: 0, 1: 0, 2: len(x), 3: 0}
    assert all(parameter.grad is not None for parameter in layer.parameters())
    rows.clear()
    layer.eval()(x.abs())
    assert rows == {2: len(x)}


def test_load_balance_is_one_when_even_and_grows_with_the_skew():
    even = torch.full((12, 4), 0.25)
    chosen = torch.arange(12).remainder(4).unsqueeze(1)
    assert load_balance(even, chosen) == pytest.approx(1.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        skewed = (torch.randn(64, 4, generator=generator) + torch.tensor([3.0, 0, 0, 0])).softmax(-1)
        assert load_balance(skewed, skewed.topk(1).indices) > 1.5
    one = torch.eye(4)[[1] * 12]
    assert load_balance(one, one.argmax(1, keepdim=True)) == pytest.approx(4.0)


def test_training_on_the_balance_loss_evens_the_load():
    layer, x = mixture(top_k=1), tokens(count=256) + 1.0
    optimiser = torch.optim.Adam(layer.gate.parameters(), lr=0.02)
    losses = []
    for _ in range(100):
        layer(x)
        optimiser.zero_grad()
        layer.balance_loss.backward()
        optimiser.step()
        losses.append(layer.balance_loss.item())
    assert losses[0] > 1.1 and losses[-1] < 1.02


def test_the_output_and_the_balance_loss_both_reach_the_gate():
    layer = mixture(top_k=2)
    layer(tokens()).sum().backward()
    assert layer.gate.weight.grad.abs().sum() > 0
    layer.zero_grad()
    layer(tokens())
    total_balance_loss(nn.Sequential(layer, nn.Identity())).backward()
    assert layer.gate.weight.grad.abs().sum() > 0
    assert total_balance_loss(nn.Identity()) == 0.0


def test_noise_is_drawn_only_in_training():
    layer, x = mixture(top_k=2, noisy=True), tokens()
    assert not torch.equal(layer(x), layer(x)) and layer.draws_randomness
    layer.eval()
    assert torch.equal(layer(x), layer(x)) and not layer.draws_randomness
    assert not layer.balance_loss.requires_grad


def test_a_mixture_takes_any_shape_also_no_tokens_and_can_be_copied_after_use():
    layer, x = mixture(top_k=2), tokens(count=30)
    assert torch.equal(layer(x.view(5, 6, 8)), layer(x).view(5, 6, 8))
    assert layer(x[:0]).shape == (0, 8)
    layer(x)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))


def test_the_gate_chooses_in_float32_under_autocast():
    layer, x = mixture(top_k=2), tokens()
    exact = layer(x)
    chosen_loss = layer.balance_loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = layer(x)
    mixed.float().sum().backward()
    assert torch.equal(layer.balance_loss, chosen_loss) and layer.balance_loss.dtype == torch.float32
    assert torch.allclose(mixed.float(), exact, atol=0.03)


def test_more_experts_than_there_are_cannot_be_chosen():
    with pytest.raises(ValueError, match="Of 4 experts 5"):
        mixture(top_k=5)


def heads(**options):
    torch.manual_seed(0)
    return nn.ModuleDict(
        {name: KANHead(8, width, hidden=(6,), **options) for name, width in (("a", 3), ("b", 2), ("c", 5))}
    )


@pytest.mark.parametrize("training", [False, True])
def test_heads_in_threads_answer_and_learn_as_one_after_the_other(training):
    found, gradients = {}, {}
    for mode in ("threads", "sequential"):
        layer = ParallelHeads(heads(), mode).train(training)
        x = tokens().requires_grad_(True)
        found[mode] = layer(x)
        sum(output.square().sum() for output in found[mode].values()).backward()
        gradients[mode] = [x.grad, *(parameter.grad for parameter in layer.parameters())]
    assert list(found["threads"]) == list(found["sequential"]) == ["a", "b", "c"]
    for name, output in found["sequential"].items():
        assert torch.equal(found["threads"][name], output)
    for ours, theirs in zip(gradients["threads"], gradients["sequential"], strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6, rtol=1e-6)


class Watcher(nn.Module):
    def forward(self, x):
        return {
            "thread": threading.current_thread().name,
            "grad": torch.is_grad_enabled(),
            "inference": torch.is_inference_mode_enabled(),
            "autocast": torch.is_autocast_enabled("cpu"),
            "type": (x @ x.t()).dtype,
        }


def test_threads_carry_the_grad_mode_and_autocast_and_end():
    layer = ParallelHeads({"a": Watcher(), "b": Watcher(), "c": Watcher()})
    before = threading.active_count()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        states = list(layer(tokens()).values())
    with torch.inference_mode():
        inferred = list(layer(tokens()).values())
    assert threading.active_count() == before
    assert states[0]["thread"] != states[1]["thread"]
    for state in states:
        assert not state["grad"] and state["autocast"] and state["type"] == torch.bfloat16
    assert all(state["inference"] and not state["autocast"] for state in inferred)
    assert all(state["grad"] for state in layer(tokens()).values())


def test_heads_that_draw_random_numbers_are_not_left_to_the_clock():
    layer = ParallelHeads(heads(dropout=0.5), "threads")
    assert draws_randomness(layer) and not draws_randomness(layer.eval())
    layer.train()
    outputs = []
    for mode in ("threads", "sequential"):
        layer.mode = mode
        torch.manual_seed(3)
        outputs.append(layer(tokens()))
    assert all(torch.equal(outputs[0][name], outputs[1][name]) for name in outputs[0])


def test_a_failing_head_is_not_hidden_by_its_thread():
    layer = ParallelHeads({"a": nn.Linear(8, 2), "b": nn.Linear(9, 2)})
    with pytest.raises(RuntimeError, match="shapes"):
        layer(tokens())
    with pytest.raises(ValueError, match="modes"):
        ParallelHeads({}, "fast")


def test_rates_of_depth_rise_evenly():
    assert linear_rates(0.3, 4) == pytest.approx([0.0, 0.1, 0.2, 0.3])
    assert linear_rates(0.3, 1) == [0.3] and linear_rates(0.3, 0) == []
    paths = drop_paths(0.3, 3)
    assert isinstance(paths[0], nn.Identity) and paths[2].rate == 0.3
    with pytest.raises(ValueError, match="not 1"):
        linear_rates(1.0, 3)


def test_a_dropped_path_keeps_its_expectation():
    torch.manual_seed(0)
    path = drop_path(0.25)
    assert isinstance(path, StochasticDepth)
    branch = torch.ones(20000, 2, 3)
    found = path(branch)
    kept = found[:, 0, 0] != 0
    assert torch.equal(found, torch.where(kept[:, None, None], branch / 0.75, 0.0))
    # Four standard errors of the mean of 20000 draws.
    assert abs(float(found.mean()) - 1.0) < 4.0 * (0.25 / 0.75 / 20000) ** 0.5
    assert torch.equal(path.eval()(branch), branch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="streams need a CUDA device")
def test_heads_on_streams_answer_as_one_after_the_other():
    found = []
    for mode in ("streams", "sequential"):
        layer = ParallelHeads(heads(), mode).cuda()
        x = tokens().cuda().requires_grad_(True)
        outputs = layer(x)
        sum(output.square().sum() for output in outputs.values()).backward()
        found.append([*outputs.values(), x.grad])
    assert all(torch.allclose(ours, theirs, atol=1e-6) for ours, theirs in zip(*found, strict=True))
