"""Nothing of the frozen test set may be trained on: looked for again by patient, by study and by the image itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from core.domain.errors import SafetyError
from core.domain.training import CasePart
from core.services.image_likeness import are_alike
from core.services.lay_cases import LaidCase

_WHY = {
    "patient": "come from one patient",
    "study": "come from one study",
    "image": "are the same image",
    "near duplicate": "are almost the same image",
    "frozen": "belongs to a patient of the frozen test set",
}


@dataclass(frozen=True)
class Leak:
    """A training case (or one that is watched) that tells of a test case. ``tested`` is empty for ``"frozen"``."""

    kind: str
    trained: str
    tested: str


def find_leaks(laid: Sequence[LaidCase], frozen: Mapping[str, str]) -> list[Leak]:
    """Return every pair of a training and a test case that must not be apart.

    Parameters
    ----------
    frozen : mapping of str to str
        ``"test"`` or ``"train"`` by pseudonym, as the library keeps it.
    """
    tested = [one for one in laid if one.case.part is CasePart.TEST]
    others = [one for one in laid if one.case.part is not CasePart.TEST]
    leaks = [Leak("frozen", one.case.case_id, "") for one in others if frozen.get(one.case.patient) == "test"]
    for one, other in product(others, tested):
        if kind := _kind(one, other):
            leaks.append(Leak(kind, one.case.case_id, other.case.case_id))
    return leaks


def require_no_leaks(laid: Sequence[LaidCase], frozen: Mapping[str, str]) -> None:
    """Refuse a split that leaks.

    Raises
    ------
    SafetyError
        ``training.leak`` naming the first pair and how many there are.
    """
    leaks = find_leaks(laid, frozen)
    if not leaks:
        return
    first = leaks[0]
    who = (
        f"Case {first.trained}, which would be trained on,"
        if not first.tested
        else (
            f"Case {first.trained}, which would be trained on, and case {first.tested} of the frozen test set"
        )
    )
    more = f" There {'is' if len(leaks) == 2 else 'are'} {len(leaks) - 1} more." if len(leaks) > 1 else ""
    raise SafetyError(
        "training.leak",
        f"{who} {_WHY[first.kind]}: the comparison would flatter the new model.{more}",
        "Leave one of the two out, or merge the patient's two records.",
    )


def _kind(one: LaidCase, other: LaidCase) -> str:
    if one.case.patient == other.case.patient:
        return "patient"
    if one.study == other.study or one.case.study_uid == other.case.study_uid:
        return "study"
    if one.sha256 == other.sha256:
        return "image"
    return "near duplicate" if are_alike(one.thumbnail, other.thumbnail) else ""
