"""The rules for series are data, and a file that says something else than rules is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.config.resources import resource_path
from core.dicom.header import HEADER_TAGS
from core.dicom.series_rules import MAX_BYTES, load_rules, series_rules
from core.domain.errors import BugError
from core.domain.study import ObjectKind

SHIPPED = resource_path("series_rules.yaml").read_text(encoding="utf-8")


def test_every_element_of_the_rules_is_read_while_scanning() -> None:
    assert series_rules().tags() <= HEADER_TAGS


@pytest.mark.parametrize(
    ("sop_class", "kind"),
    [
        ("1.2.840.10008.5.1.4.1.1.66.4", ObjectKind.SEGMENTATION),
        ("1.2.840.10008.5.1.4.1.1.66.7", ObjectKind.SEGMENTATION),
        ("1.2.840.10008.5.1.4.1.1.66.1", ObjectKind.UNKNOWN),
        ("1.2.840.10008.5.1.4.1.1.481.3", ObjectKind.STRUCTURE_SET),
        ("1.2.840.10008.5.1.4.1.1.481.5", ObjectKind.UNKNOWN),
        ("1.2.840.10008.5.1.4.1.1.88.33", ObjectKind.REPORT),
        ("1.2.840.10008.5.1.4.1.1.88.59", ObjectKind.KEY_OBJECTS),
        ("1.2.840.10008.5.1.4.1.1.11.1", ObjectKind.PRESENTATION),
        ("1.2.840.10008.5.1.4.1.1.30", ObjectKind.PARAMETRIC_MAP),
        ("1.2.840.10008.5.1.4.1.1.104.1", ObjectKind.DOCUMENT),
        ("1.2.840.10008.5.1.4.1.1.2", ObjectKind.NONE),
        ("1.2.840.10008.5.1.4.1.1.128", ObjectKind.NONE),
        ("", ObjectKind.NONE),
    ],
)
def test_kinds_of_objects(sop_class: str, kind: ObjectKind) -> None:
    assert series_rules().object_kind(sop_class) is kind


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("version: 1", "version: 2"),
        ("version: 1", "version: 1\nsurprise: true"),
        ("  orientation: 0.005", "  orientation: -1"),
        ("  orientation: 0.005", "  orientation: .inf"),
        ("  orientation: 0.005", "  orientation: 0.005\n  orientation: 0.1"),
        ("read: b_value", "read: eval"),
        ('"0018,0081"', '"0018,008g"'),
        ("66.4\": seg", "66.4\": mesh"),
        ("projections: [CR,", "projections: [cr,"),
        ("split:", "split: &a"),
        ("version: 1", "version: !!python/object/apply:os.getcwd []"),
    ],
)  # fmt: skip
def test_other_files_are_refused(tmp_path: Path, old: str, new: str) -> None:
    assert old in SHIPPED
    text = SHIPPED.replace(old, new, 1)
    if "&a" in new:
        text = text.replace("localizer:\n", "more: *a\nlocalizer:\n", 1)
    path = tmp_path / "rules.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BugError) as caught:
        load_rules(path)
    assert caught.value.code == "rules.invalid"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 5000, b"#" * (MAX_BYTES + 1), b"a: b: c"])
def test_broken_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rules.yaml"
    path.write_bytes(content)
    with pytest.raises(BugError):
        load_rules(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BugError):
        load_rules(tmp_path / "none.yaml")
