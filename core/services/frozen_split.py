"""Who is trained on and who is tested: per model each patient is given a side once, and keeps it.

The side depends on a keyed hash of the pseudonym, so neither the reader nor the order of reading chooses it. New
patients fill the test set until it has its share; a patient that was ever trained on is never tested.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

LEAST_PATIENTS = 3
TEST_SHARE = 0.3
LEAST_TESTED = 3
VALIDATION_SHARE = 0.2

Side = str
"""``"test"`` or ``"train"``."""


def size_of_test_set(patients: int) -> int:
    """Return how many of so many patients the test set should have.

    Three of ten; of few patients three, but never more than half of them.
    """
    return max(math.floor(TEST_SHARE * patients), min(LEAST_TESTED, patients // 2))


def assign_sides(
    frozen: Mapping[str, Side], patients: Collection[str], order: Callable[[str], str]
) -> dict[str, Side]:
    """Return the side of every patient.

    Parameters
    ----------
    frozen : mapping of str to str
        Sides given before; they stay.
    patients : collection of str
        Pseudonyms of those that take part now.
    order : callable
        Keyed hash by which new patients are sorted; the first become tested.
    """
    new = sorted((patient for patient in patients if patient not in frozen), key=order)
    tested = sum(frozen.get(patient) == "test" for patient in patients)
    missing = max(0, size_of_test_set(len(patients)) - tested)
    sides = {patient: frozen[patient] for patient in patients if patient in frozen}
    sides |= {patient: "test" if place < missing else "train" for place, patient in enumerate(new)}
    return sides


def validation_patients(training: Collection[str], order: Callable[[str], str]) -> frozenset[str]:
    """Return the training patients that are watched instead of learnt from: a fifth, at least one of two."""
    if len(training) < 2:
        return frozenset()
    count = max(1, round(VALIDATION_SHARE * len(training)))
    return frozenset(sorted(training, key=order)[:count])
