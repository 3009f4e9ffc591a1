"""A settings form: what was typed becomes values, or a reason why it can't be one. Pure, tested as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.domain.forms import FormField


def entered_of(field: FormField) -> Any:
    """Return what a field holds before anybody entered something."""
    if field.kind == "bool":
        return bool(field.default)
    if field.kind == "choice":
        return field.default
    return text_of(field.default)


def text_of(value: Any) -> str:
    """Return a value as a text field shows it."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(str(part) for part in value)
    return str(value)


def value_of(field: FormField, entered: Any) -> tuple[Any, str]:
    """Return the value of what was entered, and why it is none (empty when it is one)."""
    value = _typed(field, entered)
    return value, field.problem(value)


def _typed(field: FormField, entered: Any) -> Any:
    if field.kind in ("bool", "choice"):
        return entered
    text = str(entered).strip() if entered is not None else ""
    if not text and field.kind not in ("text", "list"):
        return None
    worded = next(
        (choice.value for choice in field.choices if text in (choice.title, str(choice.value))), None
    )
    if worded is not None:
        return worded
    if field.kind in ("int", "float"):
        return _number(text, field.kind == "int")
    if field.kind == "time":
        # 6:00 is what people write.
        return f"0{text}" if len(text) == 4 and text[1] == ":" else text
    if field.kind == "list":
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _number(text: str, whole: bool) -> Any:
    try:
        return int(text) if whole else float(text.replace(",", "."))
    except ValueError:
        # What isn't a number is refused by the field itself, with its title.
        return text


def limits_in_words(field: FormField) -> str:
    """Return the limits of a number with its unit; empty where it has none."""
    unit = f" {field.unit}" if field.unit else ""
    low = (
        None
        if field.minimum is None
        else f"{'more than' if field.minimum_excluded else 'at least'} {field.minimum:g}"
    )
    high = (
        None
        if field.maximum is None
        else f"{'less than' if field.maximum_excluded else 'at most'} {field.maximum:g}"
    )
    words = ", ".join(part for part in (low, high) if part)
    return f"{words}{unit}" if words else ""


def matters(field: FormField, entered: Mapping[str, Any]) -> bool:
    """Return whether a field has a meaning beside what was entered into the others."""
    return field.shown_when is None or str(entered.get(field.shown_when[0])) == field.shown_when[1]
