"""Rows and words of the worklist as tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.presenters.identity import without_identity
from app.presenters.series_shelf import MOST_STUDIES, SeriesShelf
from app.presenters.worklist_rows import Listing, arranged, first_to_open, flatten
from app.presenters.worklist_words import (
    Wording,
    age_in_words,
    interval_in_words,
    mixed_patients,
    modalities_in_words,
    patient_conflict,
    series_icon,
)
from core.domain.study import ObjectKind, PatientIdentity, SeriesKind, SeriesSummary
from core.domain.volume import SeriesIssue
from tests.fakes.browser_engine import derived_series, many_lines
from tests.fakes.review_engine import study, summary

LINE = many_lines(1)[0]


def test_objects_stand_below_their_source() -> None:
    series = (
        derived_series("sr", "t", ObjectKind.REPORT, "b"),
        summary("a"),
        derived_series("seg", "t", ObjectKind.SEGMENTATION, "a"),
        summary("b"),
        derived_series("kos", "t", ObjectKind.KEY_OBJECTS, "gone"),
    )
    assert [(s.key, depth) for s, depth in arranged(series)] == [
        ("a", 2),
        ("seg", 3),
        ("b", 2),
        ("sr", 3),
        ("kos", 2),
    ]


def test_an_object_of_a_split_series_stands_below_its_first_part() -> None:
    parts = (replace(summary("u"), series_uid="u"), replace(summary("u#2"), series_uid="u"))
    found = arranged((*parts, derived_series("seg", "t", ObjectKind.SEGMENTATION, "u")))
    assert [s.key for s, _ in found] == ["u", "seg", "u#2"]


def test_the_largest_volume_is_opened_first() -> None:
    image = replace(summary("i"), kind=SeriesKind.IMAGE, frames=999)
    first = first_to_open((image, summary("a"), replace(summary("b"), frames=90)))
    assert first is not None and first.key == "b"
    assert first_to_open((derived_series("seg", "t", ObjectKind.SEGMENTATION),)) is None


def test_every_study_of_a_large_library_has_its_line_once() -> None:
    listing = Listing.of(many_lines(5000), "name")
    rows = flatten(listing, (), (), {})
    studies = [row.uid for row in rows if row.kind == "study"]
    assert len(studies) == len(set(studies)) == 5000
    assert studies == listing.order()


@pytest.mark.parametrize(
    ("changes", "icon"),
    [
        ({}, "volume"),
        ({"time_points": 3}, "volume-4d"),
        ({"kind": SeriesKind.CINE}, "cine"),
        ({"kind": SeriesKind.IMAGE}, "image"),
        ({"kind": SeriesKind.IMAGE, "modality": "CR"}, "projection"),
        ({"kind": SeriesKind.IMAGE, "view": "R CC"}, "projection"),
        ({"issues": (SeriesIssue("series.localizer", "For planning."),), "time_points": 3}, "localizer"),
        ({"kind": SeriesKind.IMAGE, "description": "Boy scout, wrist"}, "image"),
        ({"kind": SeriesKind.OTHER}, "layers"),
        ({"kind": SeriesKind.OTHER, "object_kind": ObjectKind.DOCUMENT}, "document"),
    ],
)
def test_each_kind_has_its_icon(changes: dict[str, object], icon: str) -> None:
    assert series_icon(replace(summary(), **changes))[0] == icon  # type: ignore[arg-type]


def test_a_series_says_what_must_be_known_of_it() -> None:
    issues = (SeriesIssue("gap", "2 gaps between slices."), SeriesIssue("tilt", "The gantry was tilted."))
    found: SeriesSummary = replace(summary(issues=issues), time_points=3, dimension="cardiac phase")
    words = Wording().series(found, PatientIdentity())
    assert words.chips == ("3 cardiac phases",)
    assert words.tip.endswith("Caution: 2 gaps between slices.\nThe gantry was tilted.")
    assert "4-D series" in words.spoken


@pytest.mark.parametrize(
    ("name", "first", "beside"),
    [
        ("Doe^John^^Dr", "Doe, John", ""),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou", "山田 太郎"),
        ("=山田^太郎", "山田 太郎", ""),
        ("כהן^דוד", "\u2068כהן, דוד\u2069", ""),
        ("Doe^\u202eJohn\n", "Doe, John", ""),
        ("^^", "P-000000", ""),
        ("<b>x</b>", "<b>x</b>", ""),
    ],
)
def test_names_of_all_scripts_are_shown_safely(name: str, first: str, beside: str) -> None:
    line = replace(LINE, identity=PatientIdentity(name))
    assert Wording().name(line) == (first, beside)
    assert Wording(hidden=True).name(line) == ("P-000000", "")


def test_details_are_those_that_were_chosen() -> None:
    line = replace(LINE, body_parts=("CHEST",), tags=("x",), imported_utc="2026-01-20T08:00:00+00:00")
    assert (
        Wording(columns=("date", "imported", "body_part")).study(line, "").detail
        == "2026-01 · chest · in 2026-01-20"
    )
    assert Wording(columns=("tags",)).study(line, "").chips == ("x",)
    assert Wording(columns=("accession",)).patient([line], False).detail == "A-0"
    assert Wording(hidden=True, columns=("accession", "age_sex")).patient([line], False).detail == "F"


def test_the_shelf_keeps_what_is_needed_and_few_studies_more() -> None:
    shelf = SeriesShelf()
    for number in range(MOST_STUDIES + 10):
        shelf.put(f"t{number}", (summary(f"s{number}", f"t{number}"),), {"t0"})
    assert len(shelf.by_study) == MOST_STUDIES
    assert shelf.of("t0") and shelf.get("s0") is not None
    assert shelf.of("t1") == () and shelf.get("s1") is None


def test_modalities_are_those_of_the_pictures() -> None:
    assert modalities_in_words(("CT", "SEG", "SR")) == ("CT",)
    assert modalities_in_words(("SEG", "SR")) == ("SEG", "SR")


def test_different_people_under_one_id_are_a_caution() -> None:
    one = PatientIdentity("Muster^Erika", "1", "19700101", "F")
    assert patient_conflict([one, replace(one, patient_name="MUSTER^ERIKA=x")]) == ""
    told = patient_conflict([one, replace(one, birth_date="19710101", sex="M"), PatientIdentity()])
    assert "differ in birth date and sex" in told and "1970" not in told
    assert "name" in patient_conflict([one, replace(one, patient_name="Other^Person")])


def test_an_import_of_several_patients_is_a_caution() -> None:
    assert mixed_patients([study("a", "P-1"), study("b", "P-1")]) == ""
    assert "2 different patients" in mixed_patients([study("a", "P-1"), study("b", "P-2")])


def test_words_that_name_the_patient_are_masked() -> None:
    identity = PatientIdentity(
        "Müller^José", "ID-77", accession_number="ACC9", referring_physician="House^Greg"
    )
    text = "Thorax MULLER, Jose (House) id-77 ACC9 control"
    assert without_identity(text, identity) == "Thorax ••• ••• ••• ••• ••• control"
    assert without_identity("CT thorax", PatientIdentity()) == "CT thorax"


@pytest.mark.parametrize(
    ("birth", "month", "age"),
    [
        ("19700615", "2026-01", "55 y"),
        ("20251201", "2026-01", "1 mo"),
        ("", "2026-01", ""),
        ("1970", "2026-01", ""),
        ("20300101", "2026-01", ""),
    ],
)
def test_ages_are_those_of_the_study(birth: str, month: str, age: str) -> None:
    assert age_in_words(birth, month) == age


@pytest.mark.parametrize(
    ("current", "other", "words"),
    [
        ("2026-01", "2025-12", "1 month earlier"),
        ("2026-01", "2024-01", "2 years earlier"),
        ("2026-01", "2026-01", "same month"),
        ("2026-01", "2026-03", "2 months later"),
        ("", "2026-01", ""),
    ],
)
def test_intervals_are_told(current: str, other: str, words: str) -> None:
    assert interval_in_words(current, other) == words
