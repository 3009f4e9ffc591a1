"""The multi-task network: its tasks, its sizes, what it learns, and what saving memory leaves as it was."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.networks.mri_multitask.experts import MixtureOfExperts
from models.networks.mri_multitask.factory import create_basic_net, create_sota_net
from models.networks.mri_multitask.kan import KANLayer
from models.networks.mri_multitask.network import BaseMRINet
from models.networks.mri_multitask.sizes import SIZES, size_of
from models.networks.mri_multitask.windowed import WindowedAttention3d
from models.networks.parts import backbone_parameters, divisor, head_parameters, stages
from models.networks.registry import build, spec

TINY: dict[str, Any] = {
    "embed_dim": 16,
    "num_layers": 2,
    "num_heads": 2,
    "widths": [8, 8, 16],
    "depths": [1, 1, 1, 1, 1, 1],
    "bottleneck": 16,
    "bottleneck_blocks": 1,
}
TASKS = {"out_channels": 3, "classes": 4, "measurements": 2}
NAMES = {"out_channels": "segmentation", "classes": "classification", "measurements": "regression"}


def tiny(variant: str = "basic", **changes: Any) -> BaseMRINet:
    torch.manual_seed(0)
    network = build("mri_multitask", **{"in_channels": 2, "variant": variant, **TASKS, **TINY, **changes})
    assert isinstance(network, BaseMRINet)
    return network


def image(*size: int, batch: int = 1) -> Tensor:
    return torch.randn(batch, 2, *size, generator=torch.Generator().manual_seed(1))


def total(network: BaseMRINet, outputs: dict[str, Tensor]) -> Tensor:
    return sum((value.float().square().mean() for value in outputs.values()), network.auxiliary_loss())


@pytest.mark.parametrize("variant", ["basic", "sota"])
@pytest.mark.parametrize("size", [(16, 32, 48), (64, 16, 32)])
def test_each_task_has_its_shape(size: tuple[int, int, int], variant: str) -> None:
    outputs = tiny(variant)(image(*size, batch=2))
    assert list(outputs) == ["segmentation", "classification", "regression"]
    assert [tuple(value.shape) for value in outputs.values()] == [(2, 3, *size), (2, 4), (2, 2)]
    assert all(torch.isfinite(value).all() for value in outputs.values())


@pytest.mark.parametrize(
    "chosen", [part for count in (1, 2) for part in itertools.combinations(TASKS, count)]
)
def test_a_network_of_some_tasks_has_their_heads_only(chosen: tuple[str, ...]) -> None:
    network = tiny(**{name: TASKS[name] if name in chosen else 0 for name in TASKS})
    outputs = network(image(16, 16, 16))
    assert list(outputs) == [NAMES[name] for name in TASKS if name in chosen]
    assert (network.decoder is None) == ("out_channels" not in chosen)
    total(network, outputs).backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []
    staged = [parameter for stage in stages(network) for parameter in stage.parameters]
    assert {id(p) for p in staged} == {id(p) for p in backbone_parameters(network)}
    assert all(layer in dict(network.named_modules()) for layer in network.parts.cam_layers)  # type: ignore[union-attr]


def test_a_network_without_a_task_is_refused() -> None:
    with pytest.raises(ValueError, match="no task"):
        tiny(out_channels=0, classes=0, measurements=0)


@pytest.mark.parametrize("changes", [{"size": "huge"}, {"variant": "best"}])
def test_unknown_sizes_and_variants_are_refused(changes: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is one of"):
        tiny(**changes)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("create", [create_basic_net, create_sota_net])
def test_sizes_have_the_stated_parameters(create: Any, size: str) -> None:
    with torch.device("meta"):
        network = create(size=size)
    count = sum(parameter.numel() for parameter in network.parameters())
    stated = size_of(size, "basic").millions * 1e6
    assert abs(count / stated - 1) <= 0.02
    embed_dim, layers = {"basic": (64, 4), "standard": (128, 6), "large": (256, 8), "xl": (512, 12)}[size]
    assert network.trunk.positions.shape[-1] == embed_dim
    assert len(network.trunk.blocks) == layers


@pytest.mark.parametrize("create", [create_basic_net, create_sota_net])
def test_the_basic_size_fits_a_file_of_fifteen_megabytes_as_int8(create: Any) -> None:
    with torch.device("meta"):
        network = create(size="basic", in_channels=4, out_channels=9, classes=4, measurements=6)
    parameters = list(network.parameters())
    assert sum(p.numel() for p in parameters) <= 14.9e6
    matrices = sum(p.numel() + 4 * max(p.shape[:2]) for p in parameters if p.ndim > 1)
    assert matrices + sum(4 * p.numel() for p in parameters if p.ndim < 2) < 14.98e6


def test_the_full_network_has_windows_experts_scales_and_learnt_knots() -> None:
    network = tiny("sota")
    parts = list(network.modules())
    windows = [part for part in parts if isinstance(part, WindowedAttention3d)]
    assert [any(part.shift) for part in windows] == [False, True]
    assert sum(isinstance(part, MixtureOfExperts) for part in parts) == 1
    assert len(network.embedding.branches) == 3
    layers = [part for part in parts if isinstance(part, KANLayer)]
    assert layers
    assert all(layer.learnable_knots and layer.gates is not None for layer in layers)
    plain = list(tiny("basic").modules())
    assert not any(isinstance(part, (WindowedAttention3d, MixtureOfExperts)) for part in plain)


def test_single_choices_change_a_variant() -> None:
    network = tiny("basic", window=2, use_moe=True, num_experts=3, scales=[1, 2])
    mixtures = [part for part in network.modules() if isinstance(part, MixtureOfExperts)]
    assert [len(mixture.experts) for mixture in mixtures] == [3]
    assert network(image(16, 16, 32))["classification"].shape == (1, 4)


def test_a_network_of_experts_has_an_auxiliary_loss_after_a_training_pass() -> None:
    network = tiny("sota")
    network(image(16, 16, 32))
    loss = network.auxiliary_loss()
    loss.backward()
    mixture = next(part for part in network.modules() if isinstance(part, MixtureOfExperts))
    assert loss.shape == ()
    assert loss >= 0.01 * 0.999
    assert mixture.gate.weight.grad is not None
    assert mixture.gate.weight.grad.abs().sum() > 0


def test_a_network_without_experts_has_none() -> None:
    network = tiny()
    network(image(16, 16, 16))
    assert network.auxiliary_loss() == 0


@pytest.mark.parametrize("variant", ["basic", "sota"])
@pytest.mark.parametrize(("checkpointing", "chunking"), [("always", "never"), ("always", "always")])
def test_saving_memory_changes_no_output_and_no_gradient(
    variant: str, checkpointing: str, chunking: str
) -> None:
    volume = image(32, 16, 32)
    found = []
    for options in ({"checkpointing": "never"}, {"checkpointing": checkpointing, "chunking": chunking}):
        network = tiny(variant, **options)
        torch.manual_seed(3)
        outputs = network(volume)
        total(network, outputs).backward()
        found.append((outputs, {key: p.grad for key, p in network.named_parameters()}))
    (plain, slopes), (saving, again) = found
    assert all((plain[name] - saving[name]).abs().max() <= 1e-6 for name in plain)
    for key, slope in slopes.items():
        assert slope is not None
        assert torch.allclose(again[key], slope, rtol=1e-4, atol=1e-6), key


@pytest.mark.parametrize("variant", ["basic", "sota"])
def test_evaluation_is_deterministic_and_independent_of_the_batch(variant: str) -> None:
    network, volume = tiny(variant).eval(), image(16, 32, 16, batch=2)
    with torch.no_grad():
        one, two, alone = network(volume), network(volume), network(volume[:1])
    for name, value in one.items():
        assert torch.equal(value, two[name])
        assert torch.allclose(value[:1], alone[name], atol=1e-5)


@pytest.mark.parametrize("variant", ["basic", "sota"])
def test_in_bfloat16_everything_stays_finite_and_near(variant: str) -> None:
    network, volume = tiny(variant, drop_path=0.0).eval(), image(16, 32, 16)
    exact = network(volume)
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(volume)
        loss = total(network, outputs)
    loss.backward()
    for name, value in outputs.items():
        assert torch.isfinite(value).all()
        assert (value.float() - exact[name]).abs().max() < 0.1 * exact[name].abs().max() + 0.05
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_the_memory_layout_changes_nothing() -> None:
    network, volume = tiny().eval(), image(16, 32, 16)
    with torch.no_grad():
        plain = network(volume)
        last = network.to(memory_format=torch.channels_last_3d)(
            volume.to(memory_format=torch.channels_last_3d)
        )
    assert all(torch.allclose(plain[name], last[name], atol=1e-5) for name in plain)


def test_each_task_of_one_sample_is_learnt() -> None:
    network = tiny(widths=[16, 16, 16])
    axes = torch.meshgrid(*[torch.arange(16.0) - 7.5] * 3, indexing="ij")
    target = (torch.stack(axes).square().sum(0).sqrt() < 6).long()[None]
    volume = 0.1 * image(16, 16, 16)
    volume[:, 0] += target.float()
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(120):
        outputs = network(volume)
        loss = functional.cross_entropy(outputs["segmentation"], target)
        loss = loss + functional.cross_entropy(outputs["classification"], torch.tensor([2]))
        loss = loss + functional.mse_loss(outputs["regression"], torch.tensor([[1.0, -1.5]]))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert (outputs["segmentation"].argmax(1) == target).float().mean() > 0.97
    assert outputs["classification"].softmax(1)[0, 2] > 0.95
    assert torch.allclose(outputs["regression"], torch.tensor([[1.0, -1.5]]), atol=0.2)


def test_a_missing_contrast_is_told_apart_from_a_dark_one() -> None:
    network, volume = tiny().eval(), image(16, 16, 16)
    volume[:, 1] = 0.0
    dark = volume.clone()
    dark[0, 1, 0, 0, 0] = 1e-12
    with torch.no_grad():
        network.embedding.missing[1] = torch.linspace(-2, 2, 8)
        absent, present = network(volume), network(dark)
    assert all(not torch.allclose(absent[name], present[name], atol=1e-4) for name in absent)


def test_positions_reach_every_size_of_volume() -> None:
    network = tiny()
    places = network.trunk._places(0, 16)
    assert torch.equal(places, network.trunk.positions[0])
    few = network.trunk._places(1, 4)
    expected = functional.interpolate(
        network.trunk.positions[1].T[None], size=4, mode="linear", align_corners=False
    )[0].T
    assert torch.allclose(few, expected, atol=1e-6)


def test_facts_fit_the_network() -> None:
    network = tiny()
    assert spec("mri_multitask").task == "multitask"
    assert divisor(network) == 16
    heads = {
        key for key, p in network.named_parameters() if any(p is other for other in head_parameters(network))
    }
    assert heads == {key for key, _ in network.named_parameters() if key.startswith("heads.")}
    assert not any(getattr(module, "inplace", False) for module in network.modules())
    kept: list[Tensor] = []
    handle = network.get_submodule("trunk").register_forward_hook(lambda _m, _i, output: kept.append(output))
    answer = network(image(16, 32, 16))["classification"]
    handle.remove()
    (slope,) = torch.autograd.grad(answer.sum(), kept[0])
    assert kept[0].shape == (1, 16, 2, 4, 2)
    assert slope.abs().sum() > 0


def test_the_estimate_of_what_is_kept_grows_with_the_volume() -> None:
    network = tiny()
    assert network.kept_bytes((1, 2, 64, 64, 64)) == 8 * network.kept_bytes((1, 2, 32, 32, 32))
    saved: list[int] = []

    def pack(value: Tensor) -> Tensor:
        saved.append(value.nbytes)
        return value

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        network(image(32, 32, 32))
    assert 0.4 < network.kept_bytes((1, 2, 32, 32, 32)) / sum(saved) < 2.5
