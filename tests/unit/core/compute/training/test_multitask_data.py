"""Recipes, tables, batches and the cache of several tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.compute.training.data.cache_file import compact, read_case_file, write_case
from core.compute.training.data.module import TrainingData
from core.compute.training.data.patches import filled_up
from core.compute.training.data.prepare import Sample, prepare_case
from core.compute.training.data.targets import Facts, targets_of
from core.compute.training.sampler import Draw
from core.domain.errors import InputError
from core.domain.volume import Volume
from core.recipes.cases import UNJUDGED, Case, CaseData, Part
from core.recipes.sources.registry import list_cases
from core.recipes.splits import split_cases
from tests.fakes.multitask_training import KINDS, lesion_recipe, write_lesions
from tests.fakes.recipes import cube


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lesions(tmp_path_factory.mktemp("lesions"))


def data_of(folder: Path, out: Path | None = None, **changes: Any) -> TrainingData:
    recipe = lesion_recipe(**changes)
    cases = list_cases(recipe.data.source, folder, recipe.data.channels)
    return TrainingData(recipe, split_cases(cases, recipe.data.split, recipe.seed).parts, out)


def batch_of(data: TrainingData) -> dict[str, Any]:
    return next(iter(data.train_loader(8)))


def test_a_batch_holds_the_targets_of_the_tasks_and_says_what_is_unknown(folder: Path) -> None:
    data = data_of(folder)
    batch = batch_of(data)
    target = batch["target"]
    assert list(target) == ["segmentation", "classification", "regression"]
    assert batch["image"].shape == (8, 1, 16, 16, 16)
    assert target["segmentation"].shape == (8, 16, 16, 16) and target["segmentation"].dtype == torch.int64
    assert target["regression"].shape == (8, 1) and target["regression"].dtype == torch.float32
    cases = {case.id: case for case in data.parts[Part.TRAIN]}
    for n, name in enumerate(batch["case"]):
        case = cases[name]
        assert int(target["classification"][n]) == (-1 if case.label is None else case.label)
        if case.mask is None:
            assert bool((target["segmentation"][n] == UNJUDGED).all())
        else:
            millilitres = int((target["segmentation"][n] == 1).sum()) * 8 / 1000
            if case.values:
                assert case.values["volume"] == pytest.approx(millilitres, abs=1e-4)
                assert float(target["regression"][n, 0]) == pytest.approx((millilitres - 2) / 1.5, abs=1e-4)
            else:
                assert bool(target["regression"][n].isnan().all())


def test_one_task_alone_gets_its_own_target_and_the_network_its_own_head(folder: Path) -> None:
    from core.compute.training.objective import build_network, network_params

    document = lesion_recipe().model_dump(mode="json")["tasks"]["classification"]
    recipe = lesion_recipe(tasks={"classification": document})
    params = network_params(recipe)
    assert (params["out_channels"], params["classes"], params["measurements"]) == (0, 2, 0)
    assert list(build_network(recipe)(torch.zeros(1, 1, 16, 16, 16))) == ["classification"]
    assert list(batch_of(data_of(folder, tasks={"classification": document}))["target"]) == ["classification"]


def test_image_and_label_map_turn_together_and_the_rest_stays(folder: Path) -> None:
    plain = batch_of(data_of(folder))
    turned = batch_of(
        data_of(
            folder,
            transforms={"train": [{"name": "rand_flip", "params": {"probability": 1.0, "axes": ["k", "i"]}}]},
        )
    )
    assert plain["case"] == turned["case"]
    assert torch.equal(turned["image"], plain["image"].flip(2, 4))
    assert torch.equal(turned["target"]["segmentation"], plain["target"]["segmentation"].flip(1, 3))
    assert torch.equal(turned["target"]["classification"], plain["target"]["classification"])
    assert np.array_equal(turned["target"]["regression"], plain["target"]["regression"], equal_nan=True)


def test_reports_become_word_pieces_and_some_are_hidden_in_training(folder: Path, tmp_path: Path) -> None:
    text = {"max_tokens": 12}
    data = data_of(folder, tmp_path, data__source__text="report", data__text=text)
    batch = batch_of(data)
    assert batch["text"].shape == (8, 12) and batch["text"].dtype == torch.int64
    labels = [next(c for c in data.parts[Part.TRAIN] if c.id == name) for name in batch["case"]]
    rows = {tuple(row.tolist()) for row, case in zip(batch["text"], labels, strict=True) if case.text}
    assert len(rows) == 2 and all(any(row) for row in rows)
    assert (tmp_path / "text" / "vocab.txt").read_bytes() == data.vocabulary
    hidden = data_of(folder, data__source__text="report", data__text={**text, "dropout": 0.5})
    first, again = (
        [not bool(b["text"][n].any()) for b in [batch_of(hidden)] for n in range(8)] for _ in "ab"
    )
    assert first == again and 0 < sum(first) < 8
    shown = next(iter(hidden.validation_loader()))
    assert bool(shown["text"].any())


def test_reports_without_a_training_text_are_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="No training case has a report") as raised:
        data_of(folder, data__text={})
    assert raised.value.code == "training.no_text"


def test_classes_and_voxels_are_counted_by_task(folder: Path) -> None:
    data = data_of(folder)
    assert data.counts_of("classification") == (4, 3) == data.class_counts
    voxels = data.counts_of("segmentation")
    assert sum(voxels) == 7 * 16**3 and voxels[1] > 0


def test_what_reading_gave_is_kept_with_the_prepared_case(tmp_path: Path) -> None:
    recipe = lesion_recipe()
    labels = np.zeros((16, 16, 16), dtype=np.uint8)
    labels[4:9, 4:9, 4:9] = 1
    voxels = np.random.default_rng(0).normal(size=labels.shape).astype(np.float32)
    volume = Volume(cube(16), voxels, "MR", "1.2")
    content = CaseData({"image": volume}, labels, 1, values={"volume": 3.5}, text="A square lesion.")
    sample = prepare_case(Case("a", "a", seed=1), recipe, content)
    assert isinstance(sample.target, dict)
    assert float(sample.target["regression"]) == pytest.approx(1.0)
    path = tmp_path / "one.case"
    with path.open("wb") as stream:
        write_case(stream, compact(sample, 0))
    facts = read_case_file(path, mapped=False, verify=True).facts
    assert facts == Facts(1, {"volume": 3.5}, "A square lesion.")
    assert "lesion" not in repr(facts)


def test_what_the_source_knows_comes_before_what_reading_gave() -> None:
    case = Case("a", "a", values={"volume": 2.0}, text="mine")
    read = Facts(1, {"volume": 9.0, "depth": 4.0}, "theirs")
    assert read.beside(case) == Facts(1, {"volume": 2.0, "depth": 4.0}, "mine")


@pytest.mark.parametrize(
    ("facts", "match"), [(Facts(5), "class 5"), (Facts(values={"volume": float("inf")}), "finite")]
)
def test_targets_that_make_no_sense_are_refused(facts: Facts, match: str) -> None:
    with pytest.raises(InputError, match=match):
        targets_of(None, facts, "a", lesion_recipe(), (2, 2, 2))


def test_images_are_filled_up_as_the_application_does() -> None:
    from core.bundles.manifest import Inference
    from core.compute.inference.sliding import padded_whole

    torch.manual_seed(0)
    image = torch.rand(2, 17, 30, 16)
    image[1] = 0
    ours, label = filled_up(image, torch.ones(17, 30, 16, dtype=torch.uint8), 16, -1.5)
    theirs, before = padded_whole(image, Inference(divisor=16, pad_value=-1.5))
    assert torch.equal(ours, theirs)
    assert label is not None and int((label == 1).sum()) == 17 * 30 * 16
    k, j, i = before
    assert bool((label[k : k + 17, j : j + 30, i : i + 16] == 1).all()) and UNJUDGED in label
    same = filled_up(image[:, :16, :16], None, 16, 0.0)[0]
    assert same.shape == (2, 16, 16, 16)


def test_a_volume_of_an_odd_size_trains(folder: Path, tmp_path: Path) -> None:
    odd = data_of(write_lesions(tmp_path, 8, size=18), training__batch_size=2)
    sample = odd.datasets[Part.TRAIN][Draw(0, 1, 0)][0]
    assert isinstance(sample, Sample) and sample.image.shape == (1, 32, 32, 32)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"tasks": {}}, "tasks: name at least one"),
        ({"bundle.classes": []}, "bundle.classes: tasks.classification needs at least 2"),
        ({"bundle.measurements": []}, "bundle.measurements: tasks.regression needs at least 1"),
        ({"bundle.labels": []}, "bundle.labels: tasks.segmentation needs at least 1"),
        ({"tasks": {"regression": {"name": "mse"}}, "training.monitor.value": "dice"}, "dice needs tasks.segmentation"),
        ({"bundle.inference.patch_kji": [8, 8, 8]}, "answered on the whole image"),
        ({"task": "segmentation"}, "tasks: this is for the task multitask"),
        ({"training.mixup": 0.2}, "mixup is for classification"),
        ({"bundle.classes": [{"value": 1, "name": "a"}, {"value": 2, "name": "b"}]}, "numbered 0, 1, 2"),
    ],
)  # fmt: skip
def test_recipes_of_several_tasks_that_do_not_fit_together_are_refused(
    changes: dict[str, Any], match: str
) -> None:
    with pytest.raises(InputError) as raised:
        lesion_recipe(**changes)
    assert match in raised.value.user_message


def test_a_regression_wants_a_loss_of_numbers_and_the_others_do_not() -> None:
    from core.compute.training.objective import build_objective

    for task, name in (("regression", "cross_entropy"), ("classification", "mse")):
        with pytest.raises(InputError, match=f"tasks.{task}"):
            build_objective(lesion_recipe(**{f"tasks__{task}": {"name": name}}), {})


def test_the_table_names_what_it_lacks(tmp_path: Path) -> None:
    write_lesions(tmp_path, 6)
    recipe = lesion_recipe(data__source__measurements=["volume", "diameter"])
    with pytest.raises(InputError, match="no column “diameter”"):
        list_cases(recipe.data.source, tmp_path)
    table = tmp_path / "manifest.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    lines[-1] = lines[-1].replace(KINDS[1], KINDS[1] + "s")
    table.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError, match="isn't a class"):
        list_cases(lesion_recipe().data.source, tmp_path)
    lines[-1] = ",".join(["image-5.nii.gz", "mask-5.nii.gz", KINDS[1], "large", "", "test"])
    table.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(InputError, match="no number in the column “volume”"):
        list_cases(lesion_recipe().data.source, tmp_path)
