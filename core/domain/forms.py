"""Fields of a form, as data: what a dialog, a wizard or a check needs to know of a setting."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

FieldKind = Literal["int", "float", "bool", "choice", "text", "time", "list"]

_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]")


@dataclass(frozen=True)
class Choice:
    """One value that may be chosen, and how it is called."""

    value: str | int | float | bool
    title: str


@dataclass(frozen=True)
class FormField:
    """One setting.

    Attributes
    ----------
    path : str
        Dotted place in the document (``"training.epochs"``); an override by this path sets it.
    title, help : str
        What stands beside the field, and its tool tip.
    kind : str
        ``"time"`` is text ``"HH:MM"``, ``"list"`` several plain values.
    minimum, maximum : float or None
        Limits of a number, themselves allowed unless ``minimum_excluded`` / ``maximum_excluded``.
    choices : tuple of Choice
        Of a ``"choice"``; for a number the words that may stand instead of one (``"auto"``).
    default : object
        Value of a field that nobody touched; None when there is none.
    unit : str
        ``"min"``, ``"MB"``, ``"mm"``; empty for plain numbers.
    section, section_help : str
        Heading of the group of fields.
    optional : bool
        Whether it may be left empty (None).
    required : bool
        Whether there is no default.
    shown_when : tuple of str or None
        ``(path, value)``: the field has a meaning only while that choice is taken.
    """

    path: str
    title: str
    help: str
    kind: FieldKind
    minimum: float | None = None
    maximum: float | None = None
    minimum_excluded: bool = False
    maximum_excluded: bool = False
    choices: tuple[Choice, ...] = ()
    default: Any = None
    unit: str = ""
    section: str = ""
    section_help: str = ""
    optional: bool = False
    required: bool = False
    shown_when: tuple[str, str] | None = None

    def problem(self, value: Any) -> str:
        """Return what is wrong with a value, in words; empty when it may stand."""
        if value is None or value == "":
            return "" if self.optional or self.kind in ("text", "list") else f"{self.title} is empty."
        if any(value == choice.value for choice in self.choices):
            return ""
        if self.kind in ("int", "float"):
            return self._number_problem(value)
        if self.kind == "bool":
            return "" if isinstance(value, bool) else f"{self.title} is yes or no."
        if self.kind == "choice":
            return f"{self.title}: choose one of {', '.join(c.title for c in self.choices)}."
        if self.kind == "time" and not _TIME.fullmatch(str(value)):
            return f"{self.title}: write the time as HH:MM, for example 22:00."
        return ""

    def _number_problem(self, value: Any) -> str:
        whole = self.kind == "int"
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f"{self.title} is a number."
        if whole and value != int(value):
            return f"{self.title} is a whole number."
        unit = f" {self.unit}" if self.unit else ""
        low, high = self.minimum, self.maximum
        if low is not None and (value < low or (self.minimum_excluded and value == low)):
            return f"{self.title} is {'more than' if self.minimum_excluded else 'at least'} {low:g}{unit}."
        if high is not None and (value > high or (self.maximum_excluded and value == high)):
            return f"{self.title} is {'less than' if self.maximum_excluded else 'at most'} {high:g}{unit}."
        return ""
