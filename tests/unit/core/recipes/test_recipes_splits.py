"""Divisions keep patients, studies and alike pictures together, and say what they couldn't do."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.domain.errors import InputError, SafetyError
from core.recipes.cases import Case, Part
from core.recipes.similarity import near_duplicates, same_files
from core.recipes.split_schema import Split
from core.recipes.splits import (
    SplitResult,
    check_leakage,
    imbalance,
    require_no_leak,
    restored,
    split_cases,
)
from core.recipes.thumbnails import picture_thumbnail
from tests.fakes.data import data_path
from tests.fakes.recipes import noise, save_picture


def people(count: int, each: int = 1, classes: int = 2) -> list[Case]:
    return [
        Case(f"c{n:03d}-{m}", f"p{n:03d}", f"s{m}", label=n % classes)
        for n in range(count)
        for m in range(each)
    ]


def ids(split: SplitResult, part: Part) -> set[str]:
    return {case.id for case in split.parts[part]}


def test_shares_are_met_exactly_where_they_can_be() -> None:
    split = split_cases(people(100), Split(), 42)
    assert [len(split.parts[part]) for part in Part] == [70, 15, 15]
    assert split.class_counts(Part.TRAIN) == {0: 35, 1: 35}
    assert split.imbalance == 1.0 and split.warnings == ()


def test_rounding_does_not_favour_a_part() -> None:
    # 20 classes of 3 cases: of each class two train and one is left over for the other two parts
    split = split_cases(people(60, classes=20), Split(), 1)
    assert [len(split.parts[part]) for part in Part] == [42, 9, 9]


def test_another_seed_divides_otherwise_and_the_splits_own_seed_wins() -> None:
    first, second = (split_cases(people(60), Split(), seed) for seed in (1, 2))
    assert ids(first, Part.TEST) != ids(second, Part.TEST)
    own = split_cases(people(60), Split(seed=1), 2)
    assert ids(own, Part.TEST) == ids(first, Part.TEST) and own.sha256() == first.sha256()


def test_patients_with_several_cases_are_not_divided() -> None:
    split = split_cases(people(30, each=4), Split(), 0)
    assert check_leakage(split) == []
    assert len(set(split.groups.values())) == 30


def test_studies_and_cases_may_be_divided_on_wish_and_it_is_told() -> None:
    by_study = split_cases(people(30, each=4), Split(level="study"), 0)
    assert len(set(by_study.groups.values())) == 120 and check_leakage(by_study) == []
    by_case = split_cases(people(30, each=4), Split(level="case"), 0)
    assert any("patients stand in more than one part" in warning for warning in by_case.warnings)


def test_groups_named_by_the_recipe_are_spread_evenly() -> None:
    cases = [
        replace(case, attributes={"sex": "F" if n % 4 else "M"})
        for n, case in enumerate(people(80, classes=1))
    ]
    split = split_cases(cases, Split(train=0.5, validation=0.25, test=0.25, stratify_by=("sex",)), 3)
    for part, males in zip(Part, (10, 5, 5), strict=True):
        assert sum(case.attributes["sex"] == "M" for case in split.parts[part]) == males


def test_a_rare_class_is_trained_first() -> None:
    cases = [*people(40, classes=1), Case("rare", "rare", label=1)]
    split = split_cases(cases, Split(), 5)
    assert "rare" in ids(split, Part.TRAIN)
    assert any("validation has no case of class 1" in warning for warning in split.warnings)
    assert any("times as many training cases" in warning for warning in split.warnings)


def test_one_huge_group_is_told() -> None:
    cases = [Case(f"c{n}", "same" if n < 50 else f"p{n}", label=0) for n in range(70)]
    assert any("One group holds 50 of 70" in warning for warning in split_cases(cases, Split(), 0).warnings)


def test_in_order_the_first_of_each_class_train_and_the_last_are_tested() -> None:
    cases = [
        Case(f"{name}/{n}", f"{name}/{n}", label=label)
        for label, name in enumerate("ab")
        for n in range(1, 21)
    ]
    split = split_cases(list(reversed(cases)), Split(method="ordered"), 0)
    assert ids(split, Part.TRAIN) == {f"{name}/{n}" for name in "ab" for n in range(1, 15)}
    assert ids(split, Part.TEST) == {f"{name}/{n}" for name in "ab" for n in range(18, 21)}


def test_given_parts_are_trusted_and_validation_is_drawn_from_training_where_none_is_named() -> None:
    cases = [replace(case, part=Part.TEST if n >= 40 else Part.TRAIN) for n, case in enumerate(people(50))]
    split = split_cases(cases, Split(method="given"), 0)
    assert ids(split, Part.TEST) == {case.id for case in cases[40:]}
    assert len(split.parts[Part.VALIDATION]) == round(40 * 0.15 / 0.85)
    whole = split_cases(cases, Split(method="given", train=0.8, validation=0, test=0.2), 0)
    assert len(whole.parts[Part.VALIDATION]) == 0 and len(whole.parts[Part.TRAIN]) == 40
    named = [replace(case, part=Part.VALIDATION) if n < 3 else case for n, case in enumerate(cases)]
    assert len(split_cases(named, Split(method="given"), 0).parts[Part.VALIDATION]) == 3


def test_a_given_division_without_a_part_is_refused() -> None:
    with pytest.raises(InputError, match="“c000-0” doesn't say") as raised:
        split_cases(people(5), Split(method="given"), 0)
    assert raised.value.code == "split.no_part"


def test_a_given_division_that_leaks_a_patient_is_refused_with_counts_and_cases() -> None:
    cases = [
        replace(case, part=Part.TEST if case.id.endswith("-1") else Part.TRAIN) for case in people(5, each=2)
    ]
    with pytest.raises(SafetyError) as raised:
        split_cases(cases, Split(method="given", train=0.8, validation=0, test=0.2), 0)
    assert raised.value.code == "split.leak"
    assert (
        "5 patients" in raised.value.user_message
        and "c000-0, c000-1 in train and test" in raised.value.user_message
    )


def pictures(folder: Path) -> list[Case]:
    """Return 12 different pictures, a brighter and noisier copy of the first and a renamed copy of the second."""
    rng = np.random.default_rng(0)
    pixels = [noise(n, 64) for n in range(12)]
    disturbed = np.clip(pixels[0] * 0.7 + 40 + rng.normal(0, 3, pixels[0].shape), 0, 255).astype(np.uint8)
    for number, picture in enumerate([*pixels, disturbed]):
        save_picture(folder / f"{number:02d}.png", picture)
    (folder / "13.png").write_bytes((folder / "01.png").read_bytes())
    return [
        Case(f"{n:02d}", f"{n:02d}", images={"image": (folder / f"{n:02d}.png",)}, label=0) for n in range(14)
    ]


def test_alike_pictures_stay_together(tmp_path: Path) -> None:
    split = split_cases(pictures(tmp_path), Split(near_duplicates=0.98), 0, picture_thumbnail)
    assert split.groups["12"] == split.groups["00"] and split.groups["13"] == split.groups["01"]
    assert len(set(split.groups.values())) == 12
    assert split.duplicates.keys() == {"00", "12", "01", "13"}
    assert any(
        "4 cases look like another one; they were kept together in 2 groups" in w for w in split.warnings
    )


def test_files_of_the_same_bytes_stay_together_without_thumbnails(tmp_path: Path) -> None:
    split = split_cases(pictures(tmp_path), Split(), 0)
    assert split.groups["13"] == split.groups["01"] and split.groups["12"] != split.groups["00"]
    assert len(set(split_cases(pictures(tmp_path), Split(near_duplicates=None), 0).groups.values())) == 14


def test_alike_pictures_in_given_parts_are_a_leak(tmp_path: Path) -> None:
    cases = [replace(case, part=Part.TEST if case.id == "12" else Part.TRAIN) for case in pictures(tmp_path)]
    with pytest.raises(SafetyError, match="1 groups of alike pictures"):
        split_cases(
            cases,
            Split(method="given", near_duplicates=0.98, train=0.8, validation=0, test=0.2),
            0,
            picture_thumbnail,
        )


def test_near_duplicates_are_what_correlation_says() -> None:
    rng = np.random.default_rng(1)
    base = rng.normal(size=(8, 32, 32))
    thumbnails = np.concatenate([base, base[:3] + 0.1 * rng.normal(size=(3, 32, 32)), np.ones((2, 32, 32))])
    group = near_duplicates(thumbnails.astype(np.float32), 0.95)
    with np.errstate(invalid="ignore", divide="ignore"):
        alike = np.nan_to_num(np.corrcoef(thumbnails.reshape(13, -1))) > 0.95
    np.fill_diagonal(alike, True)
    assert np.array_equal(group[:, None] == group[None, :], alike)


def test_a_chain_of_alike_pictures_is_one_group_whatever_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    chain = np.cumsum(rng.normal(size=(30, 32, 32)), axis=0) + 40 * rng.normal(size=(32, 32))
    mixed = np.concatenate([chain, rng.normal(size=(10, 32, 32))]).astype(np.float32)[rng.permutation(40)]
    whole = near_duplicates(mixed, 0.999)
    monkeypatch.setattr("core.recipes.similarity._BLOCK_VALUES", 40 * 7)
    pieces = near_duplicates(mixed, 0.999)
    assert np.array_equal(whole[:, None] == whole, pieces[:, None] == pieces)
    assert sorted(Counter(whole.tolist()).values())[-1] == 30


def test_pairs_of_same_files_are_found_by_content(tmp_path: Path) -> None:
    cases = pictures(tmp_path)
    assert same_files(cases).tolist() == [[1, 13]]


def leaking(**changes: Any) -> SplitResult:
    one, other = Case("a", "p1", "s1"), Case("b", "p1", "s2")
    return SplitResult({Part.TRAIN: (one,), Part.VALIDATION: (), Part.TEST: (other,)}, **changes)


def test_the_check_knows_patients_studies_alike_pictures_and_cases() -> None:
    assert [leak.kind for leak in check_leakage(leaking())] == ["patient"]
    assert check_leakage(leaking(level="case")) == []
    assert [leak.kind for leak in check_leakage(leaking(level="case", duplicates={"a": "1", "b": "1"}))] == [
        "near_duplicate"
    ]
    case = Case("a", "p1", "s1")
    twice = SplitResult({Part.TRAIN: (case,), Part.VALIDATION: (case,), Part.TEST: ()})
    assert {leak.kind for leak in check_leakage(twice)} == {"case", "patient", "study"}
    with pytest.raises(SafetyError, match="1 patients"):
        require_no_leak(leaking())


def test_a_stored_division_comes_back_for_the_same_cases_only() -> None:
    cases = people(20)
    split = split_cases(cases, Split(), 0)
    back = restored(split.document(), list(reversed(cases)))
    assert back == split and back.sha256() == split.sha256()
    with pytest.raises(InputError, match="1 are gone, 1 are new"):
        restored(split.document(), [*cases[1:], Case("new", "new", label=0)])
    document = split.document()
    document["parts"]["test"].append(document["parts"]["train"][0])
    with pytest.raises(SafetyError, match="1 cases"):
        restored(document, cases)


def test_imbalance_is_the_ratio_of_the_commonest_to_the_rarest() -> None:
    assert imbalance([Case(f"c{n}", "p", label=int(n < 30)) for n in range(40)]) == 3.0
    assert imbalance([Case("c", "p")]) is None


def test_real_pictures_are_divided_without_leaks() -> None:
    folder = data_path("core/images2d/mednist")
    cases = [
        Case(f"{name}/{path.name}", f"{name}/{path.name}", images={"image": (path,)}, label=label)
        for label, name in enumerate(("Hand", "HeadCT"))
        for path in sorted((folder / name).glob("*.jpeg"))
    ]
    split = split_cases(cases, Split(), 42, picture_thumbnail)
    assert [len(split.parts[part]) for part in Part] == [280, 60, 60]
    assert check_leakage(split) == [] and split.class_counts(Part.TEST) == {0: 30, 1: 30}
