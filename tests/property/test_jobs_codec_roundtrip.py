"""Whatever message there is comes out of the wire as it went in."""

from __future__ import annotations

import io
import typing
from dataclasses import fields
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from core.jobs import messages as m
from core.jobs.codec import decode, encode, read_message

TEXT = st.text(max_size=40)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """A strategy for a field's type."""
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if hint == m.Task:
        return st.one_of([instances(option) for option in options])
    if type(None) in options:
        return st.none() | values(next(o for o in options if o is not type(None)))
    if origin is tuple:
        if options[-1] is Ellipsis:
            return st.lists(values(options[0]), max_size=4).map(tuple)
        return st.tuples(*(values(option) for option in options))
    if origin is dict:
        return st.dictionaries(TEXT, JSON, max_size=4)
    plain = {str: TEXT, int: st.integers(-(2**63), 2**63), float: NUMBER, bool: st.booleans()}
    return plain[hint] if hint in plain else instances(hint)


def instances(cls: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(cls)
    return st.builds(cls, **{field.name: values(hints[field.name]) for field in fields(cls)})


MESSAGES = st.one_of([instances(cls) for cls in typing.get_args(m.Message)])


@settings(max_examples=200, deadline=None)
@given(MESSAGES)
def test_a_message_comes_back_as_it_was_sent(message: m.Message) -> None:
    frame = encode(message)
    assert decode(frame[4:]) == message
    assert type(decode(frame[4:])) is type(message)


@settings(max_examples=50, deadline=None)
@given(st.lists(MESSAGES, max_size=4))
def test_a_stream_of_messages_comes_back_in_order(messages: list[m.Message]) -> None:
    stream = io.BytesIO(b"".join(encode(message) for message in messages))
    received = list(iter(lambda: read_message(stream.read), None))
    assert received == messages


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_refused_with_an_error_of_ours(noise: bytes) -> None:
    from core.domain.errors import AppError

    stream = io.BytesIO(noise)
    try:
        while read_message(stream.read) is not None:
            pass
    except AppError:
        pass
