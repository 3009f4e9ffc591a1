import copy
import json
from typing import Any

import numpy as np
import pytest
import torch

from core.compute.training.data.module import TrainingData
from core.compute.training.data.values import STATISTICS_FILE, measure_values
from core.compute.training.events import EventLog
from core.domain.errors import InputError
from core.domain.progress import Cancelled, CancelToken, no_progress
from core.recipes.cases import Case, Part
from core.recipes.schema import Recipe
from tests.fakes.training_cases import picture_recipe, volume_recipe, write_pictures, write_volume

_CHANGES = [{"name": "rand_flip"}, {"name": "rand_affine"}, {"name": "rand_noise"}]
_WINDOWS = {"sampling": {"patch_kji": [16, 16, 16], "per_case": 2}}


def volumes_recipe(**sections: Any) -> Recipe:
    return volume_recipe(**{"data": _WINDOWS, "transforms": {"train": _CHANGES}, **sections})


@pytest.fixture
def volumes(tmp_path) -> list[Case]:
    return [write_volume(tmp_path, f"v{number}", seed=number) for number in range(6)]


@pytest.fixture
def pictures(tmp_path) -> list[Case]:
    return write_pictures(tmp_path)


def data(recipe: Recipe, cases: list[Case], out: Any, held: int = 2) -> TrainingData:
    return TrainingData(recipe, {Part.TRAIN: cases[held:], Part.VALIDATION: cases[:held]}, out)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return (
        torch.equal(one["image"], other["image"])
        and torch.equal(one["target"], other["target"])
        and one["case"] == other["case"]
    )


def test_a_batch_holds_the_windows_of_each_draw(volumes, tmp_path):
    batches = list(data(volumes_recipe(), volumes, tmp_path / "out").train_loader(2))
    assert [batch["image"].shape for batch in batches] == [(4, 1, 16, 16, 16)] * 2
    assert batches[0]["image"].dtype == torch.float32
    assert batches[0]["target"].shape == (4, 16, 16, 16)
    assert batches[0]["target"].dtype == torch.int64
    assert sorted(case for batch in batches for case in batch["case"]) == sorted(
        2 * [case.id for case in volumes[2:]]
    )


def test_the_same_run_gives_the_same_batches_and_another_epoch_others(volumes, tmp_path):
    one = data(volumes_recipe(), volumes, tmp_path / "one").train_loader(2)
    other = data(volumes_recipe(), volumes, tmp_path / "other").train_loader(2)
    first = list(one)
    assert all(same(a, b) for a, b in zip(first, other, strict=True))
    assert not any(same(a, b) for a, b in zip(first, one, strict=True))


def test_an_item_depends_on_seed_epoch_and_case_not_on_when_it_is_drawn(volumes, tmp_path):
    loader = data(volumes_recipe(), volumes, tmp_path / "out").train_loader(1)
    draws = list(loader.order)
    dataset = loader.dataset
    forwards = {draw.case: dataset[draw] for draw in draws}
    backwards = {draw.case: dataset[draw] for draw in reversed(draws)}
    for case, samples in forwards.items():
        assert all(torch.equal(a.image, b.image) for a, b in zip(samples, backwards[case], strict=True))
        # Two windows of one case are not changed alike.
        assert not torch.equal(samples[0].image, samples[1].image)


def test_a_run_is_continued_in_the_middle_of_an_epoch_exactly(volumes, tmp_path):
    recipe = volumes_recipe(data={**_WINDOWS, "repeat": 3})
    loader = data(recipe, volumes, tmp_path / "out").train_loader(2)
    straight = [copy.deepcopy(batch) for _ in range(3) for batch in loader]
    loader = data(recipe, volumes, tmp_path / "out").train_loader(2)
    seen, state = [], None
    for _ in range(3):
        for batch in loader:
            seen.append(batch)
            if len(seen) == 8:  # in the second epoch of six batches each
                state = json.loads(json.dumps(loader.state_dict()))
                break
        if state:
            break
    restored = data(recipe, volumes, tmp_path / "out").train_loader(2)
    restored.load_state_dict(state)
    assert restored.remaining == 4
    seen += list(restored)
    restored.set_epoch(2)
    seen += list(restored)
    assert len(seen) == len(straight) == 18
    assert all(same(a, b) for a, b in zip(seen, straight, strict=True))


def test_a_loader_takes_no_number_of_the_global_generator(volumes, tmp_path):
    loader = data(volumes_recipe(), volumes, tmp_path / "out").train_loader(2)
    before = torch.get_rng_state()
    list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_two_ranks_feed_what_one_process_with_twice_the_batch_is_fed(volumes, tmp_path):
    source = data(volumes_recipe(data={**_WINDOWS, "repeat": 2}), volumes, tmp_path / "out")
    one = list(source.train_loader(4))
    ranks = [list(source.train_loader(2, rank=rank, world=2)) for rank in (0, 1)]
    assert len(one) == len(ranks[0]) == len(ranks[1]) == 2
    for step, whole in enumerate(one):
        halves = [rank[step] for rank in ranks]
        images = torch.cat([half["image"] for half in halves])
        order = images.flatten(1).double().sum(1).argsort()
        expected = whole["image"].flatten(1).double().sum(1).argsort()
        assert torch.equal(images[order], whole["image"][expected])
        assert torch.equal(torch.cat([half["target"] for half in halves])[order], whole["target"][expected])


def test_validation_gives_each_whole_volume_once_and_always_the_same(volumes, tmp_path):
    loader = data(volumes_recipe(), volumes, tmp_path / "out").validation_loader()
    first = list(loader)
    next(iter(loader))  # a look that is broken off
    second = list(loader)
    assert [batch["case"] for batch in first] == [["v0"], ["v1"]]
    assert first[0]["image"].shape == (1, 1, 30, 18, 21)
    assert first[0]["spacing_mm"] == [(2.0, 2.0, 2.0)]
    assert all(same(a, b) for a, b in zip(first, second, strict=True))


def test_validation_transforms_that_draw_are_the_same_in_each_epoch(pictures, tmp_path):
    recipe = picture_recipe(
        transforms={"validation": [{"name": "rand_noise", "params": {"probability": 1.0}}]}
    )
    loader = data(recipe, pictures, tmp_path / "out").validation_loader()
    assert all(same(a, b) for a, b in zip(list(loader), list(loader), strict=True))


def test_pictures_come_in_batches_with_their_classes(pictures, tmp_path):
    source = data(picture_recipe(), pictures, tmp_path / "out", held=0)
    batches = list(source.train_loader(4))
    assert [len(batch["target"]) for batch in batches] == [4, 4, 3]
    assert batches[0]["image"].shape == (4, 1, 24, 24)
    by_case = {case.id: case.label for case in pictures}
    for batch in batches:
        assert batch["target"].tolist() == [by_case[case] for case in batch["case"]]


def test_weighted_drawing_takes_each_class_equally_often(pictures, tmp_path):
    source = data(
        picture_recipe(data={"balance": "weighted", "repeat": 60}), pictures, tmp_path / "out", held=0
    )
    targets = torch.cat([batch["target"] for batch in source.train_loader(32)])
    counts = torch.bincount(targets, minlength=3)
    assert len(targets) == 660
    assert int(counts.min()) > 170  # of 220 expected; without weights the rarest has 120


def test_classes_and_their_imbalance_are_counted(pictures, tmp_path):
    source = data(picture_recipe(), pictures, tmp_path / "out", held=0)
    assert source.class_counts == (6, 3, 2)
    assert source.imbalance_ratio == 3.0


def test_voxels_of_labels_are_counted_on_the_training_part_only(volumes, tmp_path):
    source = data(volumes_recipe(), volumes, tmp_path / "out")
    targets = [source.datasets[Part.TRAIN].prepared(n).whole()[1] for n in range(4)]
    expected = torch.bincount(torch.cat([target.flatten() for target in targets]).long(), minlength=4)
    assert source.class_counts == tuple(expected.tolist())
    assert source.imbalance_ratio == pytest.approx(float(expected[3] / expected[1]))


def test_steps_of_an_epoch_can_be_given(volumes, tmp_path):
    source = data(volumes_recipe(), volumes, tmp_path / "out")
    assert len(list(source.train_loader(3, steps=5))) == 5
    limited = data(
        volumes_recipe(training={"steps_per_epoch": 2, "accumulate": 2}), volumes, tmp_path / "out"
    )
    assert len(list(limited.train_loader(1))) == 4


def test_pictures_are_segmented_in_windows_of_two_axes(tmp_path):
    from PIL import Image

    cases = []
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 30), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        Image.fromarray((pixels > 200).astype(np.uint8)).save(tmp_path / f"{number}-mask.png")
        cases.append(
            Case(
                f"{number}",
                "p",
                images={"image": (tmp_path / f"{number}.png",)},
                mask=tmp_path / f"{number}-mask.png",
            )
        )
    recipe = volumes_recipe(
        spatial_dims=2,
        data={"sampling": {"patch_kji": [1, 16, 12]}},
        preprocessing={"spacing_ijk_mm": None, "intensity": [{"op": "percentile"}]},
    )
    source = TrainingData(recipe, {Part.TRAIN: cases, Part.VALIDATION: cases}, tmp_path / "out")
    batch = next(iter(source.train_loader(2)))
    assert batch["image"].shape == (2, 1, 16, 12)
    assert batch["target"].shape == (2, 16, 12)
    whole = next(iter(source.validation_loader()))
    assert whole["image"].shape == (1, 1, 40, 30)
    assert torch.equal(whole["target"][0] == 1, whole["image"][0, 0] * 255 > 200.5)


def test_images_of_different_size_in_a_batch_are_refused_with_both_cases_named(tmp_path):
    cases = [write_volume(tmp_path, "small", (8, 8, 8)), write_volume(tmp_path, "large", (12, 12, 12))]
    source = TrainingData(volume_recipe(), {Part.TRAIN: cases}, tmp_path / "out")
    with pytest.raises(InputError) as refused:
        list(source.train_loader(2))
    assert "small" in refused.value.user_message
    assert "large" in refused.value.user_message
    assert "data.sampling" in refused.value.remedy


def test_a_case_without_a_contrast_is_left_out_where_the_recipe_says_so(volumes, tmp_path):
    lacking = Case("lacking", "p", images={"t2": volumes[0].images["image"]}, mask=volumes[0].mask)
    recipe = volumes_recipe(data={**_WINDOWS, "missing": "leave_out"})
    source = data(recipe, [*volumes, lacking], tmp_path / "out")
    assert source.left_out == ("lacking",)
    assert len(source.parts[Part.TRAIN]) == 4


def test_nothing_to_train_on_is_refused(tmp_path):
    with pytest.raises(InputError) as refused:
        TrainingData(picture_recipe(), {}, tmp_path / "out")
    assert refused.value.code == "training.no_cases"


def test_an_empty_part_has_no_loader(pictures, tmp_path):
    with pytest.raises(InputError, match="test part"):
        data(picture_recipe(), pictures, tmp_path / "out").test_loader()


def test_class_weights_are_not_for_segmentation(volumes, tmp_path):
    with pytest.raises(InputError) as refused:
        data(volumes_recipe(data={**_WINDOWS, "balance": "weighted"}), volumes, tmp_path / "out")
    assert refused.value.code == "training.balance"


def test_all_cases_can_be_prepared_ahead_and_that_can_be_stopped(volumes, tmp_path):
    source = data(volumes_recipe(), volumes, tmp_path / "out")
    token, shares = CancelToken(), []

    def progress(phase: str, fraction: float) -> None:
        shares.append(fraction)
        if len(shares) == 3:
            token.cancel()

    with pytest.raises(Cancelled):
        source.prepare_all(progress, token)
    assert source.cache.counts.built == 3
    source.prepare_all()
    assert source.cache.counts.built == 6
    assert len(list((tmp_path / "out" / "cache").glob("*.case"))) == 6


def test_without_a_folder_or_with_the_cache_switched_off_nothing_is_written(volumes, tmp_path):
    off = volumes_recipe(data={**_WINDOWS, "cache": {"enabled": False}})
    list(data(off, volumes, tmp_path / "out").train_loader(2))
    list(data(volumes_recipe(), volumes, None).train_loader(2))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_loader_processes_change_nothing_and_a_state_counts_what_was_handed_out(volumes, tmp_path):
    recipe = volumes_recipe(data={**_WINDOWS, "repeat": 3})
    loader = data(recipe, volumes, tmp_path / "a").train_loader(2)
    straight = [copy.deepcopy(batch) for _ in range(2) for batch in loader]
    loader = data(recipe, volumes, tmp_path / "b").train_loader(2, workers=1)
    seen = []
    for batch in loader:
        seen.append(copy.deepcopy(batch))
        if len(seen) == 2:  # the worker has fetched more by now
            break
    restored = data(recipe, volumes, tmp_path / "b").train_loader(2)
    restored.load_state_dict(loader.state_dict())
    assert all(same(a, b) for a, b in zip([*seen, *restored, *restored], straight, strict=True))
    # The same process goes on where the loop was left.
    rest = [copy.deepcopy(batch) for batch in loader]
    assert all(same(a, b) for a, b in zip([*seen, *rest], straight[:6], strict=True))
    assert loader._iterator is not None
    loader._iterator._shutdown_workers()


def test_the_values_of_the_prepared_training_images_are_measured(pictures, tmp_path):
    prepared = data(picture_recipe(), pictures, tmp_path / "out")
    measured = measure_values(prepared, "digest", tmp_path, EventLog(None), no_progress, None)
    dataset = prepared.datasets[Part.TRAIN]
    images = [np.asarray(dataset.prepared(n).image[0], float).ravel() for n in range(len(dataset))]
    (one,) = measured.channels.values()
    assert one.mean == pytest.approx(np.concatenate(images).mean())
    assert one.std == pytest.approx(np.concatenate(images).std())
    stored = json.loads((tmp_path / STATISTICS_FILE).read_text())
    assert stored["cases"] == len(dataset)
    assert stored["part"] == "train"
