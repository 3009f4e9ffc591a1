"""Segmentations of single pictures by two-dimensional networks are explained too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.bundles.bundle import Bundle
from core.bundles.manifest import Inference, Preprocessing, Requirements, Scale
from core.compute.explain.cam import layer_maps, upsampled
from core.compute.explain.run import METHODS, explain_bundle
from core.compute.explain.targets import region_score
from core.compute.inference.networks import load_network
from core.compute.inference.prepare import prepare_image
from core.compute.inference.run import run_bundle
from core.domain.errors import InputError
from tests.fakes.bundles import make_image, make_torch_bundle, segmentation_manifest

LAYER = "model.1.submodule"


def bundle_of(folder: Path, **preprocessing: Any) -> Bundle:
    """A small U-Net for pictures with three classes."""
    manifest = segmentation_manifest(
        preprocessing=Preprocessing(
            intensity=(Scale(op="scale", from_low=0, from_high=255),), **preprocessing
        ),
        inference=Inference(divisor=4),
        requirements=Requirements(kind="image", regular=False, colour="any"),
    )
    params = {"in_channels": 1, "out_channels": 3, "spatial_dims": 2, "depth": 2, "features": 4}
    return make_torch_bundle(folder, "unet", params, (LAYER,), manifest, seed=3)


@pytest.mark.parametrize("method", METHODS)
def test_a_segment_of_a_picture_gets_a_map_on_the_picture(tmp_path: Path, method: str) -> None:
    bundle, picture = bundle_of(tmp_path / "b", resize_hw=(32, 32)), make_image()
    labels = run_bundle(bundle, picture, backend="exact").labels
    assert labels is not None
    found = next(label for label in bundle.manifest.labels if (labels == label.value).any())
    made = explain_bundle(bundle, picture, method=method, class_label=found.name, labels=labels)
    assert made.heat.shape == picture.voxels.shape
    assert made.heat.dtype == np.float32
    assert 0 <= made.heat.min() <= made.heat.max() <= 1
    assert made.class_label == found.name


def test_the_map_is_that_of_the_network_on_the_picture(tmp_path: Path) -> None:
    bundle, picture = bundle_of(tmp_path / "b"), make_image()
    network = load_network(bundle)
    assert network is not None
    image = prepare_image(picture, bundle.manifest)
    region = torch.zeros(48, 40, dtype=torch.bool)
    region[10:20, 8:16] = True
    (small,) = layer_maps(network, LAYER, image, [region_score(1, region)])
    wanted = upsampled(small, (48, 40))[0].relu().numpy()
    labels = region[None].numpy().astype(np.uint8)
    made = explain_bundle(bundle, picture, method="gradcam", labels=labels, class_label="Soft tissue")
    assert wanted.max() > 0
    assert np.abs(made.heat - wanted / wanted.max()).max() < 1e-5
    assert made.resolution_mm == pytest.approx((40 / small.shape[3], 48 / small.shape[2], 1.0))


def test_a_layer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no layer") as caught:
        explain_bundle(bundle_of(tmp_path / "b"), make_image(), method="gradcam", layer="nothing")
    assert "inner." not in caught.value.remedy
