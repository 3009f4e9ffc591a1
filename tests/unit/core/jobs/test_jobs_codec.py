"""The codec refuses everything that is not exactly a message."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import pytest

from core.domain.errors import AppError, BugError, SafetyError
from core.jobs import messages as m
from core.jobs.codec import MAX_FRAME_BYTES, decode, encode, read_message


def document(**changes: Any) -> bytes:
    fields = {"job_id": "a", "phase": "Running", "fraction": 0.5, "eta_seconds": None}
    return json.dumps({"v": m.VERSION, "t": "JobProgress", "d": fields} | changes).encode()


def test_the_wire_format_is_what_the_docstring_says() -> None:
    frame = encode(m.JobProgress("a", "Running", 0.5))
    assert int.from_bytes(frame[:4], "big") == len(frame) - 4
    assert json.loads(frame[4:]) == json.loads(document())


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (document(t="JobExploded"), "jobs.unknown_type"),
        (document(t="SharedArraySpec"), "jobs.unknown_type"),
        (document(t=["JobProgress"]), "jobs.unknown_type"),
        (document(d={"job_id": "a", "phase": "b", "fraction": 0.1, "extra": 1}), "jobs.unknown_field"),
        (document(d={"job_id": "a", "phase": "b"}), "jobs.missing_field"),
        (document(d={"job_id": "a", "phase": "b", "fraction": "0.1"}), "jobs.bad_field"),
        (document(d={"job_id": "a", "phase": "b", "fraction": True}), "jobs.bad_field"),
        (document(d={"job_id": 1, "phase": "b", "fraction": 0.1}), "jobs.bad_field"),
        (document(d={"job_id": "a", "phase": "b", "fraction": 10**400}), "jobs.bad_field"),
        (document(d=[1, 2]), "jobs.bad_field"),
        (document(x=1), "jobs.not_a_message"),
        (b"[]", "jobs.not_a_message"),
        (b"{", "jobs.not_json"),
        (b"\xff\xfe", "jobs.not_json"),
        (document().replace(b"0.5", b"NaN"), "jobs.not_json"),
        (b"[" * 100_000, "jobs.not_json"),
        (
            b'{"v":2,"t":"JobSubmitted","d":{"job_id":"a","task":{"t":"JobFailed","d":{}}}}',
            "jobs.unknown_type",
        ),
        (b'{"v":2,"t":"JobSubmitted","d":{"job_id":"a","task":{}}}', "jobs.bad_field"),
    ],
)
def test_what_is_no_message_is_a_bug(body: bytes, code: str) -> None:
    with pytest.raises(BugError) as caught:
        decode(body)
    assert caught.value.code == code


def test_another_version_is_refused_for_safety() -> None:
    with pytest.raises(SafetyError) as caught:
        decode(document(v=m.VERSION + 1))
    assert caught.value.code == "jobs.version"


def test_an_oversized_frame_is_refused_before_it_is_read() -> None:
    stream = io.BytesIO((MAX_FRAME_BYTES + 1).to_bytes(4, "big") + b"x" * 10)
    with pytest.raises(SafetyError) as caught:
        read_message(stream.read)
    assert caught.value.code == "jobs.oversize"
    assert stream.tell() == 4


@pytest.mark.parametrize("cut", [1, 3, 4, 5, 20])
def test_a_stream_that_ends_inside_a_message_is_a_bug(cut: int) -> None:
    with pytest.raises(BugError):
        read_message(io.BytesIO(encode(m.Heartbeat(1))[:cut]).read)


def test_the_end_of_the_stream_is_no_error() -> None:
    assert read_message(io.BytesIO(b"").read) is None


@pytest.mark.parametrize(
    "outcome",
    [
        {"x": math.nan},
        {"x": math.inf},
        {"x": Path()},
        {1: 2},
        {"x": {2: 3}},
        {"x": b""},
        {"x": "y" * MAX_FRAME_BYTES},
    ],
)
def test_what_json_cannot_say_is_not_sent(outcome: dict[Any, Any]) -> None:
    with pytest.raises(AppError):
        encode(m.JobSucceeded("a", outcome))


def test_what_is_no_message_is_not_sent() -> None:
    with pytest.raises(BugError):
        encode(m.SelfTestTask("bundle"))  # type: ignore[arg-type]
