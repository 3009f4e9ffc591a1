"""What an ONNX file would do, read from its bytes before any runtime sees it.

A minimal reader of the protocol-buffer wire format walks the model: no external data, no operators outside
the standard domains, a known opset, one image input. Source: onnx.proto3 of ONNX 1.17; protocol buffers
encoding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from core.domain.errors import InputError, SafetyError

MAX_ONNX_BYTES = 2 * 1024**3
MIN_OPSET, MAX_OPSET = 7, 26
_STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_MAX_DEPTH = 8
_EXTERNAL = 1


@dataclass(frozen=True)
class OnnxFacts:
    """Opset, inputs and outputs (name → dimensions, None where free), and the operators used."""

    opset: int
    inputs: dict[str, tuple[int | None, ...]]
    outputs: dict[str, tuple[int | None, ...]]
    operators: frozenset[str]


@dataclass
class _Findings:
    initializers: set[str] = field(default_factory=set)
    operators: set[str] = field(default_factory=set)
    opset: int = 0


def check_onnx(model: bytes, *, inputs: int = 1) -> OnnxFacts:
    """Return what the file holds.

    Parameters
    ----------
    inputs : int
        How many the graph may take: the image, and a text where the model has one.

    Raises
    ------
    InputError
        ``onnx.invalid``: not ONNX, truncated, an unknown opset, no input or more than ``inputs``.
    SafetyError
        ``onnx.external_data``: tensors kept in other files. ``onnx.custom_operator``: operators that would
        need foreign code.
    """
    if len(model) > MAX_ONNX_BYTES:
        raise _invalid("it is larger than 2 GB")
    found = _Findings()
    graph: memoryview | None = None
    for number, value in _fields(memoryview(model)):
        if number == 7 and isinstance(value, memoryview):
            graph = value
        elif number == 8 and isinstance(value, memoryview):
            _opset(value, found)
        elif number == 25:
            raise _custom("functions of its own")
    if graph is None:
        raise _invalid("it has no graph")
    if not MIN_OPSET <= found.opset <= MAX_OPSET:
        raise _invalid(f"its opset is {found.opset}; {MIN_OPSET}…{MAX_OPSET} are known")
    named, outputs = _graph(graph, found, 0)
    images = {name: dims for name, dims in named.items() if name not in found.initializers}
    if not 1 <= len(images) <= inputs or not outputs:
        raise _invalid(f"it has {len(images)} inputs; one image is expected")
    return OnnxFacts(found.opset, images, outputs, frozenset(found.operators))


Value = int | memoryview
Dims = tuple[int | None, ...]


def _fields(data: memoryview) -> Iterator[tuple[int, Value]]:
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, position = _varint(data, position)
            yield number, value
            continue
        if kind == 2:
            length, position = _varint(data, position)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise _invalid("it is damaged")
        if position + length > len(data):
            raise _invalid("it is truncated")
        yield number, data[position : position + length]
        position += length


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if position >= len(data) or shift > 63:
            raise _invalid("it is truncated or damaged")
        byte = data[position]
        value |= (byte & 0x7F) << shift
        position += 1
        if not byte & 0x80:
            return value, position
        shift += 7


def _text(value: Value) -> str:
    return bytes(value).decode("utf-8", "replace") if isinstance(value, memoryview) else ""


def _sub(data: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, value in _fields(data):
        if number == wanted and isinstance(value, memoryview):
            yield value


def _opset(data: memoryview, found: _Findings) -> None:
    domain, version = "", 0
    for number, value in _fields(data):
        if number == 1:
            domain = _text(value)
        elif number == 2 and isinstance(value, int):
            version = value
    if domain not in _STANDARD_DOMAINS:
        raise _custom(f"the operator domain {domain!r}")
    if domain in ("", "ai.onnx"):
        found.opset = version


def _graph(data: memoryview, found: _Findings, depth: int) -> tuple[dict[str, Dims], dict[str, Dims]]:
    if depth > _MAX_DEPTH:
        raise _invalid("its graphs are nested too deeply")
    inputs: dict[str, Dims] = {}
    outputs: dict[str, Dims] = {}
    for number, value in _fields(data):
        if not isinstance(value, memoryview):
            continue
        if number == 1:
            _node(value, found, depth)
        elif number == 5:
            found.initializers.add(_tensor(value))
        elif number == 15:
            for tensor in (*_sub(value, 1), *_sub(value, 2)):
                _tensor(tensor)
        elif number == 11:
            inputs.update([_value_info(value)])
        elif number == 12:
            outputs.update([_value_info(value)])
    return inputs, outputs


def _node(data: memoryview, found: _Findings, depth: int) -> None:
    for number, value in _fields(data):
        if number == 4:
            found.operators.add(_text(value))
        elif number == 7 and _text(value) not in _STANDARD_DOMAINS:
            raise _custom(f"the operator domain {_text(value)!r}")
        elif number == 5 and isinstance(value, memoryview):
            for inner, content in _fields(value):
                if not isinstance(content, memoryview):
                    continue
                if inner in (5, 10):
                    _tensor(content)
                elif inner in (6, 11):
                    _graph(content, found, depth + 1)


def _tensor(data: memoryview) -> str:
    """Return a tensor's name; refuse external data."""
    name = ""
    for number, value in _fields(data):
        if number == 8:
            name = _text(value)
        elif number == 13 or (number == 14 and value == _EXTERNAL):
            raise SafetyError(
                "onnx.external_data",
                "The ONNX file keeps weights in other files.",
                "Save it again as one file without external data.",
            )
    return name


def _value_info(data: memoryview) -> tuple[str, Dims]:
    name = ""
    dims: list[int | None] = []
    for number, value in _fields(data):
        if number == 1:
            name = _text(value)
        elif number == 2 and isinstance(value, memoryview):
            for tensor_type in _sub(value, 1):
                for shape in _sub(tensor_type, 2):
                    dims = [_dimension(dimension) for dimension in _sub(shape, 1)]
    return name, tuple(dims)


def _dimension(data: memoryview) -> int | None:
    for number, value in _fields(data):
        if number == 1 and isinstance(value, int):
            return value
    return None


def _invalid(reason: str) -> InputError:
    return InputError("onnx.invalid", f"The ONNX file can't be used: {reason}.", "Export the network again.")


def _custom(what: str) -> SafetyError:
    return SafetyError(
        "onnx.custom_operator",
        f"The ONNX file uses {what}, which would need foreign code.",
        "Export the network with standard operators only.",
    )
