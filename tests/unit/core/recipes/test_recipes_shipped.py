"""Every recipe that ships is sound: it loads, and its network, loss, transforms and gates exist."""

from __future__ import annotations

import pytest

from core.recipes.gates import shipped_gates
from core.recipes.load import dump_recipe, load_recipe, parse_recipe, shipped_recipes
from models.networks.registry import spec

SYSTEMS = {"S2", "S3", "S5"}


@pytest.mark.parametrize("name", shipped_recipes())
def test_a_shipped_recipe_is_sound(name: str) -> None:
    from core.compute.training.data.transforms import build_transforms
    from core.compute.training.objective import build_network, build_objective
    from core.recipes.cases import Part

    recipe = load_recipe(name)
    assert recipe.name == name
    assert recipe.spatial_dims in spec(recipe.network.name).dimensions
    without_weights = recipe.model_copy(
        update={"network": recipe.network.model_copy(update={"weights": None})}
    )
    build_network(without_weights)
    build_objective(recipe, [1] * recipe.out_channels)
    for part in Part:
        build_transforms(recipe, part)
    if recipe.evaluation.gates is not None:
        shipped_gates(recipe.evaluation.gates)


def test_the_training_systems_have_recipes() -> None:
    assert {load_recipe(name).system for name in shipped_recipes()} >= SYSTEMS


def test_a_dumped_recipe_is_the_same_recipe() -> None:
    import yaml

    for name in shipped_recipes():
        recipe = load_recipe(name)
        assert parse_recipe(yaml.safe_load(dump_recipe(recipe))) == recipe
