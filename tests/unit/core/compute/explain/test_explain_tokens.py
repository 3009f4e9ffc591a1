"""Maps of transformers: tokens and channels-last features are laid on their grid before they are weighted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from core.bundles.manifest import Preprocessing, Scale
from core.compute.explain.cam import CAM_METHODS, head_only_pass, layer_maps, on_grid
from core.compute.explain.randomisation import randomised
from core.compute.explain.run import explain_bundle
from core.compute.explain.targets import class_score
from core.compute.inference.networks import frozen
from core.domain.errors import InputError
from models.networks import registry
from models.networks.classifier import classifier
from models.networks.parts import Parts
from models.networks.registry import spec
from models.networks.swin import SwinEncoder
from models.networks.vit import VitEncoder
from tests.fakes.bundles import classification_manifest, make_image, make_torch_bundle

VIT_LAYER = "encoder.encoder.layers.encoder_layer_1.ln_1"
SIZE = (48, 32)
GRID = (6, 4)


def small_vit(in_channels: int = 3, out_channels: int = 3) -> torch.nn.Module:
    """Two blocks of width 24, patches of 8."""
    encoder = VitEncoder(image_size=32, patch=8, depth=2, width=24, heads=3, hidden=48)
    layer = (VIT_LAYER.removeprefix("encoder."),)
    return classifier(
        encoder, 24, Parts((), ((),), layer), in_channels=in_channels, out_channels=out_channels
    )


def small_swin(in_channels: int = 3, out_channels: int = 3) -> torch.nn.Module:
    """Two levels of width 12 and 24, windows of 4: a grid of an eighth of the image."""
    encoder = SwinEncoder(width=12, depths=(1, 1), heads=(2, 2), window=4, drop_path=0.0)
    return classifier(
        encoder, 24, Parts((), ((),), ("permute",)), in_channels=in_channels, out_channels=out_channels
    )


@pytest.fixture(scope="module")
def vit() -> torch.nn.Module:
    torch.manual_seed(0)
    return frozen(small_vit())


@pytest.fixture(scope="module")
def swin() -> torch.nn.Module:
    torch.manual_seed(0)
    return frozen(small_swin())


def picture() -> torch.Tensor:
    return torch.rand((1, 3, *SIZE), generator=torch.Generator().manual_seed(1))


def test_grad_cam_of_a_vision_transformer_equals_the_formula_patch_by_patch(vit: torch.nn.Module) -> None:
    image = picture()
    (heat,) = layer_maps(vit, VIT_LAYER, image, [class_score(1)])
    assert heat.shape == (1, 1, *GRID)
    tokens, answer = head_only_pass(vit, VIT_LAYER, image)
    answer[0, 1].backward()
    assert tokens.grad is not None
    rows, columns = GRID
    assert tokens.shape == (1, 1 + rows * columns, 24)
    weights = [float(sum(tokens.grad[0, 1 + p, c] for p in range(rows * columns))) / 24 for c in range(24)]
    for row, column in ((0, 0), (0, 3), (1, 0), (4, 2), (5, 3)):
        token = tokens[0, 1 + row * columns + column].tolist()
        wanted = sum(w * t for w, t in zip(weights, token, strict=True))
        assert float(heat[0, 0, row, column]) == pytest.approx(wanted, abs=1e-6)


def test_layer_cam_of_a_vision_transformer_leaves_the_class_token_out(vit: torch.nn.Module) -> None:
    image = picture()
    (heat,) = layer_maps(vit, VIT_LAYER, image, [class_score(0)], "layercam")
    tokens, answer = head_only_pass(vit, VIT_LAYER, image)
    answer[0, 0].backward()
    assert tokens.grad is not None
    wanted = (tokens.grad.relu() * tokens).sum(2)[0, 1:].reshape(GRID)
    assert torch.allclose(heat[0, 0], wanted, atol=1e-7)


def test_a_patch_that_changes_lights_up_in_its_own_cell(vit: torch.nn.Module) -> None:
    image = torch.zeros((1, 3, *SIZE))
    image[:, :, 24:32, 8:16] = 1.0
    before, _ = head_only_pass(vit, "encoder.encoder.dropout", torch.zeros_like(image))
    after, _ = head_only_pass(vit, "encoder.encoder.dropout", image)
    change = on_grid((after - before).detach().abs(), SIZE).sum(1)[0]
    assert torch.nonzero(change > 1e-6).tolist() == [[3, 1]]


def test_channels_last_features_of_a_swin_transformer_give_the_map_of_channels_first(
    swin: torch.nn.Module,
) -> None:
    image = picture()
    for method in CAM_METHODS:
        (first,) = layer_maps(swin, "encoder.permute", image, [class_score(2)], method)
        (last,) = layer_maps(swin, "encoder.norm", image, [class_score(2)], method)
        assert first.shape == (1, 1, *GRID)
        assert torch.allclose(first, last, atol=1e-7)


@pytest.mark.parametrize(
    ("shape", "size", "grid"),
    [
        ((1, 8, 6, 4), (48, 32), (6, 4)),
        ((1, 6, 6, 6), (48, 48), (6, 6)),
        ((1, 6, 4, 8), (48, 32), (6, 4)),
        ((1, 3, 7, 6), (50, 41), (7, 6)),
        ((1, 197, 8), (224, 224), (14, 14)),
        ((1, 196, 8), (224, 224), (14, 14)),
        ((1, 9, 8), (16, 32), (2, 4)),
        ((1, 65, 8), (32, 32, 32), (4, 4, 4)),
        ((1, 2, 4, 3, 8), (16, 32, 24), (2, 4, 3)),
    ],
)
def test_the_grid_of_a_layer_is_told_from_the_shape(
    shape: tuple[int, ...], size: tuple[int, ...], grid: tuple[int, ...]
) -> None:
    assert tuple(on_grid(torch.zeros(shape), size).shape[2:]) == grid


@pytest.mark.parametrize("shape", [(1, 195, 8), (1, 3, 8), (1, 8, 4, 4, 4)])
def test_what_has_no_grid_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="no map"):
        on_grid(torch.zeros(shape), (224, 224))


def test_class_token_positions_and_joint_projections_are_drawn_anew_too(vit: torch.nn.Module) -> None:
    before, after = dict(vit.named_parameters()), dict(randomised(vit, 0).named_parameters())
    for name in ("encoder.encoder.pos_embedding", "encoder.encoder.layers.encoder_layer_0.self_attention"):
        key = name if name in before else f"{name}.in_proj_weight"
        assert not torch.equal(before[key], after[key])
        assert float(after[key].std()) == pytest.approx(float(before[key].std()), rel=0.1)


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t"])
def test_a_transformers_bundle_is_explained_end_to_end(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def builder(_name: str) -> Any:
        return small_vit if name == "vit_b_16" else small_swin

    monkeypatch.setattr(registry, "_own_classifier", builder)
    layer = VIT_LAYER if name == "vit_b_16" else spec(name).cam_layers[0]
    manifest = classification_manifest(
        preprocessing=Preprocessing(
            resize_hw=(32, 32), channels=3, intensity=(Scale(op="scale", from_low=0, from_high=255),)
        )
    )
    params = {"in_channels": 3, "out_channels": 2}
    bundle = make_torch_bundle(tmp_path / "b", name, params, (layer,), manifest)
    for method in CAM_METHODS:
        made = explain_bundle(bundle, make_image(), method=method, device="cpu")
        assert made.heat.shape == (1, 48, 40)
        assert made.layer == layer
        assert made.resolution_mm == pytest.approx((40 / 4, 48 / 4, 1.0))
        assert made.randomisation_correlation is None or abs(made.randomisation_correlation) <= 1
