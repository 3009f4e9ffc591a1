"""A data folder's layout is recognised, and the drafted recipe is accepted and finds its cases."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from core.domain.errors import InputError
from core.domain.geometry import VolumeGeometry
from core.recipes.draft import draft_recipe, fitting_networks, recipe_name
from core.recipes.load import parse_recipe
from core.recipes.proposal import Proposal, propose
from core.recipes.reading import read_case
from core.recipes.schema import Recipe
from core.recipes.sources.registry import list_cases
from tests.fakes.data import data_path
from tests.fakes.recipes import class_folders, cube, noise, save_picture, save_volume


def drafted(folder: Path) -> tuple[Proposal, Recipe]:
    """Return proposal and recipe, after reading the first case by it."""
    proposal = propose(folder)
    recipe = parse_recipe(draft_recipe(proposal, "My data"))
    cases = list_cases(recipe.data.source, folder, recipe.data.channels, recipe.data.missing)
    data = read_case(cases[0], recipe.data)
    assert (data.labels is None) == (recipe.task == "classification")
    return proposal, recipe


def test_class_folders_are_recognised(tmp_path: Path) -> None:
    proposal, recipe = drafted(class_folders(tmp_path, {"cat": 4, "dog": 4}))
    assert proposal.source == {"name": "class_folders", "classes": ["cat", "dog"]}
    assert (recipe.task, recipe.spatial_dims, recipe.network.name) == ("classification", 2, "densenet121")
    assert recipe.preprocessing.resize_hw == (64, 64) and recipe.data.balance == "weighted"
    assert [label.name for label in recipe.bundle.labels] == ["cat", "dog"]
    assert "Nothing says which images belong to one patient" in proposal.notes[0]


def test_parts_as_folders_are_recognised(tmp_path: Path) -> None:
    for part in ("train", "val", "test"):
        class_folders(tmp_path / part, {"cat": 2, "dog": 2})
    proposal, recipe = drafted(tmp_path)
    assert proposal.source["parts"] == {"train": "train", "validation": "val", "test": "test"}
    assert recipe.data.split.method == "given"


def test_patients_in_the_names_are_recognised(tmp_path: Path) -> None:
    for number in range(6):
        save_picture(tmp_path / "cat" / f"patient{number // 2:03d}_{number}.png", noise(number))
        save_picture(tmp_path / "dog" / f"patient{number // 2 + 10:03d}_{number}.png", noise(50 + number))
    proposal, recipe = drafted(tmp_path)
    assert "6 patients" in proposal.notes[0]
    assert len({case.patient for case in list_cases(recipe.data.source, tmp_path)}) == 6


def test_images_and_masks_are_recognised_and_odd_values_numbered(tmp_path: Path) -> None:
    for number in range(3):
        save_picture(tmp_path / f"imgs/{number}.png", noise(number, 40))
        save_picture(
            tmp_path / f"masks/{number}_mask.png",
            (noise(number, 40) > 100) * np.uint8(100 + 50 * (number % 2)),
        )
    proposal, recipe = drafted(tmp_path)
    assert proposal.source == {
        "name": "image_mask_files",
        "images": "imgs",
        "masks": "masks",
        "mask_suffix": "_mask",
        "values": {100: 1, 150: 2},
    }
    assert (recipe.task, recipe.network.name, recipe.loss.name) == ("segmentation", "unet", "dice_ce")
    assert recipe.preprocessing.resize_hw == (48, 48) and recipe.out_channels == 3


def test_pairs_in_one_folder_are_recognised(tmp_path: Path) -> None:
    for number in range(3):
        save_picture(tmp_path / f"{number}.png", noise(number))
        save_picture(tmp_path / f"{number}_seg.png", (noise(number) > 100) * np.uint8(255))
    proposal, _ = drafted(tmp_path)
    assert proposal.source["mask_suffix"] == "_seg" and proposal.labels == ((1, "structure-1"),)


def test_patient_folders_with_contrasts_are_recognised(tmp_path: Path) -> None:
    for number in range(3):
        for name in ("T1.nii.gz", "flair.nii.gz", "lesion_seg.nii.gz"):
            mask = "seg" in name
            voxels = (
                np.random.default_rng(number).integers(0, 2 if mask else 500, (20, 30, 40)).astype(np.int16)
            )
            if name != "flair.nii.gz" or number:
                save_volume(tmp_path / f"sub{number}/{name}", voxels, _grid())
    proposal = propose(tmp_path)
    assert proposal.channels == ("t1", "flair") and proposal.source["mask"] == "lesion_seg.nii.gz"
    assert proposal.notes == ("1 folders lack flair.nii.gz.",)
    (tmp_path / "sub0" / "flair.nii.gz").write_bytes((tmp_path / "sub1" / "flair.nii.gz").read_bytes())
    _, recipe = drafted(tmp_path)
    assert recipe.spatial_dims == 3 and recipe.data.sampling is not None
    assert recipe.data.sampling.patch_kji == (32, 32, 48) == recipe.bundle.inference.patch_kji
    assert recipe.preprocessing.spacing_ijk_mm == pytest.approx((2.0, 2.0, 2.0))


def _grid() -> VolumeGeometry:
    return VolumeGeometry((20, 30, 40), cube().lps_from_ijk)


def test_a_table_is_recognised(tmp_path: Path) -> None:
    for number in range(6):
        save_picture(tmp_path / f"x/{number}.png", noise(number))
    rows = [f"x/{n}.png,{'cat' if n % 2 else 'dog'},p{n},{'test' if n > 3 else 'train'}" for n in range(6)]
    (tmp_path / "cases.csv").write_text("file,label,patient,part\n" + "\n".join(rows) + "\n")
    proposal, recipe = drafted(tmp_path)
    assert proposal.source == {"name": "csv_manifest", "file": "cases.csv", "classes": ["cat", "dog"]}
    assert recipe.data.split.method == "given" and proposal.notes == ()


def test_dicom_with_a_segmentation_is_recognised(tmp_path: Path) -> None:
    root = data_path("core/dicom/seg-liver-dcmqi")
    shutil.copytree(root / "ct-3slice", tmp_path / "ct")
    shutil.copy(root / "liver.dcm", tmp_path)
    proposal, recipe = drafted(tmp_path)
    assert proposal.source == {"name": "dicom_series", "structures": {"Liver": 1}}
    assert (
        recipe.bundle.requirements.modalities == ("CT",) and recipe.preprocessing.intensity[0].op == "scale"
    )


def test_a_layout_that_is_none_of_them_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    save_picture(tmp_path / "1.png", noise(1))
    with pytest.raises(InputError) as raised:
        propose(tmp_path)
    assert raised.value.code == "data.unknown_layout" and "a folder per class" in raised.value.remedy


def test_a_network_for_something_else_is_refused_with_the_nearest(tmp_path: Path) -> None:
    proposal = propose(class_folders(tmp_path, {"cat": 3, "dog": 3}))
    with pytest.raises(InputError) as raised:
        draft_recipe(proposal, "x", "resnet81")
    assert (raised.value.code, raised.value.remedy) == ("recipe.network", "Did you mean “resnet18”?")
    with pytest.raises(InputError):
        draft_recipe(proposal, "x", "unet")


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("task", ["classification", "segmentation"])
def test_every_fitting_network_makes_a_recipe(task: str, dims: int) -> None:
    size = (1, 100, 80) if dims == 2 else (30, 100, 80)
    labels = ((0, "a"), (1, "b")) if task == "classification" else ((1, "a"),)
    source = {"name": "phantoms", "count": 2, "holdout": 1}
    proposal = Proposal(task, source, labels=labels, size_kji=size)  # type: ignore[arg-type]
    for network in fitting_networks(task, dims):
        recipe = parse_recipe(draft_recipe(proposal, "x y", network))
        assert recipe.network.name == network and recipe.spatial_dims == dims


@pytest.mark.parametrize(
    ("text", "name"),
    [("My Data 2!", "my-data-2"), ("", "recipe-new"), ("Ä", "recipe-new"), ("x" * 90, "x" * 63)],
)
def test_names_are_made_plain(text: str, name: str) -> None:
    assert recipe_name(text) == name
