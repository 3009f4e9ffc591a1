"""Who trains, who is watched, who is kept out: the outcome of a division, and whether it leaks."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from core.domain.errors import InputError, SafetyError
from core.recipes.cases import Case, Part

LeakKind = Literal["case", "patient", "study", "near_duplicate"]


@dataclass(frozen=True)
class Leak:
    """Something that stands in more than one part.

    ``cases`` are identifiers, sorted, of the cases that share it.
    """

    kind: LeakKind
    parts: tuple[Part, ...]
    cases: tuple[str, ...]


@dataclass(frozen=True)
class SplitResult:
    """A division of cases.

    Attributes
    ----------
    parts : mapping of Part to tuple of Case
        Every part is a key; within a part cases are sorted by identifier.
    groups : mapping of str to str
        Case identifier → the group that was kept together (the identifier of its first case).
    duplicates : mapping of str to str
        Case identifier → its group of pictures that look alike, for cases that have such.
    level : str
        ``"patient"``, ``"study"`` or ``"case"``: what must not be divided.
    warnings : tuple of str
        For people.
    """

    parts: Mapping[Part, tuple[Case, ...]]
    groups: Mapping[str, str] = field(default_factory=dict)
    duplicates: Mapping[str, str] = field(default_factory=dict)
    level: Literal["patient", "study", "case"] = "patient"
    warnings: tuple[str, ...] = ()

    @property
    def cases(self) -> tuple[Case, ...]:
        """All cases, part by part."""
        return tuple(case for part in Part for case in self.parts.get(part, ()))

    def class_counts(self, part: Part) -> dict[int, int]:
        """Return how many cases of each class a part has."""
        return class_counts(self.parts.get(part, ()))

    @property
    def imbalance(self) -> float | None:
        """How often the commonest class of the training part is there for each case of the rarest."""
        return imbalance(self.parts.get(Part.TRAIN, ()))

    def document(self) -> dict[str, Any]:
        """Return what ``split.json`` holds: identifiers and groups only."""
        return {
            "schema_version": 1,
            "level": self.level,
            "parts": {part.value: [case.id for case in self.parts.get(part, ())] for part in Part},
            "groups": dict(sorted(self.groups.items())),
            "duplicates": dict(sorted(self.duplicates.items())),
            "warnings": list(self.warnings),
        }

    def sha256(self) -> str:
        """Return a hash of who is in which part."""
        parts = self.document()["parts"]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def class_counts(cases: Iterable[Case]) -> dict[int, int]:
    """Return how many cases of each class there are, by class."""
    counts = Counter(case.label for case in cases if case.label is not None)
    return dict(sorted(counts.items()))


def imbalance(cases: Iterable[Case]) -> float | None:
    """Return the ratio of the commonest to the rarest class; None without classes."""
    counts = class_counts(cases).values()
    return max(counts) / min(counts) if counts else None


def check_leakage(split: SplitResult) -> list[Leak]:
    """Return what stands in more than one part: cases, patients, studies, pictures that look alike.

    Divided by studies, a patient may be in several parts; by cases, a study may too.
    """
    levels: list[LeakKind] = ["case", "near_duplicate"]
    if split.level in ("patient", "study"):
        levels.append("study")
    if split.level == "patient":
        levels.append("patient")
    leaks = []
    for kind in levels:
        where: dict[str, dict[Part, list[str]]] = defaultdict(lambda: defaultdict(list))
        for part, cases in split.parts.items():
            for case in cases:
                if key := _key(case, kind, split):
                    where[key][part].append(case.id)
        for found in where.values():
            if len(found) > 1:
                ids = sorted({case_id for some in found.values() for case_id in some})
                leaks.append(Leak(kind, tuple(part for part in Part if part in found), tuple(ids)))
    return leaks


def require_no_leak(split: SplitResult) -> None:
    """Refuse a division that leaks.

    Raises
    ------
    SafetyError
        ``split.leak`` with counts and some case identifiers.
    """
    leaks = check_leakage(split)
    if not leaks:
        return
    words = {
        "case": "cases",
        "patient": "patients",
        "study": "studies",
        "near_duplicate": "groups of alike pictures",
    }
    counts = Counter(leak.kind for leak in leaks)
    what = ", ".join(f"{number} {words[kind]}" for kind, number in counts.items())
    first = leaks[0]
    named = ", ".join(first.cases[:6]) + (" …" if len(first.cases) > 6 else "")
    raise SafetyError(
        "split.leak",
        f"The division leaks: {what} stand in more than one part, for example {named}"
        f" in {' and '.join(part.value for part in first.parts)}.",
        "Correct the parts that the data states, or divide at random.",
    )


def restored(document: Mapping[str, Any], cases: Sequence[Case]) -> SplitResult:
    """Return the division that ``split.json`` holds, of the same cases.

    Raises
    ------
    InputError
        ``split.changed`` when the data now has other cases.
    SafetyError
        ``split.leak``.
    """
    by_id = {case.id: case for case in cases}
    parts = {Part(name): [str(one) for one in ids] for name, ids in document["parts"].items()}
    listed = [case_id for ids in parts.values() for case_id in ids]
    if set(listed) != set(by_id):
        gone, new = len(set(listed) - set(by_id)), len(set(by_id) - set(listed))
        raise InputError(
            "split.changed",
            f"The data has changed since the cases were divided: {gone} are gone, {new} are new.",
            "Restore the data, or begin a new training.",
        )
    split = SplitResult(
        parts={part: tuple(by_id[case_id] for case_id in parts.get(part, ())) for part in Part},
        groups=dict(document.get("groups", {})),
        duplicates=dict(document.get("duplicates", {})),
        level=document.get("level", "patient"),
        warnings=tuple(document.get("warnings", ())),
    )
    require_no_leak(split)
    return split


def _key(case: Case, kind: LeakKind, split: SplitResult) -> str:
    if kind == "near_duplicate":
        return split.duplicates.get(case.id, "")
    if kind == "case":
        return case.id
    # Studies are told apart within a patient: sources may number them anew for each.
    return case.patient if kind == "patient" else f"{case.patient}\0{case.study}"
