"""Names in every character set of the standard come out as pydicom and the standard's examples say."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_charset_files
from pydicom.dataset import Dataset

from core.dicom.elements import Elements, RawElement
from core.dicom.part10 import parse_file
from core.dicom.scan import scan_paths
from core.domain.person_name import PersonName, folded, search_text
from tests.fakes.dicom_files import write_stack

FILES = sorted(Path(name) for name in get_charset_files() if str(name).endswith(".dcm"))
TEXT = frozenset({"PN", "LO", "SH", "ST", "LT", "UT", "UC"})
PATIENT_NAME = 0x00100010
GBK_TRAPS = (b"\xc1\x5c".decode("gbk"), b"\xc0\x5e".decode("gbk"))


def differences(theirs: Dataset, ours: Elements) -> list[tuple[str, str, str]]:
    """List the texts that differ, items of sequences included."""
    found = []
    for element in theirs:
        if element.VR == "SQ":
            for their_item, our_item in zip(element.value, ours.items(int(element.tag)), strict=True):
                found += differences(their_item, our_item)
        elif element.VR in TEXT and element.value is not None:
            many = isinstance(element.value, pydicom.multival.MultiValue)
            text = "\\".join(str(v) for v in element.value) if many else str(element.value)
            mine = ours.person_text(int(element.tag))
            if text.strip(" \0") != mine.strip(" \0").rstrip("="):
                found.append((str(element.tag), text, mine))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_texts_are_decoded_as_pydicom_does(file: Path) -> None:
    dataset = pydicom.dcmread(file)
    dataset.decode()
    assert differences(dataset, parse_file(file, None).elements) == []


def test_there_are_seventeen_files() -> None:
    assert len(FILES) == 17


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_name_is_found_by_each_of_its_parts(file: Path) -> None:
    name = parse_file(file, None).elements.person_text(PATIENT_NAME)
    text = search_text(name)
    for group in PersonName.parse(name).groups:
        for component in group.components:
            assert folded(component) in text


@pytest.mark.parametrize(
    ("charset", "raw", "name"),
    [
        # PS3.5 H.3.1, H.3.2, I.2, J.1 to J.3, K.2
        (
            "\\ISO 2022 IR 87",
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ),
        (
            "ISO 2022 IR 13\\ISO 2022 IR 87",
            b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
            "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        ),
        (
            "\\ISO 2022 IR 149",
            b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
            "Hong^Gildong=洪^吉洞=홍^길동",
        ),
        (
            "\\ISO 2022 IR 58",
            b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
            "Zhang^XiaoDong=张^小东",
        ),
        ("GB18030", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东"),
        ("GBK", b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东"),
        ("GB18030", "四川^\ue000=".encode("gb18030"), "四川^\ue000"),
        # second bytes of GBK that look like a backslash or a caret
        (
            "GBK",
            b"\xc1\x5c^\xc0\x5e=x",
            "羂^繼=x".replace("羂", b"\xc1\x5c".decode("gbk")).replace("繼", b"\xc0\x5e".decode("gbk")),
        ),
        ("ISO_IR 192", "Wang^XiaoDong=王^小東=".encode(), "Wang^XiaoDong=王^小東"),
        ("ISO_IR 166", "นามสกุล^ชื่อ".encode("iso8859_11"), "นามสกุล^ชื่อ"),
        ("ISO_IR 144", "Люкceмбypг".encode("iso8859_5"), "Люкceмбypг"),
        ("ISO_IR 109", "Ġużè^Ħ".encode("iso8859_3"), "Ġużè^Ħ"),
        # a delimiter resets to the first character set: what follows the caret is Latin again
        ("ISO 2022 IR 100\\ISO 2022 IR 144", b"\xdcber\x1b-L\xbb\xee\xda^J\xe9r\xf4me", "ÜberЛюк^Jérôme"),
        ("ISO-IR 100", b"J\xe9r\xf4me", "Jérôme"),
        ("ISO_IR 192", b"not UTF-8 \xe9", "not UTF-8 é"),
        ("ISO_IR 9999", b"J\xe9r\xf4me", "Jérôme"),
        ("punycode", b"Mller^x-kva", "Mller^x-kva"),
    ],
)
def test_the_examples_of_the_standard(tmp_path: Path, charset: str, raw: bytes, name: str) -> None:
    file = named_file(tmp_path / "a.dcm", charset, raw)
    assert parse_file(file, None).elements.person_text(PATIENT_NAME).rstrip("=") == name


def named_file(path: Path, charset: str, raw: bytes) -> Path:
    """Write a data set of two elements, without preamble."""
    value = charset.encode() + b" " * (len(charset) % 2)
    name = raw + b" " * (len(raw) % 2)
    path.write_bytes(
        struct.pack("<HH2sH", 8, 5, b"CS", len(value))
        + value
        + struct.pack("<HH2sH", 0x10, 0x10, b"PN", len(name))
        + name
    )
    return path


def test_an_item_has_the_character_set_of_its_data_set(tmp_path: Path) -> None:
    item = struct.pack("<HH2sH", 0x10, 0x10, b"PN", 4) + "ÄÖ".encode()
    path = named_file(tmp_path / "a.dcm", "ISO_IR 192", b"x")
    sequence = (
        struct.pack("<HH2sHI", 0x40, 0x275, b"SQ", 0, len(item) + 8)
        + struct.pack("<HHI", 0xFFFE, 0xE000, len(item))
        + item
    )
    path.write_bytes(path.read_bytes() + sequence)
    (only,) = parse_file(path, None).elements.items(0x00400275)
    assert only.person_text(PATIENT_NAME) == "ÄÖ"


@pytest.mark.parametrize(
    ("charset", "flagged"),
    [("ISO_IR 999", True), ("zlib_codec", True), ("ISO_IR 192", False), ("", False), ("ISO-IR 100", False)],
)
def test_an_unknown_character_set_is_said(tmp_path: Path, charset: str, flagged: bool) -> None:
    for file in write_stack(tmp_path, np.zeros((3, 8, 10), np.int16), SpecificCharacterSet="ISO_IR 100"):
        file.write_bytes(file.read_bytes().replace(b"ISO_IR 100", charset.ljust(10).encode()))
    (series,) = scan_paths([tmp_path]).series
    codes = [issue.code for issue in series.summary.issues]
    assert ("dicom.unknown_character_set" in codes) is flagged


def test_bytes_that_no_character_set_explains_stay_readable() -> None:
    elements = Elements(raw={PATIENT_NAME: RawElement("PN", b"a\xffb")}, encodings=("utf_8",))
    assert elements.person_text(PATIENT_NAME) == "aÿb"
