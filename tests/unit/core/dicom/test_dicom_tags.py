"""Listing elements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from core.dicom.tags import read_tags
from core.domain.errors import InputError
from tests.fakes.dicom_files import write_stack


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", ImplicitVRLittleEndian])
def test_elements_are_listed_with_their_depth(tmp_path: Path, syntax: str) -> None:
    item = Dataset()
    item.CodeValue, item.CodeMeaning = "T-1", "Müller"
    outer = Dataset()
    outer.PurposeOfReferenceCodeSequence = [item]
    (path,) = write_stack(
        tmp_path, np.zeros((1, 4, 5), np.int16), syntax=syntax,
        SpecificCharacterSet="ISO_IR 100", ReferencedImageSequence=[outer],
    )  # fmt: skip
    rows = read_tags(path)
    by_keyword = {row["keyword"]: row for row in rows}
    assert rows[0]["tag"].startswith("(0002")
    assert by_keyword["Rows"] == {
        "tag": "(0028,0010)",
        "keyword": "Rows",
        "vr": "US",
        "value": "4",
        "depth": 0,
    }
    assert by_keyword["ReferencedImageSequence"]["value"] == "1 item"
    assert by_keyword["PurposeOfReferenceCodeSequence"]["depth"] == 1
    assert by_keyword["CodeValue"]["depth"] == 2
    assert by_keyword["PixelData"]["value"] == "40 bytes"
    assert by_keyword["PixelSpacing"]["value"] == "1\\1"


@pytest.mark.parametrize("query", ["pixelspacing", "0028,0030", "00280030", "(0028,0030)"])
def test_a_query_narrows_the_list(tmp_path: Path, query: str) -> None:
    (path,) = write_stack(tmp_path, np.zeros((1, 4, 5), np.int16))
    assert [row["keyword"] for row in read_tags(path, query)] == ["PixelSpacing"]


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("text that is long enough to be looked at")
    with pytest.raises(InputError) as caught:
        read_tags(tmp_path / "x")
    assert caught.value.code == "dicom.not_dicom"
