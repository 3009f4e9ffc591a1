"""The worklist: found by any word on either side, narrowed, marked, without identity in the index."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core.domain.browse import StudyFilter
from core.domain.errors import InputError
from core.domain.study import PatientIdentity, ReadStatus, StudySummary
from core.domain.volume import SeriesIssue
from core.library.search_words import search_words
from core.services import browse, results, verify_audit
from core.services.engine import Engine
from core.services.record_decision import record_decision
from tests.fakes.engines import (
    IDENTITY,
    SERIES_UID,
    STUDY_UID,
    insert_study,
    make_engine,
    model_result,
    series_summary,
)


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    with make_engine(tmp_path) as opened:
        yield opened


def found(engine: Engine, text: str = "", **narrowed: Any) -> list[str]:
    return [line.study_uid for line in browse.study_lines(engine, StudyFilter(text=text, **narrowed))]


def words_in_index(engine: Engine) -> str:
    with engine.library.sql.connect() as connection:
        return " ".join(r[0] for r in connection.exec_driver_sql("SELECT words FROM study_search"))


def test_a_line_says_what_a_study_holds_without_reading_its_series(engine: Engine) -> None:
    insert_study(engine)
    with engine.unit_of_work() as uow:
        summary = series_summary(series_uid="1.2.3", modality="SR")
        uow.series.put(summary, "dicom")
    (line,) = browse.study_lines(engine)
    assert (line.study_uid, line.identity, line.description) == (STUDY_UID, IDENTITY, "CT thorax")
    assert (line.modalities, line.body_parts) == (("CT", "SR"), ("CHEST",))
    assert (line.series_count, line.instance_count) == (2, 6)
    assert (line.status, line.tags, line.waiting, line.has_issues) == (ReadStatus.UNREAD, (), 0, False)
    assert line.patient_key.startswith("P-")
    assert line == browse.study_line(engine, STUDY_UID)
    assert [series.key for series in browse.series_of(engine, STUDY_UID)] == ["1.2.3", SERIES_UID]
    assert browse.series_of(engine, "1.2") == ()


def test_sums_follow_the_series(engine: Engine) -> None:
    insert_study(engine)
    issue = SeriesIssue("a.b", "Odd.")
    with engine.unit_of_work() as uow:
        uow.series.remove_series_uid(SERIES_UID)
    line = browse.study_line(engine, STUDY_UID)
    assert (line.modalities, line.series_count, line.instance_count) == ((), 0, 0)
    assert found(engine, "chest") == []
    with engine.unit_of_work() as uow:
        uow.series.put(replace(series_summary(modality="MR"), issues=(issue,)), "dicom")
    line = browse.study_line(engine, STUDY_UID)
    assert (line.modalities, line.series_count, line.has_issues) == (("MR",), 1, True)
    assert found(engine, "chest mr") == [STUDY_UID]


@pytest.mark.parametrize(
    "text",
    [
        "müller",
        "MULLER",
        "mueller jose",
        "José",
        "山田",
        "太郎 ct",
        "ﾔﾏﾀﾞ",
        "やまだ",
        "pid-4711",
        "acc-77",
        "o'brien",
        "ＣＴ",
        "thor mull",
        "zwerchf",
        "rchfel",
        "2026-01",
        "unread",
        "肺",
        "肺結節",
        "t2",
    ],
)
def test_a_study_is_found_by_words_of_both_sides_in_any_spelling(engine: Engine, text: str) -> None:
    identity = PatientIdentity(
        "Müller^José=山田^太郎=ヤマダ^タロウ", "PID-4711", "19700101", "M", "ACC-77", "O'Brien^Ann"
    )
    insert_study(engine, identity=identity, description="Zwerchfell 肺結節 T2")
    insert_study(engine, "1.2.9", "1.2.9.1", identity=PatientIdentity("Other^One", "8"), description="Knee")
    browse.set_status(engine, "1.2.9", "reviewed")
    assert STUDY_UID in found(engine, text)
    assert STUDY_UID not in found(engine, f"{text} knee")


def test_words_that_name_the_patient_are_not_in_the_index_but_are_found(engine: Engine) -> None:
    identity = PatientIdentity("Zzcanary^Maria=山田^太郎", "ZZ-4711", "19700101", "F", "ACC77", "Weiss^Jo")
    insert_study(
        engine,
        identity=identity,
        description="Thorax MARIA zzcanary-nachsorge 山田様 zz-4711 Dr.Weiss 0171-234567",
    )
    words = words_in_index(engine)
    for mark in ("maria", "zzcanary", "山田", "4711", "weiss", "0171", "19700101"):
        assert mark not in words
    assert "thorax" in words
    for text in ("nachsorge", "maria", "0171-234567", "様", "weiss"):
        assert found(engine, text) == [STUDY_UID]


def test_search_words_know_every_spelling_of_a_name() -> None:
    study = StudySummary("1.2", "P-ABCDEFGH", "Muller mueller MÜLLER mull thorax an", ("CT",), "unread")
    words = search_words(study, PatientIdentity("Müller^An")).split()
    assert words == ["p-abcdefgh", "thorax", "unread"]


def test_quotes_and_signs_of_a_query_are_only_characters(engine: Engine) -> None:
    insert_study(engine, description='a "quoted" text* OR')
    assert found(engine, '"quoted"') == [STUDY_UID]
    for text in ('"', "*", "text*", "thorax OR knee", "NEAR(", "'; DROP TABLE study", "%", "_"):
        found(engine, text)
    assert found(engine, "%") == []
    assert found(engine, "   ") == [STUDY_UID]


def test_a_list_is_narrowed_by_each_field(engine: Engine) -> None:
    now = datetime.now(UTC)
    for number, days in enumerate((0, 3, 400)):
        insert_study(
            engine,
            f"1.2.{number}",
            f"1.2.{number}.1",
            imported_utc=(now - timedelta(days=days)).isoformat(timespec="milliseconds"),
        )
    browse.set_status(engine, "1.2.1", "reviewed")
    browse.add_tag(engine, "1.2.2", "Teaching")
    results.store_result(engine, model_result("r1", "1.2.2", "1.2.2.1"))
    assert found(engine) == ["1.2.0", "1.2.1", "1.2.2"]
    assert found(engine, statuses=("reviewed",)) == ["1.2.1"]
    assert found(engine, statuses=("reviewed", "unread")) == ["1.2.0", "1.2.1", "1.2.2"]
    assert found(engine, tags=("teaching",)) == ["1.2.2"]
    assert found(engine, modalities=("ct",), text="thorax", tags=("TEACHING",)) == ["1.2.2"]
    assert found(engine, modalities=("MR",)) == []
    assert found(engine, waiting_only=True) == ["1.2.2"]
    assert found(engine, imported_within_days=0) == ["1.2.0"]
    assert found(engine, imported_within_days=7) == ["1.2.0", "1.2.1"]
    assert found(engine, since="2026-01", until="2026-01") == ["1.2.0", "1.2.1", "1.2.2"]
    assert found(engine, since="2026-02") == []
    assert found(engine, until="2025-12") == []


def test_a_study_without_date_is_in_no_span_of_months(engine: Engine) -> None:
    insert_study(engine)
    with engine.unit_of_work() as uow:
        uow.session.connection().exec_driver_sql("UPDATE study SET study_year_month = ''")
        uow.studies.touch(STUDY_UID)
    assert found(engine) == [STUDY_UID]
    assert found(engine, until="2030-01") == []
    assert found(engine, since="1990-01") == []


def test_results_wait_until_each_finding_has_a_verdict(engine: Engine) -> None:
    insert_study(engine)
    insert_study(engine, "1.2.9", "1.2.9.1")
    results.store_result(engine, model_result("r1"))
    results.store_result(engine, model_result("r2"))
    results.store_result(engine, model_result("r3", findings=0))
    assert browse.waiting_counts(engine) == {STUDY_UID: 2}
    record_decision(engine, "r1", "f1", "accept")
    record_decision(engine, "r1", "f1", "reject")
    assert browse.study_line(engine, STUDY_UID).waiting == 2
    record_decision(engine, "r1", "f2", "accept")
    assert browse.study_line(engine, STUDY_UID).waiting == 1
    assert browse.study_line(engine, "1.2.9").waiting == 0


def test_priors_are_the_other_studies_of_the_same_patient(engine: Engine) -> None:
    same = PatientIdentity("Name^Changed", "PID-4711", "19700101")
    other_birth = PatientIdentity("Planted^Name", "PID-4711", "19800101")
    insert_study(engine)
    insert_study(engine, "1.2.1", "1.2.1.1", identity=same, imported_utc="2026-01-03T00:00:00.000+00:00")
    insert_study(engine, "1.2.2", "1.2.2.1", identity=PatientIdentity("Planted^Name", "PID-4711"))
    insert_study(engine, "1.2.3", "1.2.3.1", identity=other_birth)
    insert_study(engine, "1.2.4", "1.2.4.1", identity=PatientIdentity("Someone^Else", "PID-1"))
    assert [line.study_uid for line in browse.priors_of(engine, STUDY_UID)] == ["1.2.1", "1.2.2"]
    assert browse.priors_of(engine, "1.2.4") == []


def test_a_colliding_pseudonym_makes_no_prior(engine: Engine) -> None:
    insert_study(engine)
    insert_study(engine, "1.2.1", "1.2.1.1", identity=PatientIdentity("Someone^Else", "PID-1"))
    with engine.unit_of_work() as uow:
        pseudonym = uow.studies.get(STUDY_UID).pseudonym
        uow.session.connection().exec_driver_sql(f"UPDATE study SET pseudonym = '{pseudonym}'")
        uow.meta.next_revision()
    assert browse.priors_of(engine, STUDY_UID) == []


def test_opening_a_series_begins_the_reading(engine: Engine) -> None:
    insert_study(engine)
    assert browse.note_opened(engine, STUDY_UID).studies == {STUDY_UID}
    assert browse.study_line(engine, STUDY_UID).status is ReadStatus.IN_PROGRESS
    assert not browse.note_opened(engine, STUDY_UID).studies
    browse.set_status(engine, STUDY_UID, ReadStatus.REVIEWED)
    assert not browse.note_opened(engine, STUDY_UID).studies
    assert browse.study_line(engine, STUDY_UID).status is ReadStatus.REVIEWED
    assert not browse.note_opened(engine, "1.2").studies
    codes = [r.event_code for r in verify_audit.list_events(engine)]
    assert codes.count("study-status") == 2
    assert found(engine, "reviewed") == [STUDY_UID]


def test_tags_are_put_found_and_taken_off(engine: Engine) -> None:
    insert_study(engine)
    insert_study(engine, "1.2.9", "1.2.9.1")
    assert browse.add_tag(engine, STUDY_UID, "  Tumour \n board ").studies
    browse.add_tag(engine, "1.2.9", "TUMOUR BOARD")
    browse.add_tag(engine, "1.2.9", "urgent")
    assert not browse.add_tag(engine, "1.2.9", "Tumour board").studies
    assert browse.all_tags(engine) == ("Tumour board", "urgent")
    assert browse.study_line(engine, "1.2.9").tags == ("Tumour board", "urgent")
    assert set(found(engine, "tumour")) == {STUDY_UID, "1.2.9"}
    assert browse.remove_tag(engine, STUDY_UID, "Tumour board").studies
    assert not browse.remove_tag(engine, STUDY_UID, "Tumour board").studies
    assert found(engine, "tumour") == ["1.2.9"]
    events = [r.action for r in verify_audit.list_events(engine) if r.event_code == "study-tag"]
    assert events == ["C", "C", "C", "D"]


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        ("", "tags.invalid"),
        (" \u200b ", "tags.invalid"),
        ("x" * 41, "tags.invalid"),
        ("planted follow-up", "tags.identity"),
        ("see PID-4711", "tags.identity"),
        ("call 0171234", "tags.identity"),
    ],
)
def test_a_tag_that_may_name_the_patient_is_refused(engine: Engine, tag: str, code: str) -> None:
    insert_study(engine)
    with pytest.raises(InputError) as caught:
        browse.add_tag(engine, STUDY_UID, tag)
    assert caught.value.code == code
    assert browse.all_tags(engine) == ()


def test_unknown_studies_are_refused(engine: Engine) -> None:
    for act in (
        lambda: browse.add_tag(engine, "1.2", "urgent"),
        lambda: browse.set_status(engine, "1.2", "unread"),
        lambda: browse.priors_of(engine, "1.2"),
    ):
        with pytest.raises(InputError) as caught:
            act()
        assert caught.value.code == "library.unknown_study"


def test_filters_are_saved_sealed_under_their_name(engine: Engine) -> None:
    wanted = StudyFilter(text="Zzcanary", modalities=("CT",), statuses=("unread",), imported_within_days=7)
    browse.save_filter(engine, "Zzcanary’s studies", StudyFilter())
    saved = browse.save_filter(engine, "ZZCANARY’s studies", wanted)
    other = browse.save_filter(engine, " my  list ", StudyFilter(waiting_only=True))
    assert browse.saved_filters(engine) == [other, saved]
    assert (saved.filter, other.name) == (wanted, "my list")
    with engine.library.sql.connect() as connection:
        rows = connection.exec_driver_sql("SELECT filter_id, sealed FROM saved_filter").all()
    assert "anary" not in repr(rows)
    assert browse.delete_filter(engine, "MY LIST")
    assert browse.delete_filter(engine, saved.filter_id)
    assert not browse.delete_filter(engine, "my list")
    assert browse.saved_filters(engine) == []
    for name in (" ", "x" * 81):
        with pytest.raises(InputError):
            browse.save_filter(engine, name, wanted)


def test_a_search_is_counted_in_the_trail_without_its_words(engine: Engine) -> None:
    insert_study(engine)
    found(engine, "planted")
    found(engine, "planted na")
    (record,) = [r for r in verify_audit.list_events(engine) if r.event_code == "110112"]
    assert '"hits":1' in record.detail_json
    assert "planted" not in repr(record)
