"""Says what is wrong with a document: the field's full path, its line, and what was probably meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from core.domain.errors import InputError
from core.recipes.nearest import NEAR, did_you_mean
from core.recipes.schema_walk import Schema, names_at

Path = tuple[str | int, ...]
_MOST = 5


def refusal(
    error: ValidationError,
    document: dict[str, Any],
    schema: Schema,
    lines: Mapping[Path, str] | None = None,
    code: str = "recipe.invalid",
    what: str = "The recipe",
) -> InputError:
    """Return the error to raise for a document that the schema refuses.

    Parameters
    ----------
    lines : mapping
        Field path → ``"line 12"`` or ``"line 3 of data.yaml"``.
    """
    found: dict[str, str] = {}
    for detail in error.errors(include_url=False):
        path = field_path(detail["loc"], document)
        name = dotted(path) or "the document"
        where = _place(path, lines or {})
        message, remedy = _explained(detail, path, document, schema)
        found.setdefault(f"{name}{where}: {message}", remedy)
    shown = list(found)[:_MOST]
    rest = f" … and {len(found) - _MOST} more" if len(found) > _MOST else ""
    remedies = sorted(found.values(), key=lambda remedy: (not remedy.startswith(NEAR), not remedy))
    return InputError(code, f"{what} is refused. " + "; ".join(shown) + rest + ".", remedies[0])


def dotted(path: Path) -> str:
    """Write a path as overrides do: ``transforms.train.0.name``."""
    return ".".join(str(part) for part in path)


def field_path(loc: tuple[str | int, ...], document: Any) -> Path:
    """Drop from pydantic's location what isn't in the document: tags of unions, names of types."""
    path: list[str | int] = []
    value = document
    for number, part in enumerate(loc):
        last = number == len(loc) - 1
        if isinstance(value, dict):
            if str(part) in value:
                value = value[str(part)]
            elif part in (value.get("name"), value.get("op")) or not (last or value):
                continue
            else:
                value = None
            path.append(part)
        elif isinstance(value, list) and isinstance(part, int) and part < len(value):
            value = value[part]
            path.append(part)
        elif value is None and "[" not in str(part) and part not in ("int", "float", "str", "bool"):
            path.append(part)
    return tuple(path)


def _place(path: Path, lines: Mapping[Path, str]) -> str:
    for end in range(len(path), 0, -1):
        if path[:end] in lines:
            return f" ({lines[path[:end]]})"
    return ""


def _explained(detail: ErrorDetails, path: Path, document: dict[str, Any], schema: Schema) -> tuple[str, str]:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        known = names_at(schema, document, path[:-1])
        return "there is no such field", did_you_mean(str(path[-1]), known)
    if kind in ("union_tag_invalid", "literal_error"):
        options = str(context.get("expected_tags") or context.get("expected"))
        allowed = [part.strip().strip("'") for part in options.replace(" or ", ", ").split(",")]
        given = context.get("tag", detail["input"])
        return f"“{given}” isn't one of {', '.join(allowed)}", did_you_mean(str(given), allowed)
    if kind == "union_tag_not_found":
        return f"it lacks {context.get('discriminator', 'a name')}", ""
    if kind == "missing":
        return "it is required", "Add it to the recipe."
    message = detail["msg"].removeprefix("Value error, ")
    return message[:1].lower() + message[1:], ""
