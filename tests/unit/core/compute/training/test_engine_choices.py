"""Precision, memory format, batch size, recomputation, freezing, validation values."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, roc_auc_score
from torch import Tensor, nn

from core.compute.inference.backends import cpu_has_bf16
from core.compute.training import precision
from core.compute.training.arithmetic import Arithmetic, loss_of
from core.compute.training.batch_size import activation_bytes, fitted, largest_batch
from core.compute.training.freezing import Freezer, build_optimizer
from core.compute.training.meters import ClassificationMeter, SegmentationMeter
from core.compute.training.objective import build_network, class_weights
from core.compute.training.precision import Trial, candidates, choose, measure
from core.compute.training.recomputing import keep_stages, recompute_stages
from core.domain.errors import InputError
from core.recipes.schema import Freezing
from models.networks.registry import build
from tests.fakes.shape_training import shape_recipe
from tests.fakes.training_feed import Training, small_network

OPTIONS = [
    Arithmetic(p, m)
    for p in ("fp32", "bf16")
    for m in ("contiguous", "channels_last")
]  # fmt: skip


def batch(count: int = 4) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 1, 12, 12, generator=generator)
    return {"image": images, "target": torch.arange(count) % 2}


def test_every_candidate_is_timed_and_compared_with_fp32_and_nothing_is_changed() -> None:
    network = small_network(norm=True)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    random = torch.get_rng_state()
    trials = measure(network, nn.CrossEntropyLoss(), batch(), OPTIONS, device="cpu", seed=1)
    assert [trial.arithmetic for trial in trials] == OPTIONS
    assert all(not trial.refused and 0 < trial.seconds < 60 for trial in trials)
    exact = trials[0]
    assert (exact.loss_error, exact.norm_error) == (0, 0)
    assert exact.cosine == pytest.approx(1)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert torch.equal(random, torch.get_rng_state())


class Inexact(nn.Module):
    """Answers otherwise in reduced precision."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.inner, self.how = small_network(), how

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.inner(images)
        if torch.is_autocast_enabled("cpu"):
            changes = {"nan": answer * float("nan"), "loss": answer + 8 * torch.tensor([0.0, 1.0])}
            answer = changes[self.how]
        return answer


@pytest.mark.parametrize(("how", "words"), [("nan", "not finite"), ("loss", "off")])
def test_a_precision_that_computes_something_else_is_refused_with_the_reason(how: str, words: str) -> None:
    trials = measure(Inexact(how), nn.CrossEntropyLoss(), batch(), OPTIONS, device="cpu", seed=1)
    assert [bool(trial.refused) for trial in trials] == [False, False, True, True]
    assert words in trials[2].refused
    assert words in trials[2].sentence()
    assert choose(trials).precision == "fp32"


def test_the_fastest_usable_candidate_is_taken_when_it_is_clearly_faster() -> None:
    def trial(number: int, seconds: float, refused: str = "") -> Trial:
        return Trial(OPTIONS[number], seconds, refused=refused)

    assert choose([trial(0, 1.0), trial(1, 0.8), trial(2, 0.5)]) == OPTIONS[2]
    assert choose([trial(0, 1.0), trial(1, 0.8), trial(2, 0.5, "no")]) == OPTIONS[1]
    assert choose([trial(0, 1.0), trial(1, 0.99)]) == OPTIONS[0]
    assert choose([trial(2, 0.1, "no")]) == Arithmetic()


def test_the_recipe_bounds_the_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: True)
    training = shape_recipe(training__precision="auto", training__memory_format="auto").training
    assert candidates(training, "cpu") == OPTIONS
    assert {one.precision for one in candidates(training, "cuda")} == {"fp32", "bf16", "fp16"}
    fixed = shape_recipe(training__precision="bf16", training__memory_format="channels_last").training
    assert candidates(fixed, "cpu") == [Arithmetic("bf16", "channels_last")]
    monkeypatch.setattr(precision, "cpu_has_bf16", lambda: False)
    assert {one.precision for one in candidates(training, "cpu")} == {"fp32"}


def test_the_memory_model_is_a_line_through_two_measurements() -> None:
    model = fitted((2, 300.0), (4, 500.0), 1000.0)
    assert (model.fixed, model.per_sample) == (1100.0, 100.0)
    assert model.largest(free_bytes=3000.0, upper=64) == 16  # 3000 less 10 % less 1100, in hundreds
    assert model.largest(free_bytes=100.0, upper=64) == 1
    assert model.largest(free_bytes=1e9, upper=8) == 8


def test_activations_grow_in_proportion_to_the_batch() -> None:
    network, loss = small_network(), nn.CrossEntropyLoss()
    two, four, eight = (
        activation_bytes(network, loss, batch(count), Arithmetic(), "cpu") for count in (2, 4, 8)
    )
    assert eight - four == pytest.approx(2 * (four - two), rel=0.02)
    # The first convolution keeps its input, its outcome is kept by ReLU or the next: at least these.
    assert two >= 2 * (12 * 12 + 4 * 10 * 10) * 4


def test_the_batch_fills_the_free_memory_less_a_reserve() -> None:
    network, loss = small_network(), nn.CrossEntropyLoss()

    def choice(free: float | None) -> tuple[int, str]:
        return largest_batch(
            network, loss, batch, how=Arithmetic(), device="cpu", task="classification", cases=500,
            free_bytes=free,
        )  # fmt: skip

    size, why = choice(200_000.0)
    assert 1 < size < 64
    held = activation_bytes(network, loss, batch(size), Arithmetic(), "cpu")
    assert held <= 0.9 * 200_000
    assert choice(100_000.0)[0] < size
    assert "10%" in why
    assert choice(1e12)[0] == 64
    assert choice(None)[0] >= 1


@pytest.mark.parametrize("name", ["cnn2d", "densenet121"])
def test_recomputed_stages_give_the_same_gradients_and_statistics_with_less_memory(name: str) -> None:
    torch.manual_seed(0)
    params = {"channels": [8, 16]} if name == "cnn2d" else {}
    plain = build(name, in_channels=1, out_channels=2, **params)
    thrifty = build(name, in_channels=1, out_channels=2, **params)
    thrifty.load_state_dict(plain.state_dict())
    assert recompute_stages(thrifty) > 0
    images, target = torch.randn(4, 1, 32, 32), torch.tensor([0, 1, 0, 1])
    for network in (plain, thrifty):
        torch.manual_seed(1)
        loss_of(network, nn.CrossEntropyLoss(), images, target, Arithmetic()).backward()
    for one, two in zip(plain.parameters(), thrifty.parameters(), strict=True):
        assert torch.allclose(one.grad, two.grad, atol=1e-6)  # type: ignore[arg-type]
    for (key, one), two in zip(plain.named_buffers(), thrifty.buffers(), strict=True):
        assert torch.equal(one, two), key
    sample = {"image": images, "target": target}
    plain_bytes, thrifty_bytes = (
        activation_bytes(network, nn.CrossEntropyLoss(), sample, Arithmetic(), "cpu")
        for network in (plain, thrifty)
    )
    assert thrifty_bytes < 0.6 * plain_bytes
    keep_stages(thrifty)
    assert all("forward" not in module.__dict__ for module in thrifty.modules())


@pytest.mark.parametrize("dims", [2, 3])
def test_layers_that_keep_the_layout_compute_the_same(dims: int) -> None:
    torch.manual_seed(0)
    norm = nn.InstanceNorm3d(6, affine=True) if dims == 3 else nn.InstanceNorm2d(6, affine=True)
    conv = nn.Conv3d if dims == 3 else nn.Conv2d
    plain = nn.Sequential(conv(2, 6, 3), norm, nn.PReLU(), conv(6, 3, 3))
    kept = copy.deepcopy(plain)
    Arithmetic("fp32", "channels_last").place_network(kept, dims)
    assert "forward" in kept[1].__dict__
    assert "forward" in kept[2].__dict__
    images = torch.randn(2, 2, *(9,) * dims)
    answers = []
    for network, how in ((plain, Arithmetic()), (kept, Arithmetic("fp32", "channels_last"))):
        given = images.clone().requires_grad_(True)
        answer = network(how.place(given))
        answer.square().mean().backward()
        answers.append([answer, given.grad, *(p.grad for p in network.parameters())])
    for one, two in zip(*answers, strict=True):
        assert torch.allclose(one, two, atol=1e-6)
    assert kept[1](how.place(torch.randn(2, 6, *(9,) * dims))).stride()[1] == 1
    keep_stages(kept)
    assert not any("forward" in module.__dict__ for module in kept.modules())


def test_a_frozen_backbone_stays_and_joins_stage_by_stage(tmp_path: Path) -> None:
    recipe = shape_recipe(
        training__epochs=2,
        training__batch_size=4,
        training__freezing={"backbone": True, "unfreeze_every": 1},
    )
    network = small_network(norm=True)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    training = Training(recipe, tmp_path, network=network)
    module = training.run()
    after = module.network.state_dict()
    same = {key for key in before if torch.equal(before[key], after[key])}
    # The first stage never trained, its statistics neither; the second joined in the second epoch.
    assert {key for key in before if key.startswith("0.")} == {key for key in same if key.startswith("0.")}
    assert "1.0.weight" not in same
    assert "2.weight" not in same
    assert len(training.notes("unfreeze")) == 1


def test_unfreezing_starts_at_the_head_and_ends_with_everything() -> None:
    freezer = Freezer(small_network(), Freezing(backbone=True, unfreeze_every=2))
    assert [freezer.trained_stages(epoch) for epoch in range(7)] == [0, 0, 1, 1, 2, 2, 2]
    assert Freezer(small_network(), Freezing(backbone=True)).trained_stages(99) == 0
    assert Freezer(small_network(), Freezing()).apply(0) is None


def test_head_and_backbone_have_rates_of_their_own() -> None:
    recipe = shape_recipe(optimizer={"name": "adamax", "learning_rate": 0.01, "backbone_factor": 0.1})
    network = small_network()
    optimizer = build_optimizer(recipe, network)
    assert isinstance(optimizer, torch.optim.Adamax)
    assert [group["full_rate"] for group in optimizer.param_groups] == [0.01, pytest.approx(0.001)]
    counted = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert counted == sum(p.numel() for p in network.parameters())


def test_balanced_class_weights_are_those_of_scikit_learn() -> None:
    from sklearn.utils.class_weight import compute_class_weight

    counts = [30, 10]
    labels = np.repeat([0, 1], counts)
    expected = compute_class_weight("balanced", classes=np.array([0, 1]), y=labels)
    recipe = shape_recipe(loss={"name": "cross_entropy", "class_weights": "balanced"})
    assert class_weights(recipe, counts) == pytest.approx(expected.tolist())
    wrong = shape_recipe(loss={"name": "cross_entropy", "class_weights": [1.0]})
    with pytest.raises(InputError) as caught:
        class_weights(wrong, counts)
    assert caught.value.code == "training.class_weights"


def test_networks_are_built_by_seed_and_unknown_ones_are_named() -> None:
    one, two = (build_network(shape_recipe()).state_dict() for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)
    with pytest.raises(InputError) as caught:
        build_network(shape_recipe(network__name="cnn9d"))
    assert "cnn9d" in caught.value.user_message


def test_values_of_a_classifier_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(60, 3)), rng.integers(0, 3, 60)
    meters = [ClassificationMeter(3) for _ in range(2)]
    for number in range(6):
        rows = slice(10 * number, 10 * number + 10)
        part = torch.from_numpy(logits[rows]), torch.from_numpy(labels[rows])
        meters[number % 2].add(*part, float(nn.functional.cross_entropy(*part)))
    meters[0].merge(meters[1].parts())
    values = meters[0].values()
    assert values["accuracy"] == pytest.approx((logits.argmax(1) == labels).mean())
    assert values["macro_f1"] == pytest.approx(f1_score(labels, logits.argmax(1), average="macro"))
    chances = torch.softmax(torch.from_numpy(logits), 1).numpy()
    expected = roc_auc_score(labels, chances, multi_class="ovr", average="macro")
    assert values["auc"] == pytest.approx(expected)
    assert values["loss"] == pytest.approx(
        float(nn.functional.cross_entropy(torch.from_numpy(logits), torch.from_numpy(labels)))
    )


def test_dice_of_a_segmentation_is_that_of_monai_and_a_missed_structure_counts() -> None:
    from monai.metrics import DiceMetric

    torch.manual_seed(0)
    meter, peer = SegmentationMeter(3), DiceMetric(include_background=False, reduction="mean")
    for _ in range(4):
        logits, truth = torch.randn(1, 3, 4, 6, 6), torch.randint(0, 3, (1, 4, 6, 6))
        for half in (slice(0, 2), slice(2, 4)):
            meter.add(logits[:, :, half], truth[:, half], 1.0)
        meter.end_case()
        onehot = [
            nn.functional.one_hot(one, 3).movedim(-1, 1) for one in (logits.argmax(1), truth)
        ]  # fmt: skip
        peer(*onehot)
    assert meter.values()["dice"] == pytest.approx(float(peer.aggregate()), abs=1e-6)
    missed = SegmentationMeter(2)
    background = torch.tensor([5.0, -5.0]).reshape(1, 2, 1, 1).expand(1, 2, 4, 4)
    missed.add(background, torch.ones(1, 4, 4, dtype=torch.long), 1.0)
    missed.end_case()
    assert missed.values()["dice"] == 0


@pytest.mark.skipif(not cpu_has_bf16(), reason="the processor has no bfloat16 arithmetic")
@pytest.mark.parametrize("slices", [2, 3])
def test_gradients_of_thin_maps_are_those_of_float32(slices: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(64, 64, 3, padding=1, bias=False))
    image = torch.randn(1, 64, slices, 8, 8)
    network(image).square().sum().backward()
    wanted = network[0].weight.grad.clone()
    how = Arithmetic("bf16")
    how.place_network(network, 3)
    network.zero_grad()
    with how.autocast("cpu"):
        answer = network(image)
    assert answer.dtype == torch.bfloat16
    answer.float().square().sum().backward()
    assert (network[0].weight.grad - wanted).norm() < 0.02 * wanted.norm()
