"""Makes the fields of a form from a JSON schema, so that dialog, command line and jobs share one description."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from core.domain.forms import Choice, FieldKind, FormField
from core.recipes.schema_walk import Schema, resolved, tag_name, variants

_UNITS = {"minutes": "min", "mb": "MB", "mm": "mm", "ml": "ml", "s": "s", "px": "px"}
_KINDS: dict[str, FieldKind] = {"integer": "int", "number": "float", "boolean": "bool", "string": "text"}
_MISSING = object()


@dataclass(frozen=True)
class _Section:
    title: str = ""
    help: str = ""
    shown_when: tuple[str, str] | None = None


def form_fields(schema: Schema) -> tuple[FormField, ...]:
    """Return the fields of a schema in the order of its properties; sections that nest become headings.

    Of a section with several kinds comes the choice of the kind, then the fields of each kind with ``shown_when``.
    Lists of sections and free mappings (``transforms``, ``params``) have no fields; they are edited as text.

    A property may say ``form: false`` or ``form: time``, ``section``, ``unit``, ``titles`` (of choices) and
    ``shown_when`` beside the words of JSON Schema.
    """
    return tuple(_of_section(resolved(schema, schema), schema, "", _Section(), {}))


def _of_section(
    schema: Schema, root: Schema, prefix: str, section: _Section, defaults: Any
) -> list[FormField]:
    found = []
    required = schema.get("required", ())
    for name, stated in schema.get("properties", {}).items():
        own = resolved(stated, root)
        default = defaults.get(name, _MISSING) if isinstance(defaults, dict) else _MISSING
        if default is _MISSING:
            default = own.get("default", _MISSING)
        found += _of_property(name, own, root, prefix + name, section, default, name in required)
    return found


def _of_property(
    name: str, schema: Schema, root: Schema, path: str, section: _Section, default: Any, required: bool
) -> list[FormField]:
    if schema.get("form") is False or "const" in schema:
        return []
    options = [resolved(option, root) for option in schema.get("anyOf", ())]
    optional = any(option.get("type") == "null" for option in options)
    options = [option for option in options if option.get("type") != "null"]
    inner = options[0] if options else schema
    if variants(inner, root):
        return _of_kinds(name, inner, root, path, section, default)
    if "properties" in inner:
        heading = _Section(_title(name, inner), _first_line(inner.get("description", "")), section.shown_when)
        fields = _of_section(inner, root, f"{path}.", heading, default)
        # Nothing in a section that may be absent has to be filled in.
        return [replace(field, required=False) for field in fields] if optional else fields
    return _of_value(
        name,
        schema,
        options or [schema],
        path,
        section,
        default=default,
        optional=optional,
        required=required,
    )


def _of_kinds(
    name: str, schema: Schema, root: Schema, path: str, section: _Section, default: Any
) -> list[FormField]:
    tag = f"{path}.{tag_name(schema)}"
    heading = _Section(_title(name, schema), section.help, section.shown_when)
    kinds = variants(schema, root)
    chosen = default.get(tag_name(schema)) if isinstance(default, dict) else None
    choices = tuple(Choice(kind, _first_line(kinds[kind].get("description", kind))) for kind in kinds)
    choice = FormField(
        path=tag,
        title=heading.title,
        help=heading.help,
        kind="choice",
        choices=choices,
        default=chosen,
        section=heading.title,
        required=chosen is None,
        shown_when=section.shown_when,
    )
    found = []
    for kind, inner in kinds.items():
        values = default if kind == chosen else {}
        found += _of_section(
            inner, root, f"{path}.", _Section(heading.title, heading.help, (tag, kind)), values
        )
    return [choice, *(field for field in found if field.path != tag)]


def _of_value(
    name: str,
    schema: Schema,
    options: list[Schema],
    path: str,
    section: _Section,
    *,
    default: Any,
    optional: bool,
    required: bool,
) -> list[FormField]:
    merged = {**options[0], **{key: value for key, value in schema.items() if key != "anyOf"}}
    kind = _kind(options)
    if kind is None:
        return []
    words = [
        value
        for option in options
        for value in option.get("enum", [option.get("const")])
        if value is not None
    ]
    titles = merged.get("titles", {})
    shown = merged.get("shown_when")
    return [
        FormField(
            path=path,
            title=_title(name, schema),
            help=merged.get("description", ""),
            kind=kind,
            minimum=merged.get("minimum", merged.get("exclusiveMinimum")),
            maximum=merged.get("maximum", merged.get("exclusiveMaximum")),
            minimum_excluded="exclusiveMinimum" in merged,
            maximum_excluded="exclusiveMaximum" in merged,
            choices=tuple(Choice(word, titles.get(word, str(word))) for word in words),
            default=None if default is _MISSING else default,
            unit=merged.get("unit", _UNITS.get(name.rsplit("_", 1)[-1], "") if "_" in name else ""),
            section=merged.get("section", section.title),
            section_help=section.help,
            optional=optional,
            required=required and default is _MISSING,
            shown_when=(str(shown[0]), str(shown[1])) if shown else section.shown_when,
        )
    ]


def _kind(options: list[Schema]) -> FieldKind | None:
    first = options[0]
    if first.get("form") == "time":
        return "time"
    if all("enum" in option or "const" in option for option in options):
        return "choice"
    if first.get("type") == "array":
        items = first.get("items") or (first.get("prefixItems") or [{}])[0]
        return "list" if items.get("type") in _KINDS else None
    return _KINDS.get(str(first.get("type")))


def _title(name: str, schema: Schema) -> str:
    """Return the stated title, or the field's name as words, without its unit."""
    title = str(schema.get("title", ""))
    if title and title.replace(" ", "").lower() != name.replace("_", "") and "properties" not in schema:
        return title
    words = name.split("_")
    if len(words) > 1 and words[-1] in _UNITS:
        words = words[:-1]
    return " ".join(words).capitalize()


def _first_line(text: str) -> str:
    return text.strip().split("\n\n")[0].replace("\n", " ").rstrip(".")
