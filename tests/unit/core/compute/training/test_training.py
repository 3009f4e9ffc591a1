"""Training: recipes, augmentation, losses, resuming, learning."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from core.compute.training.augment3d import sample_patch, vary_appearance
from core.compute.training.checkpoint import load_checkpoint, save_checkpoint
from core.compute.training.image_data import augmented, near_duplicates, read_pictures, scaled, split_pictures
from core.compute.training.loop import learning_rate, train
from core.compute.training.losses.dice import DiceCrossEntropy, soft_dice_loss
from core.compute.training.phantom_data import PhantomPool, normalised
from core.compute.training.recipe import PhantomData, Recipe, load_recipe
from core.domain.errors import InputError
from core.domain.progress import Cancelled, CancelToken
from models.networks.registry import build

TINY = {"channels": (4, 8, 8)}


def tiny_recipe(**changes: object) -> Recipe:
    base = {
        "name": "tiny",
        "seed": 1,
        "network": {"name": "unet3d", "params": TINY},
        "data": {
            "kind": "phantoms", "count": 2, "holdout": 1, "spacing_mm": 12.0, "patch_kji": [16, 24, 24],
            "low_hu": -1000.0, "high_hu": 600.0,
        },
        "batch_size": 2,
        "steps": 6,
        "warmup_steps": 1,
        "learning_rate": 0.01,
        "ema_decay": 0.5,
        "precision": "fp32",
        "checkpoint_every": 3,
    }  # fmt: skip
    return Recipe.model_validate({**base, **changes})


def random_batches(step: int, items: range) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng((step, items.start))
    labels = torch.from_numpy(rng.integers(0, 8, (len(items), 8, 8, 8)))
    return labels[:, None].float() / 4 - 1, labels


@pytest.mark.parametrize("name", ["thorax-ct", "mednist"])
def test_shipped_recipes_are_valid(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    build(recipe.network.name, **recipe.network.params)


def test_overrides_reach_nested_values_and_unknown_fields_are_named() -> None:
    assert load_recipe("thorax-ct", {"data.count": 3}).data.count == 3  # type: ignore[union-attr]
    with pytest.raises(InputError) as caught:
        load_recipe("thorax-ct", {"data.colour": 3})
    assert caught.value.code == "recipe.invalid"
    assert "colour" in caught.value.user_message
    with pytest.raises(InputError) as caught:
        load_recipe("no-such-recipe")
    assert caught.value.code == "recipe.unknown"


def test_dice_loss_is_zero_for_the_truth_and_ignores_absent_classes() -> None:
    labels = torch.randint(0, 3, (2, 6, 6, 6))
    perfect = torch.nn.functional.one_hot(labels, 5).movedim(-1, 1).float()
    assert float(soft_dice_loss(perfect, labels)) == pytest.approx(0.0, abs=1e-3)
    assert float(DiceCrossEntropy()(perfect * 50, labels)) == pytest.approx(0.0, abs=1e-3)


def test_patches_repeat_and_labels_follow_the_picture() -> None:
    labels = np.zeros((30, 40, 50), np.uint8)
    labels[8:20, 10:25, 12:30] = 6
    hu = np.where(labels == 6, 600, -1000).astype(np.int16)
    one = sample_patch(hu, labels, (16, 24, 32), np.random.default_rng(3))
    two = sample_patch(hu, labels, (16, 24, 32), np.random.default_rng(3))
    assert np.array_equal(one[0], two[0])
    assert one[1].any()
    assert ((one[0] > -200) == (one[1] == 6)).mean() > 0.97


def test_patches_never_swap_left_and_right() -> None:
    labels = np.zeros((32, 32, 64), np.uint8)
    labels[:, :, 4:28], labels[:, :, 36:60] = 2, 1
    for seed in range(12):
        _, cut = sample_patch(
            np.zeros(labels.shape, np.int16), labels, (24, 24, 56), np.random.default_rng(seed)
        )
        left, right = np.argwhere(cut == 1), np.argwhere(cut == 2)
        if len(left) > 50 and len(right) > 50:
            assert left[:, 2].mean() > right[:, 2].mean()


def test_appearance_keeps_labels_except_where_the_field_is_cut() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 8, (16, 20, 24)).astype(np.uint8)
    hu = rng.normal(0, 300, labels.shape).astype(np.float32)
    for seed in range(20):
        changed, truth = vary_appearance(hu, labels, np.random.default_rng(seed))
        assert changed.shape == hu.shape
        assert np.isfinite(changed).all()
        moved = truth != labels
        assert not truth[moved].any()
        assert (changed[moved] <= -1000).all()


def test_normalisation_maps_the_window() -> None:
    assert normalised(np.array([-2000, -1000, -200, 600, 900]), -1000, 600).tolist() == [-1, -1, 0, 1, 1]


def test_the_pool_renders_once_and_repeats_batches(tmp_path: Path) -> None:
    settings = tiny_recipe().data
    assert isinstance(settings, PhantomData)
    pool = PhantomPool(tmp_path, settings)
    images, labels = pool.batch(1, 5, range(2))
    again = PhantomPool(tmp_path, settings).batch(1, 5, range(2))
    assert images.shape == (2, 1, 16, 24, 24)
    assert labels.dtype == torch.int64
    assert torch.equal(images, again[0])
    assert torch.equal(labels, again[1])
    assert list(pool.holdout_seeds()) == [2]
    assert len(list(tmp_path.glob("*.npz"))) == 2


def test_learning_rate_rises_then_falls_to_zero() -> None:
    recipe = tiny_recipe(steps=100, warmup_steps=10)
    rates = [learning_rate(recipe, n) for n in range(101)]
    assert rates[0] < rates[9] == pytest.approx(0.01)
    assert rates[100] == pytest.approx(0.0, abs=1e-9)
    assert all(b <= a for a, b in pairwise(rates[10:]))


@pytest.mark.parametrize("replicas", [1, 2])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(tmp_path: Path, replicas: int) -> None:
    def run(folder: Path, stop_at: int | None) -> dict[str, Tensor]:
        torch.manual_seed(0)
        network = build("unet3d", **TINY)
        recipe = tiny_recipe(replicas=replicas)
        cancel = CancelToken()

        def progress(phase: str, fraction: float) -> None:
            if stop_at is not None and round(fraction * recipe.steps) >= stop_at:
                cancel.cancel()

        outcome = train(
            recipe, network, random_batches, DiceCrossEntropy(), folder, progress=progress, cancel=cancel
        )
        return outcome.network.state_dict()

    straight = run(tmp_path / "a", None)
    with pytest.raises(Cancelled):
        run(tmp_path / "b", 4)
    resumed = run(tmp_path / "b", None)
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)
    assert len((tmp_path / "a" / "progress.jsonl").read_text().splitlines()) == 6


def test_training_learns_a_few_samples_by_heart(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build("unet3d", **TINY)
    images, labels = random_batches(0, range(2))
    recipe = tiny_recipe(
        steps=120, learning_rate=0.02, ema_decay=0.0, freeze_norm_at=1.0, checkpoint_every=1000
    )
    outcome = train(recipe, network, lambda step, items: (images, labels), DiceCrossEntropy(), tmp_path)
    with torch.no_grad():
        right = (outcome.network.train()(images).argmax(dim=1) == labels).float().mean()
    assert float(right) > 0.9


def test_checkpoints_hold_no_objects(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    save_checkpoint(path, {"step": 3, "weights": {"a": torch.ones(2)}})
    assert load_checkpoint(path)["step"] == 3
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    assert caught.value.code == "training.checkpoint"


def test_near_duplicates_stay_together(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for n in range(20):
            pixels = np.kron(rng.integers(0, 255, (16, 16)), np.ones((4, 4))).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{n:03d}.png")
            if n < 4:
                almost = np.clip(pixels.astype(int) + 1, 0, 255).astype(np.uint8)
                Image.fromarray(almost).save(tmp_path / name / f"x{n}.png")
    settings = load_recipe("mednist", {"data.classes": ["a", "b"], "data.size_px": 64}).data
    pictures = read_pictures(tmp_path, settings)  # type: ignore[arg-type]
    groups = near_duplicates(pictures.pixels, 0.995)
    assert len(np.unique(groups)) == 40
    split = split_pictures(pictures, settings, 0)  # type: ignore[arg-type]
    parts = [split.train, split.calibration, split.test]
    assert sum(len(p) for p in parts) == len(pictures.labels)
    for one in range(3):
        for two in range(one):
            assert not set(groups[parts[one]]) & set(groups[parts[two]])
    assert all(len(p) for p in parts)


def test_missing_classes_are_named(tmp_path: Path) -> None:
    settings = load_recipe("mednist").data
    with pytest.raises(InputError, match="AbdomenCT"):
        read_pictures(tmp_path, settings)  # type: ignore[arg-type]


def test_augmented_pictures_stay_in_range_and_repeat() -> None:
    images = scaled(np.random.default_rng(0).integers(0, 255, (5, 32, 32)).astype(np.uint8))
    one = augmented(images, torch.Generator().manual_seed(1))
    two = augmented(images, torch.Generator().manual_seed(1))
    assert torch.equal(one, two)
    assert float(one.min()) >= 0.0
    assert float(one.max()) <= 1.0
