"""The tree of elements: sequences, private blocks, character sets, identity, comparison."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from core.dicom.tag_identity import identifies
from core.dicom.tag_tree import TagTree, read_tag_tree
from core.domain.errors import InputError
from core.domain.tags import TagLine
from tests.fakes.data import data_path
from tests.fakes.dicom_files import write_stack

SEQUENCE = 0x00081140


def tree_of(tmp_path: Path, **elements: object) -> TagTree:
    item = Dataset()
    item.CodeValue, item.CodeMeaning = "T-1", "Müller"
    outer = Dataset()
    outer.PurposeOfReferenceCodeSequence = [item]
    (path,) = write_stack(
        tmp_path, np.zeros((1, 4, 5), np.int16),
        **{"SpecificCharacterSet": "ISO_IR 100", "ReferencedImageSequence": [outer, outer], **elements},
    )  # fmt: skip
    return read_tag_tree(path)


def top(tree: TagTree) -> dict[str, TagLine]:
    return {line.keyword: line for line in tree.lines((), 0, tree.count())}


def test_sequences_unfold_piece_by_piece(tmp_path: Path) -> None:
    tree = tree_of(tmp_path)
    line = top(tree)["ReferencedImageSequence"]
    assert (line.value, line.children, tree.count(line.path)) == ("2 items", 2, 2)
    (second,) = tree.lines(line.path, 1, 99)
    assert (second.name, second.value, second.path) == ("Item 2", "1 element", (SEQUENCE, 1))
    (codes,) = tree.lines(second.path, 0, 10)
    (inner,) = tree.lines(codes.path, 0, 10)
    value, meaning = tree.lines(inner.path, 0, 10)
    assert (value.value, meaning.value) == ("T-1", "Müller"), "items inherit the character set"
    assert meaning.where == (
        "Referenced Image Sequence › Item 2 › Purpose of Reference Code Sequence › Item 1"
    )


def test_pixels_are_a_size_and_nothing_is_beyond_the_end(tmp_path: Path) -> None:
    tree = tree_of(tmp_path)
    assert top(tree)["PixelData"].value == "40 bytes"
    assert tree.lines((), 10_000, 10_010) == () and tree.lines((SEQUENCE, 7), 0, 5) == ()
    assert tree.count((0x00990099,)) == 0


@pytest.mark.parametrize("query", ["codemeaning", "0008,0104", "00080104", "müller", "code meaning"])
def test_the_search_finds_elements_at_every_depth(tmp_path: Path, query: str) -> None:
    found = tree_of(tmp_path).search(query, 10)
    assert [line.keyword for line in found] == ["CodeMeaning", "CodeMeaning"]


def test_the_search_is_bounded_and_an_empty_one_finds_nothing(tmp_path: Path) -> None:
    tree = tree_of(tmp_path)
    assert len(tree.search("0", 3)) == 3 and tree.search("  ", 3) == ()


def test_private_elements_name_their_creator(tmp_path: Path) -> None:
    (path,) = write_stack(tmp_path, np.zeros((1, 4, 5), np.int16))
    data = dcmread(path)
    block = data.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
    block.add_new(0x08, "CS", "IMAGE NUM 4")
    data.save_as(path)
    tree = read_tag_tree(path)
    (line,) = tree.search("image num", 5)
    assert line.creator == "SIEMENS CSA HEADER" and line.name == "CSA Image Header Type"
    assert line.keyword == ""


def test_what_identifies_is_told_and_not_searched_while_hidden(tmp_path: Path) -> None:
    tree = tree_of(tmp_path, PatientName="Planted^Name", PatientID="PID-4711")
    lines = top(tree)
    hidden = {name for name, line in lines.items() if line.identifies}
    assert {"PatientName", "PatientID", "SOPInstanceUID", "StudyInstanceUID"} <= hidden
    assert not {"Rows", "Modality", "PixelSpacing", "SOPClassUID", "TransferSyntaxUID"} & hidden
    assert [line.keyword for line in tree.search("planted", 5)] == ["PatientName"]
    assert tree.search("planted", 5, identity_hidden=True) == ()
    assert [line.keyword for line in tree.search("patientname", 5, identity_hidden=True)] == ["PatientName"]


@pytest.mark.parametrize(
    ("tag", "vr", "hidden"),
    [
        (0x00100040, "CS", False),
        (0x00101010, "AS", False),
        (0x00100020, "LO", True),
        (0x00080020, "DA", True),
        (0x00080030, "TM", False),
        (0x00080050, "SH", True),
        (0x00204000, "LT", True),
        (0x00090010, "LO", False),
        (0x00091001, "LO", True),
        (0x00091002, "DS", False),
        (0x00020010, "UI", False),
    ],
)
def test_in_doubt_it_hides(tag: int, vr: str, hidden: bool) -> None:
    assert identifies(tag, vr) is hidden


def test_differences_from_a_neighbour_are_marked(tmp_path: Path) -> None:
    first, second = write_stack(tmp_path, np.zeros((2, 4, 5), np.int16))
    tree = read_tag_tree(first).compared_with(read_tag_tree(second))
    differing = {name for name, line in top(tree).items() if line.differs}
    assert "SOPInstanceUID" in differing and "ImagePositionPatient" in differing
    assert not {"Rows", "SeriesInstanceUID", "PixelData"} & differing


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("text that is long enough to be looked at")
    with pytest.raises(InputError):
        read_tag_tree(tmp_path / "x")


def test_names_of_real_files_come_in_their_character_set() -> None:
    from pydicom.data import get_charset_files

    (path,) = get_charset_files("chrH31.dcm")
    line = top(read_tag_tree(Path(path)))["PatientName"]
    assert line.value == "Yamada^Tarou=山田^太郎=やまだ^たろう"


def test_a_large_multi_frame_header_opens_where_it_is_looked_at() -> None:
    tree = read_tag_tree(data_path("core/dicom/pydicom-data-zoo/eCT_Supplemental.dcm"))
    assert tree.frames > 1
    per_frame = top(tree)["PerFrameFunctionalGroupsSequence"]
    assert per_frame.children == tree.frames
    assert tree.lines(per_frame.path, per_frame.children - 1, per_frame.children)[0].children > 0
