"""Bodies are taken apart as they arrive, within bounds; files are known by their bytes alone."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from core.server.faults import HttpFault
from core.server.item import Item, Upload
from core.server.kinds import kind_of
from core.server.limits import Limits
from core.server.uploads import FormReader, Part, Spool
from tests.fakes.served_app import png

TYPE = "multipart/form-data; boundary=b"


def part(name: str, content: bytes, filename: str | None = "../../etc/passwd") -> bytes:
    """Return a part with its delimiter."""
    file = f'; filename="{filename}"' if filename is not None else ""
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'
    return head.encode() + content + b"\r\n"


def read(folder: Path, body: bytes, piece: int = 7, content_type: str = TYPE, **limits: Any) -> list[Part]:
    """Read a body that arrives in pieces; the parts' files are read before they are removed."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), piece):
            yield body[start : start + piece]

    with Spool(folder) as spool:
        parts = asyncio.run(FormReader(content_type, Limits(**limits), spool).read(pieces()))
        for one in parts:
            if one.file is not None:
                one.data = bytearray(one.file.read_bytes())
    return parts


def refusal(*args: Any, **options: Any) -> tuple[int, str]:
    with pytest.raises(HttpFault) as caught:
        read(*args, **options)
    return caught.value.status, caught.value.error.code


@pytest.mark.parametrize("piece", [1, 3, 64, 100_000])
@pytest.mark.parametrize("in_memory", [0, 50, 1 << 20])
def test_parts_arrive_whole_however_they_are_cut(piece: int, in_memory: int, tmp_path: Path) -> None:
    tricky = b"\r\n--\r\n--c\r\n-b" * 20
    body = part("file", tricky) + part("flag", b"true", None) + part("file", b"") + b"--b--\r\n"
    parts = read(tmp_path, body, piece, in_memory_bytes=in_memory)
    assert [(one.name, one.is_file, bytes(one.data)) for one in parts] == [
        ("file", True, tricky),
        ("flag", False, b"true"),
        ("file", True, b""),
    ]
    assert parts[0].head in (b"", tricky)
    assert not list(tmp_path.iterdir())


def test_what_exceeds_the_memory_of_a_request_lies_in_a_file_of_our_name(tmp_path: Path) -> None:
    body = part("a", bytes(100)) + part("b", b"\x01" * 100) + b"--b--\r\n"
    first, second = read(tmp_path, body, in_memory_bytes=150)
    assert first.file is None
    assert second.file is not None
    assert len(second.file.name) == 16
    assert second.file.is_relative_to(tmp_path)
    assert bytes(second.data) == b"\x01" * 100
    assert not second.file.exists()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no form at all",
        part("file", b"cut off"),
        part("file", b"cut off")[:-4],
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: attachment; name="file"\r\n\r\nx\r\n--b--\r\n',
        b"--b\r\n\r\nx\r\n--b--\r\n",
        b"--b\r\nContent Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
        b"--b\rContent-Disposition: form-data\r\n\r\n",
        b"--b\r\n" + b"X: y\r\n" * 20 + b"\r\nx\r\n--b--\r\n",
        b"--other\r\n" + part("file", b"x")[5:],
    ],
)
def test_what_is_no_complete_form_is_refused(body: bytes, tmp_path: Path) -> None:
    assert refusal(tmp_path, body) == (400, "upload.malformed")


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("", (415, "upload.content_type")),
        ("application/json", (415, "upload.content_type")),
        ("multipart/form-data", (400, "upload.malformed")),
        ("multipart/form-data; boundary=" + "b" * 300, (400, "upload.malformed")),
        ("multipart/mixed; boundary=b", (415, "upload.content_type")),
    ],
)
def test_only_forms_are_taken(content_type: str, expected: tuple[int, str], tmp_path: Path) -> None:
    assert refusal(tmp_path, part("file", b"x") + b"--b--\r\n", content_type=content_type) == expected


def test_numbers_and_sizes_are_bounded(tmp_path: Path) -> None:
    end = b"--b--\r\n"
    assert refusal(tmp_path, part("f", b"") * 4 + end, files=3) == (413, "upload.files")
    assert refusal(tmp_path, part("f", b"", None) * 4 + end, fields=3) == (413, "upload.fields")
    assert refusal(tmp_path, part("f", bytes(11), None) + end, field_bytes=10) == (413, "upload.field")
    assert read(tmp_path, part("f", bytes(10), None) + end, field_bytes=10)


def test_large_headers_of_a_part_are_refused(tmp_path: Path) -> None:
    body = b"--b\r\nX: " + b"y" * 30_000 + b"\r\n\r\n"
    assert refusal(tmp_path, body, piece=1000)[0] in (400, 413)


@pytest.mark.parametrize("limits", [{"idle_s": 0.05}, {"body_s": 0.05, "idle_s": 5.0}])
def test_a_body_that_stalls_is_given_up(limits: dict[str, float], tmp_path: Path) -> None:
    async def stalling() -> AsyncIterator[bytes]:
        yield part("file", b"x")
        await asyncio.sleep(60)

    with Spool(tmp_path) as spool, pytest.raises(HttpFault) as caught:
        asyncio.run(FormReader(TYPE, Limits(**limits), spool).read(stalling()))
    assert caught.value.status == 408


NIFTI = b"\x5c\x01\0\0" + bytes(340) + b"n+1\0" + bytes(8)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (png(), "picture"),
        (b"\xff\xd8\xff\xe0", "picture"),
        (bytes(128) + b"DICM", "dicom"),
        (b"PK\x03\x04", "zip"),
        (NIFTI, "nifti"),
        (gzip.compress(NIFTI, mtime=0), "nifti-gz"),
    ],
)
def test_a_file_is_known_by_its_first_bytes(head: bytes, kind: str) -> None:
    assert kind_of(head) == kind


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"GIF89a",
        b"<svg/>",
        b"%PDF-1.7",
        gzip.compress(b"no volume", mtime=0),
        b"\x1f\x8b",
        b"II*\0",
        NIFTI[:300],
    ],
)
def test_other_files_are_refused(head: bytes) -> None:
    with pytest.raises(HttpFault) as caught:
        kind_of(head)
    assert caught.value.status == 415


def test_an_item_survives_its_frame(tmp_path: Path) -> None:
    uploads = (
        Upload("picture", b"one"),
        Upload("zip", None, tmp_path / "x", "T1"),
        Upload("nifti", b"", None, "T2"),
    )
    item = Item(uploads, "Befund: unauffällig", features=True)
    document, pieces = item.to_frame(7)
    again = Item.from_frame(document, b"".join(pieces))
    assert document["id"] == 7
    assert (again.text, again.features, again.label_map) == (item.text, True, False)
    for before, after in zip(item.uploads, again.uploads, strict=True):
        assert (before.kind, before.data, before.file, before.name) == (
            after.kind,
            after.data,
            after.file,
            after.name,
        )
