"""The rules by which files become series: ``resources/series_rules.yaml``, parsed strictly."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from core.config.resources import resource_path
from core.domain.errors import BugError
from core.domain.study import ObjectKind

MAX_BYTES = 65_536
_ELEMENT = re.compile(r"^[0-9A-F]{4},[0-9A-F]{4}$")


def _tag(value: object) -> object:
    if isinstance(value, str) and _ELEMENT.match(value):
        return int(value.replace(",", ""), 16)
    raise ValueError('an element is written "gggg,eeee" in capital hexadecimal digits')


Tag = Annotated[int, BeforeValidator(_tag)]
Name = Annotated[str, Field(min_length=1, max_length=40)]
Positive = Annotated[float, Field(gt=0, lt=1000)]
Word = Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9]{1,15}$")]


class _Strict(BaseModel):
    """Frozen, no unknown fields, no infinities."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Tolerances(_Strict):
    """What still counts as equal; see the comments of the file."""

    same_position_mm: Positive
    orientation: Positive
    place_mm: Positive
    place_of_step: Positive
    noted_jitter_mm: Positive
    drift_mm: Positive
    drift_of_pixel: Positive
    drift_deg: Positive
    spacing_digits: int = Field(ge=0, le=9)


class Irregular(_Strict):
    """How missing slices are told from irregular spacing, and how far a corrected grid may grow."""

    missing_step_tolerance: Positive
    missing_share: Positive
    most_inserted: int = Field(ge=0, le=100_000)


class Split(_Strict):
    """A property that all images of a stack share."""

    name: Name
    read: Literal[
        "patient",
        "matrix",
        "colour",
        "pixel_spacing",
        "orientation",
        "image_type_start",
        "frame_of_reference",
    ]


class Separate(_Strict):
    """A property that makes series of their own where positions repeat."""

    name: Name
    read: Literal["text", "image_type", "b_value"]
    elements: tuple[Tag, ...] = ()


class Dimension(_Strict):
    """A property that counts the repetitions of a position; a ``count`` says only that there are several."""

    name: Name
    read: Literal["number", "clock", "count"]
    elements: tuple[Tag, ...] = Field(min_length=1)
    needs: tuple[Tag, ...] = ()


class Unstated(_Strict):
    """What repetitions are called that nothing tells apart, and what is said of them."""

    name: Name
    message: str = Field(min_length=1, max_length=200)


class Localizer(_Strict):
    """Which values of Image Type mark a localizer, and what is said of it."""

    image_types: tuple[Word, ...]
    message: str = Field(min_length=1, max_length=200)


class SeriesRules(_Strict):
    """The whole file."""

    version: Literal[1]
    tolerances: Tolerances
    irregular: Irregular
    split: tuple[Split, ...] = Field(min_length=1, max_length=32)
    separate: tuple[Separate, ...] = Field(max_length=32)
    dimensions: tuple[Dimension, ...] = Field(min_length=1, max_length=32)
    unstated: Unstated
    localizer: Localizer
    projections: frozenset[Word]
    cines: frozenset[Word]
    objects: dict[Annotated[str, Field(pattern=r"^[0-9.]{1,64}$")], ObjectKind]

    def object_kind(self, sop_class_uid: str) -> ObjectKind:
        """Return what an object of a class is; ``NONE`` for an image."""
        found = [
            prefix
            for prefix in self.objects
            if sop_class_uid == prefix or sop_class_uid.startswith(prefix + ".")
        ]
        return self.objects[max(found, key=len)] if found else ObjectKind.NONE

    def tags(self) -> frozenset[int]:
        """Return every element that the rules look at."""
        rules: tuple[Separate | Dimension, ...] = (*self.separate, *self.dimensions)
        named = {tag for rule in rules for tag in rule.elements}
        return frozenset(named | {tag for dimension in self.dimensions for tag in dimension.needs})


class _Loader(yaml.SafeLoader):
    """A safe loader that knows no aliases and no repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node; raise where an alias stands."""
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Construct a mapping; raise where a key is repeated."""
        mapping: dict[Any, Any] = super().construct_mapping(node, deep=deep)
        if len(mapping) != len(node.value):
            raise yaml.YAMLError("a key is repeated")
        return mapping


def load_rules(path: Path) -> SeriesRules:
    """Parse a file of rules.

    Raises
    ------
    BugError
        If it is larger than ``MAX_BYTES``, no plain YAML, or says something that has no meaning (``rules.invalid``).
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise ValueError(f"the file is larger than {MAX_BYTES} bytes")
        return SeriesRules.model_validate(yaml.load(data.decode("utf-8"), Loader=_Loader))
    except (OSError, ValueError, RecursionError, yaml.YAMLError, ValidationError) as error:
        why = (
            f"{error.error_count()} of its statements have no meaning"
            if isinstance(error, ValidationError)
            else type(error).__name__
        )
        raise BugError(
            "rules.invalid",
            f"The rules for series cannot be read ({why}).",
            "Install the program again.",
        ) from error


@lru_cache(maxsize=1)
def series_rules() -> SeriesRules:
    """Return the shipped rules, read once."""
    return load_rules(resource_path("series_rules.yaml"))
