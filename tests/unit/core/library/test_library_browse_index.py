from __future__ import annotations

from pathlib import Path

import pytest

from core.domain.errors import InputError, SafetyError
from core.domain.study import PatientIdentity
from core.services import list_studies, verify_audit
from core.services.engine import open_engine
from tests.fakes.engines import IDENTITY, SERIES_UID, STUDY_UID, insert_study, make_engine


def test_a_search_looks_through_index_and_vault(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        insert_study(engine)
        insert_study(
            engine, "1.2.9", "1.2.9.1", identity=PatientIdentity("Älter^Bo", "X9"), description="Knee"
        )
        pseudonym = list_studies.get_study(engine, STUDY_UID).pseudonym
        for query in (
            "planted name",
            "NAME planted",
            "pid-4711",
            "ct thorax",
            "chest",
            pseudonym,
            "2026-01 acc-1",
        ):
            found = list_studies.list_studies(engine, query)
            assert [s.study_uid for s in found][:1] == [STUDY_UID] or STUDY_UID in [
                s.study_uid for s in found
            ]
        assert [s.study_uid for s in list_studies.list_studies(engine, "älter")] == ["1.2.9"]
        assert list_studies.list_studies(engine, "planted knee") == []
        assert list_studies.list_studies(engine, modality="mr") == []
        assert len(list_studies.list_studies(engine, modality="ct")) == 2


def test_studies_come_newest_first_and_without_identity(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        insert_study(engine, "1.2.8", "1.2.8.1", imported_utc="2025-01-01")
        insert_study(engine, "1.2.9", "1.2.9.1", imported_utc="2026-01-01")
        studies = list_studies.list_studies(engine)
        assert [s.study_uid for s in studies] == ["1.2.9", "1.2.8"]
        assert "Planted" not in repr(studies)
        assert studies[0].modalities == ("CT",)
        assert list_studies.identity_of(engine, "1.2.9") == IDENTITY
        assert list_studies.identities(engine) == {"1.2.8": IDENTITY, "1.2.9": IDENTITY}


def test_the_catalogue_follows_what_another_process_wrote(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine, open_engine(tmp_path / "home") as other:
        insert_study(engine)
        assert len(list_studies.list_studies(other)) == 1
        insert_study(engine, "1.2.9", "1.2.9.1")
        assert len(list_studies.list_studies(other)) == 2
        list_studies.set_status(other, "1.2.9", "reviewed")
        assert list_studies.get_study(engine, "1.2.9").status == "reviewed"
        with other.unit_of_work() as uow:
            uow.session.connection().exec_driver_sql(f"DELETE FROM study WHERE study_uid = '{STUDY_UID}'")
            uow.meta.next_revision()
        assert [s.study_uid for s in list_studies.list_studies(engine)] == ["1.2.9"]


def test_a_series_is_found_by_key_and_by_uid(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        summary = insert_study(engine)
        found, instances = list_studies.get_series(engine, SERIES_UID)
        assert found == summary
        assert [ref.file.name for ref in instances] == ["1.dcm", "2.dcm", "3.dcm"]


def test_unknown_things_are_refused(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        for act in (
            lambda: list_studies.get_series(engine, "1.2"),
            lambda: list_studies.get_study(engine, "1.2"),
            lambda: list_studies.identity_of(engine, "1.2"),
            lambda: list_studies.set_status(engine, "1.2", "reviewed"),
            lambda: list_studies.set_status(engine, STUDY_UID, "lost"),
            lambda: list_studies.thumbnail(engine, "1.2"),
        ):
            with pytest.raises(InputError):
                act()


def test_a_seal_that_does_not_open_undoes_the_change_and_spares_the_trail(tmp_path: Path) -> None:
    with make_engine(tmp_path) as engine:
        insert_study(engine)
        with engine.unit_of_work() as uow:
            uow.session.connection().exec_driver_sql("UPDATE identity_vault SET sealed = x'00'")
        with pytest.raises(SafetyError):
            list_studies.set_status(engine, STUDY_UID, "reviewed")
        assert list_studies.get_study(engine, STUDY_UID).status == "unread"
        engine.record("110106")
        assert verify_audit.verify(engine).ok
