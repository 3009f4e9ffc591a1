"""What a model says of the whole image, as lines: classes, measurements, and the contrasts that it saw. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from app.presenters.wording import number_in_words
from core.domain.result import MeasuredValue, ModelResult, unit_shown

_MOST_CLASSES = 4
_FIXED = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class MeasureRow:
    """A number with its unit (empty for plain numbers)."""

    name: str
    value: str
    unit: str = ""


@dataclass(frozen=True)
class Answers:
    """What stands below the findings of a model of several tasks; everything may be empty.

    ``classes`` lists the most probable classes with their probabilities, ``not_excluded`` the prediction set,
    ``inputs`` the contrasts that were used, ``caution`` what was missing or taken for granted.
    """

    classes: str = ""
    not_excluded: str = ""
    measures: tuple[MeasureRow, ...] = ()
    inputs: str = ""
    caution: str = ""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return self == Answers()


NO_ANSWERS = Answers()


def answers_of(result: ModelResult) -> Answers:
    """Return the lines of a result; a classification alone says it all with its findings."""
    several = result.task == "multitask"
    used = [name for name, key in result.inputs.items() if key]
    missing = [name for name, key in result.inputs.items() if not key]
    caution = [f"Run without {listed(missing)}"] if missing else []
    caution += [note for note in result.fallbacks if note.startswith("the series was taken for")]
    return Answers(
        _classes(result) if several else "",
        f"Not excluded: {', '.join(result.prediction_set)}" if several and result.prediction_set else "",
        tuple(_measure(item) for item in result.measurements),
        f"From {listed(used)}" if used else "",
        "\n".join(f"{note[0].upper()}{note[1:]}." for note in caution),
    )


def listed(names: Sequence[str]) -> str:
    """Return ``"T1"``, ``"T1 and T2"``, ``"T1, T2 and FLAIR"``."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _classes(result: ModelResult) -> str:
    ranked = sorted(result.classes, key=lambda item: -item.probability)
    # A line breaks between classes only.
    parts = [f"{item.label} {item.probability:.2f}".replace(" ", _FIXED) for item in ranked[:_MOST_CLASSES]]
    shown = " · ".join(parts)
    rest = len(ranked) - _MOST_CLASSES
    return f"{shown} · {rest} more" if rest > 0 else shown


def _measure(item: MeasuredValue) -> MeasureRow:
    return MeasureRow(item.name, number_in_words(item.value), unit_shown(item.unit))
