"""Walks a JSON schema of pydantic: what may stand at a place of a document."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def resolved(schema: Schema, root: Schema) -> Schema:
    """Follow ``$ref``; what stands beside the reference wins over what it refers to."""
    for _ in range(16):
        if "$ref" not in schema:
            return schema
        name = schema["$ref"].rsplit("/", 1)[-1]
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        schema = {**root["$defs"][name], **beside}
    return schema


def variants(schema: Schema, root: Schema) -> dict[str, Schema]:
    """Return the alternatives of a union that a tag tells apart, by tag; empty when it isn't one."""
    tagged = schema.get("discriminator")
    if not tagged or "mapping" not in tagged:
        return {}
    return {tag: resolved({"$ref": ref}, root) for tag, ref in tagged["mapping"].items()}


def tag_name(schema: Schema) -> str:
    """Return the field that tells the alternatives apart."""
    return str(schema.get("discriminator", {}).get("propertyName", ""))


def chosen(schema: Schema, value: Any, root: Schema) -> Schema:
    """Return the one alternative that fits a value: by its tag, else the first that describes a mapping or list."""
    schema = resolved(schema, root)
    alternatives = variants(schema, root)
    if alternatives:
        name = tag_name(schema)
        tag = value.get(name) if isinstance(value, dict) else None
        default = schema.get("default", {})
        tag = tag if tag is not None else default.get(name) if isinstance(default, dict) else None
        return alternatives.get(str(tag), {})
    for option in schema.get("anyOf", ()):
        inner = chosen(option, value, root)
        if "properties" in inner or "items" in inner or "prefixItems" in inner:
            return inner
    return schema


def names_at(root: Schema, document: Any, path: tuple[str | int, ...]) -> tuple[str, ...]:
    """Return the names that a section may have, given what stands in the document around it."""
    value = document
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            value = None
    return tuple(chosen(property_at(root, document, path), value, root).get("properties", {}))


def property_at(root: Schema, document: Any, path: tuple[str | int, ...]) -> Schema:
    """Return the schema of a place as the section around it states it; empty where nothing may stand."""
    inner, value = root, document
    for part in path:
        schema = chosen(inner, value, root)
        if isinstance(part, int):
            inner = schema.get("items", {})
            value = value[part] if isinstance(value, list) and part < len(value) else None
        else:
            inner = schema.get("properties", {}).get(part, {})
            value = value.get(part) if isinstance(value, dict) else None
    return resolved(inner, root)
