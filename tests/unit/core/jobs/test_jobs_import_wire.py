"""What the window and its import process say to each other."""

from __future__ import annotations

import io
import struct

import pytest

from core.domain.errors import EnvironmentFault, InputError, SafetyError
from core.domain.progress import Cancelled
from core.domain.study import ObjectKind, SeriesKind, SeriesSummary, StudySummary
from core.domain.volume import SeriesIssue
from core.jobs.import_wire import (
    frame,
    heard_error,
    heard_series,
    heard_study,
    read_document,
    told_error,
    told_series,
    told_study,
)

SERIES = SeriesSummary(
    key="1.2.3#2",
    series_uid="1.2.3",
    study_uid="1.2",
    modality="MR",
    description="diffusion ü 水",
    body_part="HEAD",
    instances=40,
    frames=40,
    kind=SeriesKind.VOLUME,
    shape_kji=(20, 8, 8),
    spacing_kji_mm=(1.5, 1.0, 1.0),
    regular=True,
    issues=(SeriesIssue("a.b", "Something.", blocks_volumetry=True),),
    time_points=2,
    dimension="time point",
    object_kind=ObjectKind.SEGMENTATION,
    source_series=("1.2.4", "1.2.5"),
)


def sent(document: dict) -> dict:
    heard = read_document(io.BytesIO(frame(document)).read)
    assert heard is not None
    return heard


def test_series_and_studies_arrive_as_they_were_sent() -> None:
    assert heard_series(sent({"say": "series", "series": told_series(SERIES)})["series"]) == SERIES
    study = StudySummary("1.2", "P-1", "study", ("MR",), "unread", (SERIES,), "2024-01", "2026", ("tag",))
    assert heard_study(sent({"say": "study", "study": told_study(study)})["study"]) == study


def test_names_that_are_no_text_survive() -> None:
    assert sent({"say": "run", "paths": ["/a/\udcff\n"]})["paths"] == ["/a/\udcff\n"]


@pytest.mark.parametrize("kind", [InputError, EnvironmentFault, SafetyError])
def test_errors_keep_their_family(kind: type[Exception]) -> None:
    error = heard_error(sent(told_error(kind("a.b", "What.", "Do."))))  # type: ignore[call-arg]
    assert type(error) is kind
    assert (error.code, error.user_message, error.remedy) == ("a.b", "What.", "Do.")


def test_a_cancel_stays_one_and_foreign_errors_tell_their_type_only() -> None:
    assert isinstance(heard_error(sent(told_error(Cancelled()))), Cancelled)
    told = told_error(ValueError("PLANTED^MARKER"))
    assert "PLANTED" not in str(told)
    assert "ValueError" in told["message"]


@pytest.mark.parametrize(
    "stream",
    [
        b"\0\0",
        struct.pack(">I", 0),
        struct.pack(">I", 1 << 30),
        struct.pack(">I", 9) + b"{}",
        struct.pack(">I", 2) + b"[]",
        struct.pack(">I", 2) + b"{}",
        struct.pack(">I", 3) + b"{x}",
        struct.pack(">I", 9) + b'{"say":1}',
    ],
)
def test_what_is_no_message_is_refused(stream: bytes) -> None:
    with pytest.raises(ValueError):
        read_document(io.BytesIO(stream).read)


def test_the_end_of_the_stream_is_no_message() -> None:
    assert read_document(io.BytesIO(b"").read) is None
