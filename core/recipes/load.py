"""Recipes from files: read, included, overridden, checked, written back."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.config.resources import shipped_root
from core.domain.errors import InputError
from core.recipes.includes import read_file
from core.recipes.invalid import refusal
from core.recipes.nearest import did_you_mean
from core.recipes.overrides import Overrides, with_overrides
from core.recipes.schema import Recipe
from core.recipes.yaml_text import write_yaml

SCHEMA_VERSION = 1
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""Schema version → what turns a document of it into one of the next version."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,62}")


def recipes_dir() -> Path:
    """Return the folder of the recipes that ship with the program."""
    return shipped_root() / "models" / "recipes"


def shipped_recipes() -> tuple[str, ...]:
    """Return the names of the recipes that ship with the program, sorted."""
    return tuple(sorted(path.stem for path in recipes_dir().glob("*.yaml") if path.is_file()))


def recipe_file(name_or_path: str | Path) -> Path:
    """Return the file of a shipped recipe's name, or of a path.

    Raises
    ------
    InputError
        ``recipe.unknown`` when there is neither.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, str) and _NAME.fullmatch(text):
        shipped = recipes_dir() / f"{text}.yaml"
        if shipped.is_file():
            return shipped
    path = Path(text)
    if path.suffix.lower() in (".yaml", ".yml") and path.is_file():
        return path
    if path.suffix.lower() in (".yaml", ".yml") or path.exists():
        raise InputError(
            "recipe.unknown",
            f"There is no recipe file “{path.name}” at this path.",
            "Check the path; it ends in .yaml.",
        )
    raise InputError("recipe.unknown", f"There is no recipe “{text}”.", did_you_mean(text, shipped_recipes()))


def load_recipe(name_or_path: str | Path, overrides: Overrides = ()) -> Recipe:
    """Read a recipe by the name of a shipped one or by its path.

    Parameters
    ----------
    overrides : mapping or sequence of str
        ``{"training.epochs": 3}`` or ``["training.epochs=3"]``.

    Raises
    ------
    InputError
        ``recipe.unknown``, ``recipe.yaml``, ``recipe.include``, ``recipe.override``, ``recipe.newer`` or
        ``recipe.invalid``, with the field's path, its line and the nearest name.
    """
    file = recipe_file(name_or_path)
    document, lines = read_file(file)
    return parse_recipe(document, overrides, lines)


def parse_recipe(
    document: dict[str, Any],
    overrides: Overrides = (),
    lines: Mapping[tuple[str | int, ...], str] | None = None,
) -> Recipe:
    """Check a document of plain data.

    Raises
    ------
    InputError
        As ``load_recipe``.
    """
    document = migrated(document)
    if overrides:
        document = with_overrides(document, overrides, recipe_json_schema())
    try:
        # The bundle's classes are strict: lists are tuples in JSON only.
        return Recipe.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise refusal(error, document, recipe_json_schema(), lines) from None
    except (TypeError, ValueError) as error:
        raise InputError("recipe.invalid", "The recipe holds values that aren't plain data.", "") from error


def migrated(document: dict[str, Any]) -> dict[str, Any]:
    """Bring a document of an older schema version to the present one.

    Raises
    ------
    InputError
        ``recipe.newer`` when it was written for a version that this program doesn't know.
    """
    version = document.get("schema_version", SCHEMA_VERSION)
    if isinstance(version, int) and not isinstance(version, bool):
        if version > SCHEMA_VERSION:
            raise InputError(
                "recipe.newer",
                f"The recipe is of schema version {version}; this program knows up to {SCHEMA_VERSION}.",
                "Update the program.",
            )
        while version in MIGRATIONS and version < SCHEMA_VERSION:
            document = MIGRATIONS[version](dict(document))
            version += 1
            document["schema_version"] = version
    return document


def recipe_document(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as plain data, every default resolved."""
    document: dict[str, Any] = recipe.model_dump(mode="json")
    return document


def dump_recipe(recipe: Recipe) -> str:
    """Write a recipe as YAML, every default resolved; ``load_recipe`` gives an equal one back."""
    return write_yaml(recipe_document(recipe))


@cache
def recipe_json_schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a recipe. Shared: don't change it."""
    return Recipe.model_json_schema()
