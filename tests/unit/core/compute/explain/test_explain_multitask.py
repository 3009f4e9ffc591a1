"""Maps of a network with several heads: a class of the whole volume, and a structure, in patient space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from torch.nn import functional

from core.compute.explain.heads import HeadNetwork
from core.compute.explain.run import METHODS, explain_bundle
from core.compute.inference.contrasts import named_contrasts, prepare_contrasts
from core.compute.inference.networks import load_network
from core.compute.inference.run import run_bundle
from core.domain.errors import InputError
from tests.fakes.multitask_bundles import head_study, make_multitask_bundle, make_network_bundle


@pytest.fixture(scope="module")
def network_bundle(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_network_bundle(tmp_path_factory.mktemp("maps") / "b")


@pytest.mark.parametrize("method", METHODS)
def test_a_class_of_the_whole_volume_gets_a_map_on_the_series_grid(network_bundle: Any, method: str) -> None:
    study = head_study()
    made = explain_bundle(network_bundle, study, method=method, class_label="Bright", device="cpu")
    assert made.heat.shape == study["T1"].geometry.shape_kji and made.geometry.same_grid_as(
        study["T1"].geometry
    )
    assert made.class_label == "Bright" and made.pointing_game is None
    assert made.heat.min() >= 0 and made.heat.max() <= 1


def test_the_map_of_a_class_equals_captums(network_bundle: Any) -> None:
    """The series is 12 × 16 × 20 voxels along LPS; the network sees it along RAS, padded to 16 × 16 × 32."""
    study = head_study()
    made = explain_bundle(
        network_bundle, study, method="gradcam", class_label="Dark", layer="decoder", device="cpu"
    )
    manifest = network_bundle.manifest
    image = prepare_contrasts(named_contrasts(manifest, study), manifest).tensor
    padded = functional.pad(image, (6, 6, 0, 0, 2, 2))[None]
    network = load_network(network_bundle)
    assert network is not None
    head = HeadNetwork(network, "classification")
    with torch.enable_grad():
        small = LayerGradCam(head, network.get_submodule("decoder")).attribute(
            padded.requires_grad_(True), target=0
        )
    heat = functional.interpolate(small.detach(), size=padded.shape[2:], mode="trilinear").relu()[
        0, 0, 2:-2, :, 6:-6
    ]
    expected = (heat / heat.max()).numpy()[:, ::-1, ::-1]
    np.testing.assert_allclose(made.heat, expected, atol=1e-4)


def test_a_structure_of_the_same_network_gets_its_own_map(network_bundle: Any) -> None:
    study = head_study()
    labels = run_bundle(network_bundle, study, backend="exact").labels
    assert labels is not None
    found = [label for label in network_bundle.manifest.structures if (labels == label.value).any()]
    if not found:
        labels = np.ones_like(labels)
        found = list(network_bundle.manifest.structures[:1])
    made = explain_bundle(
        network_bundle,
        study,
        method="gradcam",
        class_label=found[0].name,
        labels=labels,
        layer="decoder",
        device="cpu",
    )
    of_class = explain_bundle(
        network_bundle,
        study,
        method="gradcam",
        class_label="Dark",
        labels=labels,
        layer="decoder",
        device="cpu",
    )
    assert made.class_label == found[0].name
    assert not np.allclose(made.heat, of_class.heat)
    assert of_class.pointing_game is None


def test_an_onnx_graph_of_several_answers_is_probed_by_hiding(tmp_path: Path) -> None:
    bundle = make_multitask_bundle(tmp_path / "b")
    study = head_study()
    made = explain_bundle(bundle, study, method="occlusion", class_label="Bright", device="cpu")
    assert made.heat.max() == 1.0 and made.class_label == "Bright"
    with pytest.raises(InputError, match="ONNX only"):
        explain_bundle(bundle, study, method="gradcam", class_label="Bright", device="cpu")


def test_a_model_without_structures_explains_its_most_probable_class(tmp_path: Path) -> None:
    bundle = make_multitask_bundle(tmp_path / "b", labels=(), measurements=())
    study = head_study()
    best = run_bundle(bundle, study, backend="exact").classes[0].label
    assert explain_bundle(bundle, study, method="occlusion", device="cpu").class_label == best
