"""Every network of the registry is explained by its own layers, at the resolution of the layer."""

from __future__ import annotations

import pytest
import torch

from core.compute.explain.cam import layer_maps
from core.compute.explain.targets import class_score, region_score
from core.compute.inference.networks import frozen
from models.networks.parts import parts_of
from models.networks.registry import build
from models.networks.specs import SPECS

pytestmark = pytest.mark.slow
CLASSIFIERS = sorted(name for name, spec in SPECS.items() if spec.task == "classification")
SEGMENTERS = sorted(name for name, spec in SPECS.items() if spec.task == "segmentation")
SMALL = {"vit_b_16": {"image_size": 64}}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_has_a_map_of_its_grid(name: str) -> None:
    torch.manual_seed(0)
    network = frozen(build(name, in_channels=1, out_channels=2, **SMALL.get(name, {})))
    image = torch.rand((1, 1, 64, 64))
    for layer in parts_of(network).cam_layers:
        first, second = layer_maps(network, layer, image, [class_score(0), class_score(1)])
        assert first.shape[:2] == (1, 1)
        assert first.shape[2] == first.shape[3] <= 32
        assert torch.isfinite(first).all()
        assert not torch.equal(first, second)


@pytest.mark.parametrize("name", SEGMENTERS)
def test_a_segmenting_network_has_a_map_for_each_of_its_layers(name: str) -> None:
    torch.manual_seed(0)
    many = {"spatial_dims": 3} if len(SPECS[name].dimensions) > 1 else {}
    network = frozen(build(name, in_channels=1, out_channels=3, **many))
    side = 64 if name == "swin_unetr" else 32
    image = torch.rand((1, 1, side, side, side))
    for layer in parts_of(network).cam_layers:
        (heat,) = layer_maps(network, layer, image, [region_score(1, None)])
        assert heat.shape[:2] == (1, 1)
        assert len({*heat.shape[2:]}) == 1
        assert heat.shape[2] <= side
        assert torch.isfinite(heat).all()
        assert float(heat.abs().max()) > 0
