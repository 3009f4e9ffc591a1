"""Divides cases into training, validation and test so that no patient is in two of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from core.domain.errors import InputError
from core.recipes.apportion import assigned, cut
from core.recipes.cases import Case, Part
from core.recipes.similarity import first_of, joined, near_duplicates, same_files
from core.recipes.sources.base import natural_key
from core.recipes.split_result import (
    Leak,
    SplitResult,
    check_leakage,
    class_counts,
    imbalance,
    require_no_leak,
    restored,
)
from core.recipes.split_schema import Split
from core.recipes.thumbnails import ReadThumbnail

_MUCH = 5.0
"""Imbalance that is warned of. Source: the gate "imbalance < 5:1" of the shipped gates."""


def split_cases(
    cases: Sequence[Case], split: Split, seed: int, read_thumbnail: ReadThumbnail | None = None
) -> SplitResult:
    """Divide cases.

    The outcome depends on the cases and the seed, not on the order of the cases.

    Parameters
    ----------
    seed : int
        Taken where the split states none of its own.
    read_thumbnail : callable or None
        Case → ``(32, 32)`` float32, or None for a case that isn't compared. Without it pictures that look alike are not
        looked for; files of the same bytes are in any case, unless ``near_duplicates`` is None.

    Raises
    ------
    InputError
        ``split.too_few`` when there are fewer groups than parts, ``split.no_part`` when a division is said to be given
        and isn't.
    SafetyError
        ``split.leak`` when a given division leaks.
    """
    ordered = sorted(cases, key=lambda case: natural_key(case.id))
    alike = _alike(ordered, split, read_thumbnail)
    groups = _groups(ordered, split, alike)
    rng = np.random.default_rng(split.seed if split.seed is not None else seed)
    if split.method == "given":
        part_of = _given(ordered, split, groups, rng)
    elif split.method == "ordered":
        part_of = _in_order(ordered, split, groups)
    else:
        part_of = _at_random(ordered, split, groups, rng)
    parts = {
        part: tuple(
            sorted((c for c, p in zip(ordered, part_of, strict=True) if p == part), key=lambda c: c.id)
        )
        for part in Part
    }
    names = _names(ordered, groups)
    counts = Counter(alike.tolist())
    duplicates = {c.id: f"{g}" for c, g in zip(ordered, alike.tolist(), strict=True) if counts[g] > 1}
    result = SplitResult(
        parts, names, duplicates, split.level, tuple(_warnings(parts, groups, split, duplicates))
    )
    require_no_leak(result)
    return result


def _alike(cases: list[Case], split: Split, read_thumbnail: ReadThumbnail | None) -> NDArray[np.int64]:
    """Return a group number per case; cases that show the same picture share one."""
    count = len(cases)
    group = np.arange(count)
    if split.near_duplicates is None:
        return group
    group = joined(count, group, same_files(cases))
    if read_thumbnail is not None:
        found = [(number, read_thumbnail(case)) for number, case in enumerate(cases)]
        numbers = np.array([number for number, small in found if small is not None], dtype=np.int64)
        if len(numbers):
            own = near_duplicates(np.stack([s for _, s in found if s is not None]), split.near_duplicates)
            first = {g: numbers[np.flatnonzero(own == g)[0]] for g in np.unique(own)}
            pairs = np.array([(first[g], n) for g, n in zip(own, numbers, strict=True)], dtype=np.int64)
            group = joined(count, group, pairs)
    return group


def _groups(cases: list[Case], split: Split, alike: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return a group number per case: what the level keeps together, and what looks alike."""
    first: dict[str, int] = {}
    pairs = []
    for number, case in enumerate(cases):
        key = {"patient": case.patient, "study": f"{case.patient}\0{case.study}", "case": case.id}[
            split.level
        ]
        pairs.append((first.setdefault(key, number), number))
    group = joined(len(cases), alike, np.array(pairs, dtype=np.int64).reshape(-1, 2))
    # Numbered by their first case, so that the numbers don't depend on how they were found.
    return np.unique(first_of(group), return_inverse=True)[1].astype(np.int64)


def _names(cases: list[Case], groups: NDArray[np.int64]) -> dict[str, str]:
    first: dict[int, str] = {}
    return {case.id: first.setdefault(int(g), case.id) for case, g in zip(cases, groups, strict=True)}


def _strata(cases: list[Case], split: Split) -> NDArray[np.int64]:
    """Return a number per case for what is to be spread evenly."""
    keys = [
        (case.label, *(case.attributes.get(name, "") for name in split.stratify_by)) if split.stratify else ()
        for case in cases
    ]
    known = {key: number for number, key in enumerate(sorted(set(keys), key=str))}
    return np.array([known[key] for key in keys], dtype=np.int64)


def _shares(split: Split) -> dict[Part, float]:
    stated = {Part.TRAIN: split.train, Part.VALIDATION: split.validation, Part.TEST: split.test}
    return {part: share for part, share in stated.items() if share > 0}


def _table(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.float64]:
    table = np.zeros((int(rows.max()) + 1, int(columns.max()) + 1))
    np.add.at(table, (rows, columns), 1.0)
    return table


def _require_enough(groups: int, shares: dict[Part, float], split: Split) -> None:
    if groups < len(shares):
        level = {"patient": "patients", "study": "studies", "case": "cases"}[split.level]
        raise InputError(
            "split.too_few",
            f"The data has {groups} separate {level}; {len(shares)} parts need at least one each.",
            "Add data, or set the share of a part under data.split to 0.",
        )


def _at_random(
    cases: list[Case], split: Split, groups: NDArray[np.int64], rng: np.random.Generator
) -> list[Part]:
    shares = _shares(split)
    _require_enough(int(groups.max(initial=-1)) + 1, shares, split)
    needed = _table(groups, _labels(cases))
    table = _table(groups, _strata(cases, split))
    chosen = assigned(table, np.array(list(shares.values())), rng, needed)
    names = list(shares)
    return [names[chosen[g]] for g in groups]


def _labels(cases: list[Case]) -> NDArray[np.int64]:
    return np.array([0 if case.label is None else case.label + 1 for case in cases], dtype=np.int64)


def _in_order(cases: list[Case], split: Split, groups: NDArray[np.int64]) -> list[Part]:
    """Cut the groups of each class, in the order of their first case's name."""
    shares = _shares(split)
    _require_enough(int(groups.max(initial=-1)) + 1, shares, split)
    sizes = np.bincount(groups)
    main = _table(groups, _labels(cases)).argmax(axis=1)
    names = list(shares)
    part_of: dict[int, Part] = {}
    for label in np.unique(main):
        own = np.flatnonzero(main == label)
        for group, part in zip(own, cut(sizes[own], np.array(list(shares.values()))), strict=True):
            part_of[int(group)] = names[part]
    return [part_of[int(g)] for g in groups]


def _given(
    cases: list[Case], split: Split, groups: NDArray[np.int64], rng: np.random.Generator
) -> list[Part]:
    """Take the source's parts; where it names no validation part, draw one from the training groups."""
    for case in cases:
        if case.part is None:
            raise InputError(
                "split.no_part",
                f"The case “{case.id}” doesn't say which part it belongs to.",
                "State a part for each case, or set data.split.method to random.",
            )
    parts = [case.part or Part.TRAIN for case in cases]
    if split.validation == 0 or Part.VALIDATION in parts:
        return parts
    training = np.array([number for number, part in enumerate(parts) if part == Part.TRAIN], dtype=np.int64)
    own = np.unique(groups[training], return_inverse=True)[1].astype(np.int64)
    some = [cases[number] for number in training]
    shares = {Part.TRAIN: split.train, Part.VALIDATION: split.validation}
    _require_enough(int(own.max(initial=-1)) + 1, shares, split)
    fractions = np.array(list(shares.values())) / sum(shares.values())
    chosen = assigned(_table(own, _strata(some, split)), fractions, rng, _table(own, _labels(some)))
    for number, group in zip(training, own, strict=True):
        parts[int(number)] = list(shares)[chosen[group]]
    return parts


def _warnings(
    parts: dict[Part, tuple[Case, ...]], groups: NDArray[np.int64], split: Split, duplicates: dict[str, str]
) -> list[str]:
    found = []
    ratio = imbalance(parts[Part.TRAIN])
    if ratio is not None and ratio >= _MUCH:
        found.append(f"The commonest class has {ratio:.1f} times as many training cases as the rarest.")
    classes = {label for cases in parts.values() for label in class_counts(cases)}
    for part in _shares(split):
        absent = sorted(classes - class_counts(parts[part]).keys())
        if absent:
            found.append(f"The part {part.value} has no case of class {', '.join(str(n) for n in absent)}.")
        if not parts[part]:
            found.append(f"The part {part.value} is empty.")
    if duplicates:
        together = len(set(duplicates.values()))
        found.append(
            f"{len(duplicates)} cases look like another one; they were kept together in {together} groups."
        )
    largest = int(np.bincount(groups).max()) if len(groups) else 0
    if largest > len(groups) / 3:
        found.append(f"One group holds {largest} of {len(groups)} cases; the shares can't be met.")
    if split.level == "case":
        patients: dict[str, set[Part]] = defaultdict(set)
        for part, cases in parts.items():
            for case in cases:
                patients[case.patient].add(part)
        shared = sum(len(some) > 1 for some in patients.values())
        if shared:
            found.append(
                f"{shared} patients stand in more than one part, since cases are divided one by one."
            )
    return found


__all__ = [
    "Leak",
    "SplitResult",
    "check_leakage",
    "class_counts",
    "imbalance",
    "require_no_leak",
    "restored",
    "split_cases",
]
