"""Gates: what a model must reach before it may be promoted, as data, and the verdict on measured values.

A gate looks at a bound of the confidence interval, not at the value: a model passes when the data at hand support
the claim, so few cases can't pass by luck. The file is YAML::

    schema_version: 1
    title: Brain tumours on MR
    gates:
      - {name: Accuracy, metric: accuracy, at_least: 0.85, min_cases: 30}
      - {name: Recall of each class, metric: recall, per_class: true, at_least: 0.80, min_cases: 10}
      - {name: Latency, metric: latency_ms, at_most: 500, on: upper}

Free of torch: the window, services and the command line read gates and verdicts with this module alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from core.config.resources import shipped_root
from core.domain.errors import InputError
from core.recipes.nearest import did_you_mean
from core.recipes.yaml_text import read_yaml

SCHEMA_VERSION = 1
INSUFFICIENT = "insufficient evidence"


@dataclass(frozen=True)
class Measured:
    """A measured value with its 95 % intervals.

    ``low`` and ``high`` are the bootstrap interval; ``exact`` (Clopper–Pearson) and ``wilson`` are given for
    proportions; ``n`` is the number of cases that the value rests on. Gates look at the exact interval where there
    is one: the bootstrap interval of 10 right out of 10 has no width.
    """

    value: float
    low: float
    high: float
    n: int
    exact: tuple[float, float] | None = None
    wilson: tuple[float, float] | None = None

    def bound(self, which: str) -> float:
        """Return the ``"lower"`` or ``"upper"`` bound a gate looks at, or the ``"value"``."""
        low, high = self.exact if self.exact is not None else (self.low, self.high)
        return {"lower": low, "upper": high, "value": self.value}[which]

    def as_dict(self) -> dict[str, Any]:
        """Return value, intervals and count for JSON."""
        found: dict[str, Any] = {"value": self.value, "ci95": [self.low, self.high], "n": self.n}
        if self.exact is not None:
            found["exact95"] = list(self.exact)
        if self.wilson is not None:
            found["wilson95"] = list(self.wilson)
        return found

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> Measured:
        """Read what ``as_dict`` wrote; null (JSON has no NaN) becomes NaN.

        Raises
        ------
        InputError
            ``gates.measured`` when a field is missing or of another type.
        """

        def number(x: Any) -> float:
            return math.nan if x is None else float(x)

        def pair(x: Any) -> tuple[float, float] | None:
            return None if x is None else (number(x[0]), number(x[1]))

        try:
            low, high = pair(found["ci95"]) or (math.nan, math.nan)
            exact, wilson = pair(found.get("exact95")), pair(found.get("wilson95"))
            return cls(number(found["value"]), low, high, int(found["n"]), exact, wilson)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise InputError(
                "gates.measured", "A measured value is incomplete.", "Evaluate the model again."
            ) from error


class Gate(BaseModel):
    """One demand.

    ``metric`` is a name of the evaluation's metrics; with ``per_class`` each class (or structure) must reach it.
    ``on`` says which bound of the interval is held against the threshold: by default the lower one for ``at_least``
    and the upper one for ``at_most``. Below ``min_cases`` the gate fails for want of evidence.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(min_length=1, max_length=80)
    metric: str = Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)
    at_least: float | None = None
    at_most: float | None = None
    on: Literal["lower", "upper", "value"] | None = None
    per_class: bool = False
    min_cases: int = Field(default=20, ge=1)

    @model_validator(mode="after")
    def _one_threshold(self) -> Gate:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give either at_least or at_most")
        return self

    @property
    def threshold(self) -> float:
        """The number that the bound is held against."""
        chosen = self.at_least if self.at_least is not None else self.at_most
        assert chosen is not None
        return chosen

    @property
    def looks_at(self) -> str:
        """``"lower"``, ``"upper"`` or ``"value"``."""
        return self.on or ("lower" if self.at_least is not None else "upper")


class Gates(BaseModel):
    """A file of gates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    title: str = Field(default="", max_length=200)
    gates: tuple[Gate, ...] = Field(min_length=1, max_length=100)


@dataclass(frozen=True)
class Verdict:
    """What a gate says. ``bound`` is the number that was compared; ``reason`` a sentence for a reader."""

    name: str
    metric: str
    threshold: float
    value: float | None
    bound: float | None
    passed: bool
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """Return the row of the command line's answer and of the report."""
        return {
            "name": self.name,
            "metric": self.metric,
            "threshold": self.threshold,
            "value": self.value,
            "bound": self.bound,
            "passed": self.passed,
            "reason": self.reason,
        }


def judge(
    gates: Gates,
    metrics: Mapping[str, Measured],
    per_class: Mapping[str, Mapping[str, Measured]],
) -> tuple[Verdict, ...]:
    """Hold measured values against gates, one verdict per gate, or per class of a gate.

    A value that was not measured, is not a number, or rests on too few cases fails; a better value, with a bound that
    is not worse and no fewer cases, never fails where a worse one passed.

    Parameters
    ----------
    metrics : mapping
        Metric → value over all cases.
    per_class : mapping
        Class or structure → metric → value.
    """
    verdicts: list[Verdict] = []
    for gate in gates.gates:
        if not gate.per_class:
            verdicts.append(_verdict(gate, gate.name, metrics.get(gate.metric)))
        elif not per_class:
            verdicts.append(_verdict(gate, gate.name, None))
        else:
            # Of several tasks each row has its own metrics: a gate of Dice is not for classes.
            meant = {label: found for label, found in per_class.items() if gate.metric in found} or per_class
            verdicts += [
                _verdict(gate, f"{gate.name}: {label}", found.get(gate.metric))
                for label, found in meant.items()
            ]
    return tuple(verdicts)


def all_passed(verdicts: Sequence[Verdict]) -> bool:
    """Whether there is at least one verdict and every one passed."""
    return bool(verdicts) and all(v.passed for v in verdicts)


def _verdict(gate: Gate, name: str, found: Measured | None) -> Verdict:
    if found is None:
        reason = f"{gate.metric} was not measured"
        return Verdict(name, gate.metric, gate.threshold, None, None, False, reason)
    bound = found.bound(gate.looks_at)
    row = (name, gate.metric, gate.threshold, found.value, bound)
    if found.n < gate.min_cases:
        return Verdict(*row, False, f"{INSUFFICIENT}: {found.n} cases, {gate.min_cases} needed")
    if math.isnan(bound) or math.isnan(found.value):
        return Verdict(*row, False, f"{INSUFFICIENT}: {gate.metric} has no value on these cases")
    passed = bound >= gate.threshold if gate.at_least is not None else bound <= gate.threshold
    what = {"lower": "lower bound", "upper": "upper bound", "value": "value"}[gate.looks_at]
    sign = "≥" if gate.at_least is not None else "≤"
    claim = f"{what} {bound:.4g} {'is' if passed else 'is not'} {sign} {gate.threshold:.4g}"
    return Verdict(*row, passed, f"{claim} ({found.n} cases)")


def read_gates(path: Path) -> Gates:
    """Read a file of gates.

    Raises
    ------
    InputError
        ``gates.unreadable`` (missing, not text), ``recipe.yaml`` (names the line), ``gates.invalid`` (names the gate
        and the field, with the nearest known name for an unknown one).
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "gates.unreadable", "The gates file can't be read.", "Check its path; it is UTF-8 text."
        ) from error
    if not text.replace("\n", " ").replace("\t", " ").replace("\r", " ").isprintable():
        raise InputError("gates.unreadable", "The gates file holds control characters.", "Give a text file.")
    return parse_gates(read_yaml(text, "The gates file").data)


def parse_gates(found: Any) -> Gates:
    """Check a document of gates; InputError ``gates.invalid`` as in ``read_gates``."""
    try:
        return Gates.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            "gates.invalid", f"The gates file is wrong at {_place(first)}.", _advice(first)
        ) from error


def _place(problem: Mapping[str, Any]) -> str:
    parts = [f"gate {p + 1}" if isinstance(p, int) else str(p) for p in problem["loc"]]
    return " → ".join(p for p in parts if p != "gates") or "its top level"


def _advice(problem: Mapping[str, Any]) -> str:
    if problem["type"] != "extra_forbidden":
        return f"{problem['msg']}."
    loc = problem["loc"]
    return did_you_mean(str(loc[-1]), (Gate if len(loc) > 1 else Gates).model_fields)


def shipped_gates(name: str) -> Path:
    """Return the path of a shipped gates file (``"brain-tumour"``, ``"classification"``, ``"segmentation"``).

    Raises
    ------
    InputError
        ``gates.unknown`` with the names there are.
    """
    folder = shipped_root() / "models" / "recipes" / "gates"
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    if name not in known:
        raise InputError(
            "gates.unknown",
            f"No gates are shipped as {name!r}.",
            f"Give a file, or one of: {', '.join(known)}.",
        )
    return folder / f"{name}.yaml"


def judge_document(gates: Gates, document: Mapping[str, Any]) -> tuple[Verdict, ...]:
    """Hold the ``metrics.json`` of an evaluation against gates; InputError ``gates.measured`` if it is damaged."""
    details = document.get("details")
    if not isinstance(details, Mapping):
        raise InputError("gates.measured", "The evaluation holds no details.", "Evaluate the model again.")
    metrics = {k: Measured.from_dict(v) for k, v in details.get("metrics", {}).items()}
    classes = {
        label: {k: Measured.from_dict(v) for k, v in found.items()}
        for label, found in details.get("per_class", {}).items()
    }
    return judge(gates, metrics, classes)
