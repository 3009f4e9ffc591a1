"""Networks: sizes, shapes, dynamic input, independence of the batch."""

from __future__ import annotations

import pytest
import torch

from models.networks.registry import build, names


def parameters(network: torch.nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_names_are_stable() -> None:
    assert {"cnn2d", "unet3d"} <= set(names())


def test_unknown_names_are_refused() -> None:
    with pytest.raises(KeyError, match="unet3d"):
        build("resnet9000")


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(TypeError):
        build("unet3d", depth=5)


@pytest.mark.parametrize("size", [(16, 16, 16), (16, 32, 48)])
def test_unet_keeps_the_size(size: tuple[int, int, int]) -> None:
    network = build("unet3d", out_channels=8).eval()
    with torch.no_grad():
        assert network(torch.zeros(1, 1, *size)).shape == (1, 8, *size)


def test_unet_is_small() -> None:
    assert parameters(build("unet3d")) * 4 < 7_000_000


def test_classifier_shapes_and_size() -> None:
    network = build("cnn2d", out_channels=6).eval()
    with torch.no_grad():
        assert network(torch.zeros(3, 1, 64, 64)).shape == (3, 6)
        assert network(torch.zeros(1, 1, 96, 80)).shape == (1, 6)
    assert parameters(network) * 4 < 4_000_000


@pytest.mark.parametrize(("name", "size"), [("unet3d", (16, 16, 16)), ("cnn2d", (32, 32))])
def test_the_answer_does_not_depend_on_the_batch(name: str, size: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = build(name).eval()
    images = torch.randn(2, 1, *size)
    with torch.no_grad():
        together, alone = network(images)[:1], network(images[:1])
    assert torch.allclose(together, alone, atol=1e-5)


def test_no_operation_works_in_place() -> None:
    for name in ("unet3d", "cnn2d"):
        assert not any(m.inplace for m in build(name).modules() if isinstance(m, torch.nn.ReLU))
