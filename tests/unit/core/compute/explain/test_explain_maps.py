"""Maps equal captum's, lie where the structure lies, and fail the sanity check when they ignore the model."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LayerAttribution, LayerGradCam

from core.bundles.manifest import Inference
from core.compute.explain.attribution import integrated_gradients
from core.compute.explain.cam import head_only_pass, layer_maps, upsampled
from core.compute.explain.randomisation import is_sane, randomisation_correlation, randomised
from core.compute.explain.run import METHODS, explain_bundle
from core.compute.explain.targets import class_score, region_score
from core.compute.inference.networks import frozen
from core.domain.errors import InputError
from core.domain.geometry import apply_reorientation
from core.domain.progress import Cancelled, CancelToken
from models.networks.registry import build
from tests.fakes.bundles import (
    classification_manifest,
    expected_labels,
    make_image,
    make_segmentation_bundle,
    make_torch_bundle,
    make_volume,
    segmentation_manifest,
)


def network(name: str, **params: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return frozen(build(name, **params))


CASES = [
    ("cnn2d", {"channels": [8, 16]}, "features", (1, 1, 40, 48)),
    ("unet3d", {"channels": [4, 8, 8]}, "decoder.0", (1, 1, 16, 24, 16)),
    ("unet3d", {"channels": [4, 8, 8]}, "encoder.2", (1, 1, 16, 24, 16)),
]


@pytest.mark.parametrize(("name", "params", "layer", "shape"), CASES)
def test_grad_cam_equals_captums_for_all_classes_in_one_pass(
    name: str, params: dict, layer: str, shape: tuple
) -> None:
    model = network(name, **params)
    image = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    if len(shape) == 5:
        with torch.no_grad():
            labels = model(image)[0].argmax(0)
        scores = [region_score(index, labels == index) for index in range(3)]
    else:
        scores = [class_score(index) for index in range(3)]
    calls = []
    handle = model.register_forward_hook(lambda *call: calls.append(1))
    ours = layer_maps(model, layer, image, scores)
    handle.remove()
    assert len(calls) == 1
    mode = "trilinear" if len(shape) == 5 else "bilinear"
    for score, heat in zip(scores, ours, strict=True):

        def forward(batch: torch.Tensor, score: Any = score) -> torch.Tensor:
            return torch.stack([score(model(batch))])

        theirs = LayerGradCam(forward, model.get_submodule(layer)).attribute(
            image.clone().requires_grad_(True)
        )
        theirs = LayerAttribution.interpolate(theirs, shape[2:], interpolate_mode=mode).detach()
        assert float((upsampled(heat, shape[2:]) - theirs).abs().max()) <= 1e-5 * max(
            1, float(theirs.abs().max())
        )


def test_grad_cam_of_a_pooled_linear_head_is_the_class_activation_map() -> None:
    model = network("cnn2d", channels=[8, 16])
    image = torch.rand((1, 1, 32, 32))
    features, _ = head_only_pass(model, "features", image)
    (heat,) = layer_maps(model, "features", image, [class_score(2)])
    cells = features.shape[-1] * features.shape[-2]
    cam = torch.einsum("c,ncij->nij", model.head.weight[2], features.detach())[:, None] / cells
    assert torch.allclose(heat, cam, atol=1e-6)


def test_nothing_before_the_layer_is_recorded_and_the_gradient_mode_is_restored() -> None:
    model = network("cnn2d", channels=[8, 16])
    leaf, answer = head_only_pass(model, "features", torch.rand((1, 1, 32, 32)))
    assert leaf.is_leaf and answer.requires_grad and torch.is_grad_enabled()
    with pytest.raises(InputError, match="no layer"):
        layer_maps(model, "nothing", torch.rand((1, 1, 32, 32)), [class_score(0)])
    with pytest.raises(InputError, match="no map"):
        layer_maps(model, "head", torch.rand((1, 1, 32, 32)), [class_score(0)])
    assert torch.is_grad_enabled()


def test_integrated_gradients_are_complete() -> None:
    model = network("cnn2d", channels=[8, 16])
    image = torch.rand((1, 1, 24, 24))
    heat = integrated_gradients(model, image, class_score(1), 0.0, steps=64)
    with torch.no_grad():
        difference = model(image)[0, 1] - model(torch.zeros_like(image))[0, 1]
    assert float(heat.sum()) == pytest.approx(float(difference), abs=2e-2 * abs(float(difference)) + 1e-3)


def square_images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Class 1 has a bright square somewhere on textured ground, class 0 a dark one."""
    generator = torch.Generator().manual_seed(3)
    images = 0.5 + 0.1 * torch.randn((count, 1, 32, 32), generator=generator)
    labels = torch.arange(count) % 2
    for image, label in zip(images, labels, strict=True):
        row, column = torch.randint(2, 22, (2,), generator=generator).tolist()
        image[0, row : row + 8, column : column + 8] += 0.6 if label else -0.6
    return images, labels


@pytest.fixture(scope="module")
def trained() -> torch.nn.Module:
    torch.manual_seed(0)
    model = build("cnn2d", out_channels=2, channels=[8, 16])
    images, labels = square_images(64)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimiser.step()
    return frozen(model)


def test_a_trained_networks_map_changes_when_its_weights_are_drawn_anew(trained: torch.nn.Module) -> None:
    image = square_images(2)[0][1:]

    def grad_cam(model: torch.nn.Module) -> torch.Tensor:
        return layer_maps(model, "features", image, [class_score(1)])[0]

    correlation = randomisation_correlation(trained, grad_cam)
    assert is_sane(correlation), correlation


def test_an_edge_detector_in_disguise_fails_the_sanity_check(trained: torch.nn.Module) -> None:
    image = square_images(2)[0][1:]
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]).reshape(1, 1, 3, 3)

    def edges(model: torch.nn.Module) -> torch.Tensor:
        return torch.nn.functional.conv2d(image, kernel, padding=1).abs()

    def tinted(model: torch.nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return edges(model) * (1 + model(image).softmax(1)[0, 1])

    for broken in (edges, tinted):
        correlation = randomisation_correlation(trained, broken)
        assert correlation == pytest.approx(1.0, abs=1e-6)
        assert is_sane(correlation) is False


def test_a_constant_map_has_no_verdict(trained: torch.nn.Module) -> None:
    assert randomisation_correlation(trained, lambda model: torch.ones((1, 1, 8, 8))) is None
    assert is_sane(None) is None


def test_randomising_copies_and_leaves_the_global_state_alone(trained: torch.nn.Module) -> None:
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    state = torch.get_rng_state()
    first, second = randomised(trained, 0), randomised(trained, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    assert not torch.equal(first.state_dict()["head.weight"], before["head.weight"])
    assert not torch.equal(first.state_dict()["head.weight"], second.state_dict()["head.weight"])


@pytest.fixture(scope="module")
def unet_bundle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    manifest = segmentation_manifest(inference=Inference(patch_kji=(16, 16, 16)))
    folder = tmp_path_factory.mktemp("unet") / "b"
    return make_torch_bundle(
        folder, "unet3d", {"out_channels": 3, "channels": [4, 8]}, ("decoder.0",), manifest
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_segment_gets_a_map_on_the_series_grid(unet_bundle: Any, method: str) -> None:
    volume = make_volume()
    labels = expected_labels(volume.voxels)
    made = explain_bundle(unet_bundle, volume, method=method, class_label="bone", labels=labels)
    assert made.heat.shape == volume.voxels.shape and made.geometry is volume.geometry
    assert made.heat.dtype == np.float32 and made.heat.min() >= 0 and made.heat.max() <= 1
    assert made.method == method and made.class_label == "Bone"
    assert all(size >= 2.0 for size in made.resolution_mm)
    assert made.pointing_game in (True, False, None)
    if method != "occlusion":
        assert made.randomisation_correlation is None or -1 <= made.randomisation_correlation <= 1


def test_occlusion_points_at_the_structure_of_a_threshold_network(tmp_path: Path) -> None:
    volume = make_volume()
    labels = expected_labels(volume.voxels)
    bundle = make_segmentation_bundle(tmp_path / "b")
    made = explain_bundle(bundle, volume, method="occlusion", class_label="Bone", labels=labels)
    assert made.heat[labels == 2].mean() > 3 * made.heat[labels == 0].mean()
    with pytest.raises(InputError, match="ONNX only"):
        explain_bundle(bundle, volume, method="gradcam", class_label="Bone", labels=labels)


@pytest.mark.parametrize("codes", ["LPS", "RAI", "SPL"])
def test_the_map_lies_on_the_same_anatomy_in_every_storage_order(unet_bundle: Any, codes: str) -> None:
    upright = make_volume()
    labels = expected_labels(upright.voxels)
    straight = explain_bundle(unet_bundle, upright, method="gradcam", class_label="Bone", labels=labels)
    geometry, permutation, flips = upright.geometry.reoriented(codes)
    stored = dataclasses.replace(
        upright,
        geometry=geometry,
        voxels=np.ascontiguousarray(apply_reorientation(upright.voxels, permutation, flips)),
    )
    turned = np.ascontiguousarray(apply_reorientation(labels, permutation, flips))
    made = explain_bundle(unet_bundle, stored, method="gradcam", class_label="Bone", labels=turned)
    assert np.abs(made.heat - apply_reorientation(straight.heat, permutation, flips)).max() < 1e-4


def test_images_are_explained_and_the_resolution_is_that_of_the_layer(tmp_path: Path) -> None:
    params = {"out_channels": 2, "channels": [4, 8]}
    bundle = make_torch_bundle(tmp_path / "b", "cnn2d", params, ("features",), classification_manifest())
    made = explain_bundle(bundle, make_image(), method="gradcam")
    assert made.heat.shape == (1, 48, 40) and made.layer == "features"
    assert made.resolution_mm == pytest.approx((40 / 16, 48 / 16, 1.0))
    assert made.class_label in ("Dark", "Bright")


def test_refusals_name_what_exists(unet_bundle: Any) -> None:
    volume = make_volume()
    with pytest.raises(InputError, match="no method"):
        explain_bundle(unet_bundle, volume, method="magic")
    with pytest.raises(InputError, match="no class"):
        explain_bundle(unet_bundle, volume, method="gradcam", class_label="spleen")
    with pytest.raises(InputError, match="did not find"):
        explain_bundle(
            unet_bundle,
            volume,
            method="gradcam",
            class_label="Bone",
            labels=np.zeros_like(volume.voxels, np.uint8),
        )
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        explain_bundle(unet_bundle, volume, method="gradcam", cancel=token)
