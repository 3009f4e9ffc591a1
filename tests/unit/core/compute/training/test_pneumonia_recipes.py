"""The chest radiograph recipes: heads of 512 units, frozen encoders that thaw, and data as the system has them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from core.compute.training.data.prepare import prepare_case
from core.compute.training.data.transforms import build_transforms
from core.compute.training.freezing import Freezer, build_optimizer
from core.compute.training.objective import build_network, network_params
from core.recipes.cases import Part
from core.recipes.load import load_recipe
from core.recipes.sources.registry import list_cases
from core.recipes.splits import split_cases
from core.recipes.thumbnails import picture_thumbnail
from models.networks.parts import head_parameters, stages
from models.networks.registry import build
from tests.fakes.data import data_path
from tests.fakes.recipes import noise, save_picture

# Features of the encoder, and the parameters that the published network of 1000 classes has without its last layer.
ENCODERS = {
    "resnet50": (2048, 25_557_032 - 2048 * 1000 - 1000),
    "efficientnet_b4": (1792, 19_341_616 - 1792 * 1000 - 1000),
    "densenet121": (1024, 7_978_856 - 1024 * 1000 - 1000),
}


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_the_head_is_features_512_classes(name: str) -> None:
    features, encoder = ENCODERS[name]
    with torch.device("meta"):
        network = build(name, in_channels=3, out_channels=2, spatial_dims=2, head_units=512, dropout=0.5)
    head = features * 512 + 512 + 512 * 2 + 2
    assert sum(p.numel() for p in head_parameters(network)) == head
    assert sum(p.numel() for p in network.parameters()) == encoder + head
    layers = [layer for layer in network.get_submodule("head") if not isinstance(layer, nn.ReLU)]
    assert isinstance(layers[1], nn.Dropout)
    assert layers[1].p == 0.5


def test_the_head_trains_first_and_a_stage_joins_every_five_epochs() -> None:
    recipe = load_recipe("pneumonia-resnet50")
    with torch.device("meta"):
        network = build(recipe.network.name, **network_params(recipe))
    freezer = Freezer(network, recipe.training.freezing)
    head = {id(p) for p in head_parameters(network)}
    assert freezer.apply(0) == 0
    assert {id(p) for p in network.parameters() if p.requires_grad} == head
    assert freezer.apply(5) == 1
    last = {id(p) for p in stages(network)[-1].parameters}
    assert {id(p) for p in network.parameters() if p.requires_grad} == head | last
    assert freezer.apply(recipe.training.epochs) == len(stages(network))
    assert all(p.requires_grad for p in network.parameters())
    groups = build_optimizer(recipe, network).param_groups
    assert [group["full_rate"] for group in groups] == [1e-4, pytest.approx(1e-5)]


def test_the_published_folders_are_read_and_the_validation_part_is_drawn_from_train(tmp_path: Path) -> None:
    for number, (part, count) in enumerate((("train", 10), ("test", 3))):
        for label, name in enumerate(("NORMAL", "PNEUMONIA")):
            for n in range(count):
                pixels = noise(1000 * number + 100 * label + n, 40)
                save_picture(tmp_path / part / name / f"{name}-{n}.png", pixels)
    recipe = load_recipe("pneumonia-resnet50")
    cases = list_cases(recipe.data.source, tmp_path)
    split = split_cases(cases, recipe.data.split, recipe.seed, picture_thumbnail)
    assert len(split.parts[Part.TEST]) == 6
    assert all(case.id.startswith("train/") for case in split.parts[Part.VALIDATION])
    assert len(split.parts[Part.TRAIN]) + len(split.parts[Part.VALIDATION]) == 20
    sample = prepare_case(split.parts[Part.TRAIN][0], recipe)
    assert sample.image.shape == (3, 224, 224)
    changed = build_transforms(recipe, Part.TRAIN)(sample, (0, 1)).image
    assert changed.shape == (3, 224, 224)
    assert torch.isfinite(changed).all()


def test_the_small_recipe_shows_each_radiograph_normalised_by_itself() -> None:
    recipe = load_recipe("pneumonia")
    cases = list_cases(recipe.data.source, data_path("core/images2d/pneumoniamnist"))
    network = build_network(recipe).eval()
    images = torch.stack([prepare_case(case, recipe).image for case in cases[::400]])
    assert images.shape[1:] == (1, 28, 28)
    assert np.allclose(images.mean(dim=(1, 2, 3)), 0, atol=1e-4)
    assert np.allclose(images.std(dim=(1, 2, 3), unbiased=False), 1, atol=1e-3)
    with torch.no_grad():
        assert network(images).shape == (len(images), 2)
