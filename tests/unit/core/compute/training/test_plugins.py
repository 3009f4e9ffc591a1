"""An installed package brings a network, a loss and a transform; a recipe names them like ours."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import models.networks
from core.bundles.bundle import read_bundle
from core.compute.inference.networks import load_network
from core.compute.training.data.catalogue import NAMED
from core.compute.training.data.named import Named, Target
from core.compute.training.data.transforms import build_transforms, transform_names
from core.compute.training.events import read_events
from core.compute.training.losses import registry as losses
from core.compute.training.losses.dice import DiceCrossEntropy
from core.compute.training.objective import build_network, build_objective
from core.compute.training.run import train_recipe
from core.domain.errors import EnvironmentFault, InputError
from core.recipes.cases import Part
from models.networks import registry as networks
from tests.fakes.shape_training import shape_recipe, write_shapes

SOURCE = """
import torch
from torch import nn
from torch.nn import functional
from core.compute.training.data.named import FunctionStep, Named


class TwoLayers(nn.Module):
    def __init__(self, in_channels=1, out_channels=2, width=4):
        super().__init__()
        self.first = nn.Conv2d(in_channels, width, 3, padding=1)
        self.last = nn.Linear(width, out_channels)

    def forward(self, x):
        return self.last(self.first(x).relu().amax(dim=(2, 3)))


def of_both(in_channels, out_channels, spatial_dims):
    return (nn.Conv2d if spatial_dims == 2 else nn.Conv3d)(in_channels, out_channels, 1)


class Squared(nn.Module):
    def __init__(self, power=2.0, class_weights=None):
        super().__init__()
        self.power, self.class_weights = power, class_weights

    def forward(self, logits, target):
        wanted = functional.one_hot(target, logits.shape[1]).movedim(-1, 1)
        return (logits.softmax(1) - wanted).abs().pow(self.power).mean()


class Brighter(Named):
    by: float = 1.0

    def build(self, target):
        if target.dims != 2:
            raise ValueError("by: pictures only")
        def add(item, state):
            return item | {"image": item["image"] + self.by * state.random_sample()}
        return FunctionStep(self.probability, add)


def nothing(**params):
    return 3


not_callable = 3
"""
POINTS = """
[overread.networks]
two_layers = own_pieces:TwoLayers
of_both = own_pieces:of_both
nothing = own_pieces:nothing
lost = own_pieces_that_are_lost:Network
cnn2d = own_pieces:nothing
[overread.losses]
squared = own_pieces:Squared
nothing = own_pieces:nothing
lost = own_pieces_that_are_lost:Loss
number = own_pieces:not_callable
dice_ce = own_pieces:nothing
[overread.transforms]
brighter = own_pieces:Brighter
nothing = own_pieces:nothing
lost = own_pieces_that_are_lost:Step
rand_flip = own_pieces:nothing
"""
FLAT = Target(dims=2, labelled=False)


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package on the search path, with its metadata as pip writes it."""
    site = tmp_path / "site"
    facts = site / "own_pieces-1.0.dist-info"
    facts.mkdir(parents=True)
    (site / "own_pieces.py").write_text(SOURCE)
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: own-pieces\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(POINTS)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "own_pieces", raising=False)


def test_a_package_brings_a_network() -> None:
    assert "two_layers" in networks.names()
    assert networks.describe("two_layers")["params"] == {"in_channels": 1, "out_channels": 2, "width": 4}
    network = build_network(shape_recipe(network={"name": "two_layers", "params": {"width": 6}}))
    assert network(torch.zeros(2, 1, 24, 24)).shape == (2, 2)
    assert sum(p.numel() for p in network.parameters()) == 6 * 9 + 6 + 6 * 2 + 2


def test_a_network_for_pictures_and_volumes_is_told_which() -> None:
    assert networks.spec("of_both").dimensions == (2, 3)
    network = build_network(shape_recipe(network={"name": "of_both"}))
    assert isinstance(network, torch.nn.Conv2d)


def test_a_name_of_ours_stays_ours() -> None:
    assert type(build_network(shape_recipe())).__module__.startswith("models.networks")
    assert isinstance(losses.build_loss("dice_ce"), DiceCrossEntropy)
    recipe = shape_recipe(transforms__train=[{"name": "rand_flip"}])
    assert build_transforms(recipe, Part.TRAIN).names == ("rand_flip",)


@pytest.mark.parametrize("name", ["nothing", "lost"])
def test_a_broken_network_is_told(name: str) -> None:
    with pytest.raises(EnvironmentFault, match=name) as caught:
        build_network(shape_recipe(network={"name": name}))
    assert "Reinstall" in caught.value.remedy


def test_an_unknown_network_gets_the_nearest_name() -> None:
    with pytest.raises(InputError) as caught:
        build_network(shape_recipe(network={"name": "two_layer"}))
    assert "“two_layers”" in caught.value.remedy
    with pytest.raises(KeyError, match="two_layers"):
        networks.spec("zzz")


def test_a_missing_library_of_a_network_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # An entry of None makes an import fail as if the library were not there.
    for name in {"monai", "monai.networks.nets", *(n for n in sys.modules if n.startswith("monai."))}:
        monkeypatch.setitem(sys.modules, name, None)
    for name in [n for n in sys.modules if n.startswith("models.networks.monai")]:
        monkeypatch.delitem(sys.modules, name)
        monkeypatch.delattr(models.networks, name.rpartition(".")[2], raising=False)
    with pytest.raises(EnvironmentFault, match="library monai") as caught:
        build_network(shape_recipe(network={"name": "resnet18"}))
    assert "overread[train]" in caught.value.remedy


def test_a_package_brings_a_loss() -> None:
    assert "squared" in losses.names()
    loss = losses.build_loss("squared", power=1.0)
    logits, target = torch.zeros(1, 2), torch.tensor([1])
    assert float(loss(logits, target)) == pytest.approx(0.5)
    combined = losses.build_loss(
        "combined", losses=[{"name": "squared"}, {"name": "cross_entropy", "weight": 0}]
    )
    assert float(combined(logits, target)) == pytest.approx(0.25)


def test_the_recipes_class_weights_go_to_a_loss_that_takes_them() -> None:
    recipe = shape_recipe(loss={"name": "squared", "class_weights": [1.0, 3.0]})
    assert build_objective(recipe, ()).trained.class_weights == [1.0, 3.0]


def test_what_a_packages_loss_refuses_is_told() -> None:
    with pytest.raises(InputError) as caught:
        losses.build_loss("squared", powr=1.0)
    assert "“power”" in caught.value.remedy
    for name in ("lost", "number", "nothing"):
        with pytest.raises(EnvironmentFault, match=name):
            losses.build_loss(name)


def test_a_package_brings_a_transform() -> None:
    assert "brighter" in transform_names()
    recipe = shape_recipe(transforms__train=[{"name": "brighter", "params": {"by": 2.0, "probability": 1.0}}])
    assert build_transforms(recipe, Part.TRAIN).names == ("brighter",)
    for wrong, words in (({"b": 1.0}, "no parameter “b”"), ({"by": "x"}, "brighter.by")):
        bad = shape_recipe(transforms__train=[{"name": "brighter", "params": wrong}])
        with pytest.raises(InputError, match=words):
            build_transforms(bad, Part.TRAIN)
    for name in ("lost", "nothing"):
        with pytest.raises(EnvironmentFault, match=name):
            build_transforms(shape_recipe(transforms__train=[{"name": name}]), Part.TRAIN)


def test_the_base_of_transforms_cannot_be_used_itself() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Named()
    assert all(kind.build is not Named.build for kind in NAMED.values())


def test_all_three_train_to_a_bundle_that_loads(tmp_path: Path) -> None:
    data = write_shapes(tmp_path / "data", count=12)
    start = tmp_path / "start.safetensors"
    save_file(networks.build("two_layers", in_channels=1, out_channels=5).state_dict(), start)
    recipe = shape_recipe(
        network={"name": "two_layers", "weights": str(start)},
        loss={"name": "squared"},
        transforms__train=[{"name": "brighter", "params": {"by": 0.1}}],
        training__epochs=1,
    )
    answer = train_recipe(recipe, data=data, out=tmp_path / "run")
    bundle = read_bundle(Path(answer["bundle"]))
    assert bundle.manifest.network is not None
    assert bundle.manifest.network.name == "two_layers"
    assert load_network(bundle) is not None
    kept = json.loads((tmp_path / "run/run.json").read_text())
    assert kept["state"] == "done"
    assert kept["pretrained"]["coverage"] == 1.0
    assert kept["pretrained"]["loaded"] == ["first.bias", "first.weight"]
    notes = [e for e in read_events(tmp_path / "run/events.jsonl") if e.get("code") == "pretrained"]
    assert len(notes) == 1
