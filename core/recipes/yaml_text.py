"""YAML as plain data: safe to read from anybody's file, and with the place of every value.

The reader builds mappings, sequences, text, numbers, truth values and nothing, by the core schema of YAML 1.2 (so that
``1e-3`` is a number, ``22:30`` and ``2026-01-31`` are text, ``no`` is text). Every other tag is refused, as are
duplicate keys, cycles, documents that grow by aliases, that nest too deeply or hold too many values.
Source: https://yaml.org/spec/1.2.2/#103-core-schema.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from core.domain.errors import InputError

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 20_000
MAX_ALIASES = 64

Key = tuple[str | int, ...]

_PREFIX = "tag:yaml.org,2002:"
_RESOLVERS = (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    (
        "float",
        r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9]+[eE][-+]?[0-9]+)$",
        list("-+.0123456789"),
    ),
    ("merge", r"^<<$", ["<"]),
)


@dataclass(frozen=True)
class Document:
    """Plain data of one file.

    Attributes
    ----------
    data : dict
        The document; keys are text.
    lines : mapping of tuple to int
        For each key or index path, the line it stands on, from 1.
    """

    data: dict[str, Any]
    lines: dict[Key, int] = field(default_factory=dict)


class _Loader(yaml.SafeLoader):
    """Composes nodes within limits; constructs nothing."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._nodes = self._aliases = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Count, then compose."""
        self._nodes += 1
        self._depth += 1
        self._aliases += self.check_event(yaml.AliasEvent)
        if self._depth > MAX_DEPTH:
            raise _refusal(f"it nests deeper than {MAX_DEPTH} levels", _line(self.peek_event()))
        if self._nodes > MAX_NODES:
            raise _refusal(f"it holds more than {MAX_NODES} values", _line(self.peek_event()))
        if self._aliases > MAX_ALIASES:
            raise _refusal(f"it refers more than {MAX_ALIASES} times to an anchor", _line(self.peek_event()))
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers: dict[str, Any] = {}

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Write every value in full."""
        return True


for _tag, _pattern, _first in _RESOLVERS:
    for _side in (_Loader, _Dumper):
        _side.add_implicit_resolver(_PREFIX + _tag, re.compile(_pattern), _first)


def read_yaml(text: str, what: str = "The recipe") -> Document:
    """Read one document whose top is a mapping.

    Raises
    ------
    InputError
        ``recipe.yaml`` naming the line.
    """
    if len(text.encode("utf-8", "replace")) > MAX_BYTES:
        raise _refusal(f"it is larger than {MAX_BYTES >> 20} MiB", None, what)
    try:
        node = _Loader(text).get_single_node()
        reading = _Reading()
        data = reading.value(node, ()) if node is not None else {}
    except InputError as error:
        raise InputError(
            error.code, error.user_message.replace("The recipe", what, 1), error.remedy
        ) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = (error.problem or error.context or "it isn't valid YAML").splitlines()[0]
        raise _refusal(problem, mark.line + 1 if mark else None, what) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _refusal("it isn't valid YAML", None, what) from error
    if not isinstance(data, dict):
        raise _refusal("it must be a mapping of names to values", 1, what)
    return Document(data, reading.lines)


def read_value(text: str) -> Any:
    """Read the value of an override: ``3``, ``1e-4``, ``[1, 2]``, ``{name: adam}``, text."""
    return read_yaml(f"value: {text}", "The value").data.get("value")


def write_yaml(data: dict[str, Any]) -> str:
    """Write plain data so that ``read_yaml`` gives it back."""
    return str(
        yaml.dump(
            data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=False
        )
    )


class _Reading:
    """Turns composed nodes into data."""

    def __init__(self) -> None:
        self.lines: dict[Key, int] = {}
        self._open: set[int] = set()
        self._built = 0

    def value(self, node: yaml.Node, path: Key) -> Any:
        self._built += 1
        if self._built > MAX_NODES:
            raise _refusal(f"its aliases grow to more than {MAX_NODES} values", _line(node))
        self.lines.setdefault(path, _line(node) or 1)
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if id(node) in self._open:
            raise _refusal("an anchor contains itself", _line(node))
        if len(path) > MAX_DEPTH:
            raise _refusal(f"it nests deeper than {MAX_DEPTH} levels", _line(node))
        self._open.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode) and node.tag == _PREFIX + "seq":
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            if isinstance(node, yaml.MappingNode) and node.tag == _PREFIX + "map":
                return self._mapping(node, path)
        finally:
            self._open.discard(id(node))
        raise _refusal(f"it uses the tag {node.tag!r}; only plain values are read", _line(node))

    def _mapping(self, node: yaml.MappingNode, path: Key) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = _key(key_node)
            if key in own or (key == "<<" and merged):
                raise _refusal(f"the name {key!r} stands twice in one section", _line(key_node))
            if key_node.tag == _PREFIX + "merge":
                merged = {k: v for part in self._parts(value_node, path) for k, v in part.items()}
                continue
            self.lines[(*path, key)] = _line(key_node) or 1
            own[key] = self.value(value_node, (*path, key))
        return {**merged, **own}

    def _parts(self, node: yaml.Node, path: Key) -> Iterator[dict[str, Any]]:
        """Yield what ``<<`` refers to, the first one last since it wins."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        for part in reversed(nodes):
            found = self.value(part, path)
            if not isinstance(found, dict):
                raise _refusal("“<<” takes a mapping", _line(node))
            yield found


def _key(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _refusal("a name must be plain text", _line(node))
    return str(node.value)


def _scalar(node: yaml.ScalarNode) -> Any:
    text = node.value
    kind = node.tag.removeprefix(_PREFIX)
    if kind in ("str", "merge"):
        return text
    if kind == "null":
        return None
    if kind == "bool" and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind in ("int", "float") and len(text) <= 64:
        try:
            number = int(text) if kind == "int" else float(text)
        except ValueError:
            raise _refusal(f"{text!r} is no number", _line(node)) from None
        if number - number == 0:
            return number
        raise _refusal(f"{text!r} is no finite number", _line(node))
    if kind in ("bool", "int", "float"):
        raise _refusal(f"{text[:40]!r} isn't of the kind that its tag says", _line(node))
    raise _refusal(f"it uses the tag {node.tag!r}; only plain values are read", _line(node))


def _line(node: Any) -> int | None:
    mark = getattr(node, "start_mark", None)
    return mark.line + 1 if mark is not None else None


def _refusal(problem: str, line: int | None, what: str = "The recipe") -> InputError:
    where = f" (line {line})" if line else ""
    return InputError(
        "recipe.yaml", f"{what} can't be read{where}: {problem}.", "Correct the file; it is plain YAML."
    )
