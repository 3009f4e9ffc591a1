"""Dotted overrides: ``training.epochs=3``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from core.domain.errors import InputError
from core.recipes.nearest import did_you_mean
from core.recipes.schema_walk import Schema, names_at, property_at, tag_name
from core.recipes.yaml_text import read_value

Overrides = Mapping[str, Any] | Sequence[str]
_MAX_PARTS = 16


def parsed(overrides: Overrides) -> dict[str, Any]:
    """Return field path → value; values of text are read as YAML.

    Raises
    ------
    InputError
        ``recipe.override`` when one isn't ``name=value``.
    """
    if isinstance(overrides, Mapping):
        return dict(overrides)
    found = {}
    for text in overrides:
        path, equals, value = text.partition("=")
        if not equals or not path.strip():
            raise _refusal(f"“{text}” isn't an override.", "Write name=value, for example training.epochs=3.")
        found[path.strip()] = read_value(value)
    return found


def with_overrides(document: dict[str, Any], overrides: Overrides, schema: Schema) -> dict[str, Any]:
    """Return a copy of the document with values put in; sections that aren't there are made.

    Naming another kind (``optimizer.name=sgd``) keeps the fields that both kinds know and drops ``params``.

    Raises
    ------
    InputError
        ``recipe.override`` naming the path, and the nearest name when there is no such field.
    """
    document = _copied(document)
    for path, value in parsed(overrides).items():
        _put(document, tuple(path.split(".")), value, schema)
    return document


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(inner) for key, inner in value.items()}
    return [_copied(inner) for inner in value] if isinstance(value, list) else value


def _put(document: dict[str, Any], parts: tuple[str, ...], value: Any, schema: Schema) -> None:
    if len(parts) > _MAX_PARTS:
        raise _refusal(f"“{'.'.join(parts)}” is too deep.", "")
    place: Any = document
    for depth, part in enumerate(parts):
        last = depth == len(parts) - 1
        if isinstance(place, list):
            if not part.isdecimal() or int(part) >= len(place):
                raise _refusal(
                    f"“{'.'.join(parts[: depth + 1])}” isn't in the list.",
                    f"It has {len(place)} entries, from 0.",
                )
            if last:
                place[int(part)] = value
            place = place[int(part)]
        elif isinstance(place, dict):
            if part not in place:
                _check_known(document, parts[: depth + 1], schema)
            if last:
                changed = part == "name" and depth > 0 and place.get(part) not in (None, value)
                place[part] = value
                if changed:
                    _keep_shared(document, place, parts[:-1], schema)
                return
            if place.get(part) is None:
                place[part] = _usual_kind(document, parts[: depth + 1], schema)
            place = place[part]
        else:
            raise _refusal(f"“{'.'.join(parts[:depth])}” has no fields.", "Set it as a whole.")


def _usual_kind(document: dict[str, Any], parts: tuple[str, ...], schema: Schema) -> dict[str, Any]:
    """Return a new section: of the default kind where there are several."""
    stated = property_at(schema, document, _indexed(document, parts))
    name, default = tag_name(stated), stated.get("default")
    return {name: default[name]} if name and isinstance(default, dict) and name in default else {}


def _check_known(document: dict[str, Any], parts: tuple[str, ...], schema: Schema) -> None:
    known = names_at(schema, document, _indexed(document, parts[:-1]))
    if known and parts[-1] not in known:
        raise _refusal(f"There is no field “{'.'.join(parts)}”.", did_you_mean(parts[-1], known))


def _keep_shared(
    document: dict[str, Any], section: dict[str, Any], parts: tuple[str, ...], schema: Schema
) -> None:
    known = names_at(schema, document, _indexed(document, parts))
    for name in [name for name in section if name == "params" or (known and name not in known)]:
        del section[name]


def _indexed(document: Any, parts: tuple[str, ...]) -> tuple[str | int, ...]:
    path: list[str | int] = []
    value = document
    for part in parts:
        if isinstance(value, list):
            path.append(int(part))
            value = value[int(part)]
        else:
            path.append(part)
            value = value.get(part) if isinstance(value, dict) else None
    return tuple(path)


def _refusal(message: str, remedy: str) -> InputError:
    return InputError("recipe.override", message, remedy)
