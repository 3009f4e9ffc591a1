"""Whole trainings: from files to a bundle that the application runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.bundles.bundle import Bundle, read_bundle
from core.compute.inference.networks import load_network
from core.compute.inference.reference import read_reference
from core.compute.inference.run import run_bundle
from core.compute.selftest import run_selftest
from core.compute.training.checkpoints import load_checkpoint
from core.compute.training.events import EVENTS_FILE, read_events
from core.compute.training.objective import build_network
from core.compute.training.run import train_recipe
from core.domain.errors import InputError, SafetyError
from core.domain.progress import Cancelled, CancelToken
from core.formats.images import read_image
from core.recipes.load import load_recipe, shipped_recipes
from core.recipes.schema import Recipe
from tests.fakes.shape_training import (
    chest_recipe,
    lesion_recipe,
    shape_recipe,
    write_lesions,
    write_shapes,
)


@dataclass(frozen=True)
class Run:
    recipe: Recipe
    data: Path | None
    out: Path
    answer: dict[str, Any]
    heard: list[dict[str, Any]]

    @property
    def bundle(self) -> Bundle:
        return read_bundle(Path(self.answer["bundle"]))


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("shapes")
    data = write_shapes(folder / "data", count=40)
    recipe = shape_recipe(
        training__epochs=12,
        training__ema_decay=0.9,
        training__monitor={"value": "accuracy"},
        training__sample_predictions=3,
        training__label_smoothing=0.05,
        evaluation__gates="classification",
    )
    heard: list[dict[str, Any]] = []
    answer = train_recipe(recipe, data=data, out=folder / "run", on_event=heard.append)
    return Run(recipe, data, folder / "run", answer, heard)


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("chest")
    recipe = chest_recipe(training__sample_predictions=1)
    heard: list[dict[str, Any]] = []
    answer = train_recipe(recipe, out=folder / "run", on_event=heard.append)
    return Run(recipe, None, folder / "run", answer, heard)


def test_a_classifier_learns_and_its_bundle_names_new_pictures(shapes: Run, tmp_path: Path) -> None:
    assert shapes.answer["metrics"]["accuracy"] >= 0.8
    fresh = write_shapes(tmp_path / "new", count=10, seed=99)
    right = 0
    for name, label in (("disc", "Disc"), ("square", "Square")):
        for file in sorted((fresh / name).glob("*.png")):
            right += run_bundle(shapes.bundle, read_image(file), backend="exact").classes[0].label == label
    assert right >= 15


def test_the_bundle_passes_its_self_test(shapes: Run) -> None:
    assert run_selftest(shapes.bundle, "cpu").passed


def test_a_segmentation_carries_a_reference_with_its_own_answer(chest: Run) -> None:
    case = read_reference(chest.bundle)
    answer = run_bundle(chest.bundle, case.volume, backend="exact").labels
    assert case.labels is not None
    assert answer is not None
    assert np.array_equal(answer, case.labels)


def test_the_bundle_carries_the_best_averaged_weights(shapes: Run) -> None:
    network = load_network(shapes.bundle)
    assert network is not None
    kept = load_checkpoint(Path(shapes.answer["checkpoint"]))
    state = network.state_dict()
    assert all(torch.equal(state[key], value) for key, value in kept["weights"].items())
    best = max(e["values"]["validation_accuracy"] for e in shapes.heard if e["event"] == "epoch")
    assert kept["values"]["validation_accuracy"] == best


def test_the_classifier_is_calibrated_and_its_card_states_what_was_measured(shapes: Run) -> None:
    calibration = shapes.bundle.manifest.calibration
    assert calibration.conformal is not None
    assert calibration.out_of_distribution is not None
    card = shapes.bundle.card
    assert "not for primary diagnosis" in card
    assert "test accuracy" in card
    assert "{{" not in card
    assert shapes.bundle.manifest.metrics["train_cases"] > 0
    assert shapes.answer["run_id"] in shapes.bundle.manifest.source


def test_the_run_folder_says_what_was_trained_on_what(shapes: Run) -> None:
    document = json.loads((shapes.out / "run.json").read_text(encoding="utf-8"))
    assert document["state"] == "done"
    assert {"run_id", "name", "seed", "versions", "data_fingerprint", "split_sha256", "device"} <= set(
        document
    )
    assert load_recipe(shapes.out / "recipe.yaml") == shapes.recipe
    metrics = json.loads((shapes.out / "evaluation" / "metrics.json").read_text(encoding="utf-8"))
    assert {"metrics", "per_class", "gates", "details"} <= set(metrics)
    assert [gate["passed"] for gate in metrics["gates"]]
    assert all("insufficient" in gate["reason"] for gate in metrics["gates"] if gate["metric"] == "accuracy")
    split = json.loads((shapes.out / "split.json").read_text(encoding="utf-8"))
    counts = {part: len(ids) for part, ids in split["parts"].items()}
    assert counts == next(e["cases"] for e in shapes.heard if e["event"] == "started")
    assert sum(counts.values()) == 80
    assert (shapes.out / "evaluation" / "report.html").is_file()


def test_events_tell_the_whole_story_in_order(shapes: Run) -> None:
    kinds = [event["event"] for event in shapes.heard]
    assert kinds.index("started") < kinds.index("chosen") < kinds.index("step")
    assert kinds[-2:] == ["evaluated", "done"]
    assert kinds.count("epoch") == 12
    stored = [event for event in read_events(shapes.out / EVENTS_FILE) if event["event"] != "hardware"]
    assert stored == [event for event in shapes.heard if event["event"] != "hardware"]
    rates = [event["learning_rate"] for event in shapes.heard if event["event"] == "step"]
    assert max(rates) == pytest.approx(0.02)
    assert rates[-1] < rates[len(rates) // 2]


@pytest.mark.parametrize(("which", "panels"), [("shapes", 3), ("chest", 1)])
def test_sample_predictions_are_drawn(which: str, panels: int, request: pytest.FixtureRequest) -> None:
    run: Run = request.getfixturevalue(which)
    first = read_image(run.out / "samples" / "epoch-00001.png")
    rows, columns = first.geometry.shape_kji[1:]
    assert (rows > columns) == (panels > 1)
    assert np.asarray(first.voxels).std() > 10


def test_a_segmentation_is_scored_on_the_grid_of_the_series(chest: Run) -> None:
    details = json.loads((chest.out / "evaluation" / "metrics.json").read_text(encoding="utf-8"))["details"]
    assert {row["case"] for row in details["rows"]} == {"0001"}
    assert len(details["rows"]) == 7
    assert chest.bundle.manifest.inference.divisor == 4
    assert chest.bundle.manifest.network is not None
    assert chest.bundle.manifest.network.params["out_channels"] == 8


def test_pictures_are_segmented_by_a_two_dimensional_network(tmp_path: Path) -> None:
    data = write_lesions(tmp_path / "data")
    answer = train_recipe(lesion_recipe(), data=data, out=tmp_path / "run")
    assert answer["metrics"]["mean_dice"] > 0.6
    bundle = read_bundle(Path(answer["bundle"]))
    fresh = write_lesions(tmp_path / "new", count=3, seed=9)
    for number in range(3):
        labels = run_bundle(
            bundle, read_image(fresh / "images" / f"{number:03d}.png"), backend="exact"
        ).labels
        truth = np.asarray(read_image(fresh / "masks" / f"{number:03d}.png").voxels) > 0
        assert labels is not None
        assert labels.shape == truth.shape == (1, 50, 70)
        assert 2 * (labels.astype(bool) & truth).sum() / (labels.sum() + truth.sum()) > 0.6


def test_a_finished_run_is_only_finished_again(shapes: Run) -> None:
    before = (shapes.out / EVENTS_FILE).read_bytes().count(b'"event": "step"')
    heard: list[dict[str, Any]] = []
    train_recipe(shapes.recipe, data=shapes.data, out=shapes.out, on_event=heard.append)
    assert not [event for event in heard if event["event"] == "step"]
    assert (shapes.out / EVENTS_FILE).read_bytes().count(b'"event": "step"') == before


def test_a_run_is_not_continued_with_another_recipe_or_other_data(shapes: Run, tmp_path: Path) -> None:
    other = shapes.recipe.model_copy(update={"seed": 6})
    with pytest.raises(InputError) as caught:
        train_recipe(other, data=shapes.data, out=shapes.out)
    assert caught.value.code == "training.other_recipe"
    assert "seed" in caught.value.user_message
    changed = write_shapes(tmp_path / "changed", count=40, seed=2)
    with pytest.raises(SafetyError) as refused:
        train_recipe(shapes.recipe, data=changed, out=shapes.out)
    assert refused.value.code == "training.other_data"


def test_training_can_begin_with_a_bundle(shapes: Run) -> None:
    initial = shapes.bundle
    network = build_network(shapes.recipe, initial)
    kept = load_checkpoint(Path(shapes.answer["checkpoint"]))["weights"]
    assert all(torch.equal(network.state_dict()[key], value) for key, value in kept.items())
    wrong = shape_recipe(network__name="simple_cnn", network__params={"channels": [4, 8]})
    with pytest.raises(InputError) as caught:
        build_network(wrong, initial)
    assert caught.value.code == "training.initial"


def test_a_cancelled_preparation_leaves_a_cancelled_run(tmp_path: Path) -> None:
    cancel = CancelToken()
    cancel.cancel()
    data = write_shapes(tmp_path / "data", count=4)
    with pytest.raises(Cancelled):
        train_recipe(shape_recipe(), data=data, out=tmp_path / "run", cancel=cancel)
    assert read_events(tmp_path / "run" / EVENTS_FILE)[-1]["event"] == "cancelled"


def test_what_fails_is_told_with_its_code(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        train_recipe(shape_recipe(), data=tmp_path / "nothing", out=tmp_path / "run")
    last = read_events(tmp_path / "run" / EVENTS_FILE)[-1]
    assert last["event"] == "failed"
    assert last["code"].startswith("data.")
    assert json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["state"] == "failed"


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_name_networks_that_can_be_built(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    if recipe.network.name in {"unet3d", "cnn2d"}:
        build_network(recipe)
