"""A library as the first schema kept it: real rows, sealed by the vault, under a real audit chain."""

from __future__ import annotations

import json
from pathlib import Path

from sqlalchemy import text

from core.audit.log import AuditContext
from core.config.keys import KeyStore
from core.config.paths import Paths
from core.config.settings import Settings
from core.domain.browse import StudyFilter
from core.domain.result import Decision, Verdict
from core.domain.study import PatientIdentity, ReadStatus
from core.library import schema
from core.library.database import open_library
from core.library.files import stored_text
from core.library.repositories.meta import INSTALLATION, KEY_CHECK, REVISION
from core.services import browse, list_studies, results, verify_audit
from core.services.engine import Engine
from tests.fakes.engines import CT_IMAGE, model_result

OLD_STATUSES = ("new", "reading", "unsure", "read", "reviewed", "dictated")
NEW_STATUSES = ("unread", "in_progress", "in_progress", "reviewed", "reviewed", "reviewed")
FIRST_STUDY = "1.2.826.0.1.3680043.10.50.0"
INSTALLATION_ID = "f1" * 16


def identity_of(number: int) -> PatientIdentity:
    """Return who the patient of a study is; every two studies share one."""
    return PatientIdentity(
        f"Älter^Anna{number // 2}=山田^花子", f"PID-{number // 2}", "19700101", "F", f"ACC{number}"
    )


def write_first_schema(home: Path) -> None:
    """Make a home with six studies, one per former status, a result and verdicts on the first of them."""
    paths = Paths.resolve(home)
    paths.create()
    keys = KeyStore.open(paths.keys)
    library = open_library(paths.database, keys.derive("database"))
    schema.upgrade(library, "0001")
    engine = Engine(paths, Settings(), keys, library, "reader")
    engine.installation = INSTALLATION_ID
    with engine.unit_of_work() as uow:
        uow.meta.set(INSTALLATION, INSTALLATION_ID)
        uow.meta.set(KEY_CHECK, engine.vault.reference("key check"))
        uow.meta.set(REVISION, "6")
    engine.start_audit(AuditContext.of_process("reader", "reader", "reader", "0" * 16, "0.1.0"))
    for number, status in enumerate(OLD_STATUSES):
        _write_study(engine, number, status)
    _write_result(engine)
    engine.close()


def study_uid(number: int) -> str:
    """Return the UID of a study."""
    return FIRST_STUDY[:-1] + str(number)


def assert_everything_is_kept(engine: Engine) -> None:
    """Say that the migrated library holds what ``write_first_schema`` wrote, mapped to the second schema."""
    lines = {line.study_uid: line for line in browse.study_lines(engine)}
    assert len(lines) == len(OLD_STATUSES)
    for number, status in enumerate(NEW_STATUSES):
        line = lines[study_uid(number)]
        assert line.status is ReadStatus(status)
        assert line.identity == identity_of(number)
        assert (line.modalities, line.series_count, line.instance_count) == (("CT", "PT"), 2, 4)
        assert (line.has_issues, line.body_parts, line.study_date) == (True, ("CHEST",), "2025-03")
        first, second = browse.series_of(engine, line.study_uid)
        assert (first.description, second.description) == ("Nativ dünn", "PET corr")
        assert (first.time_points, first.view, first.source_series) == (1, "", ())
        assert first.issues[0].message == "Odd."
        summary, instances = list_studies.get_series(engine, first.key)
        assert summary == first
        assert [ref.file.name for ref in instances] == [f"{first.key}.0.dcm", f"{first.key}.1.dcm"]
    decision = results.decisions_for(engine, "r1")["f1"]
    assert (decision.reason, decision.verdict) == ("Clear.", "accept")
    assert lines[study_uid(0)].waiting == 1
    found = browse.study_lines(engine, StudyFilter(text="nativ 山田"))
    assert len(found) == len(OLD_STATUSES)
    assert verify_audit.verify(engine).ok


def _write_study(engine: Engine, number: int, status: str) -> None:
    uid = study_uid(number)
    vault, identity = engine.vault, identity_of(number)
    with engine.unit_of_work() as uow:
        run = uow.session.connection().execute
        run(
            text(
                "INSERT INTO study (study_uid, pseudonym, sealed_description, study_year_month, status,"
                " imported_utc, revision) VALUES (:uid, :pseudonym, :description, '2025-03', :status, :at, 1)"
            ),
            {
                "uid": uid,
                "pseudonym": vault.pseudonym(identity, uid),
                "description": vault.seal_text(f"description/{uid}", f"CT thorax Anna{number // 2}"),
                "status": status,
                "at": f"2026-01-0{number + 1}T03:04:05.000+00:00",
            },
        )
        run(
            text("INSERT INTO identity_vault (study_uid, sealed) VALUES (:uid, :sealed)"),
            {"uid": uid, "sealed": vault.seal_identity(uid, identity)},
        )
        for position in range(2):
            key = f"{uid}.{position}"
            run(
                text(
                    "INSERT INTO series (key, series_uid, study_uid, modality, sealed_description, body_part,"
                    " instances, frames, kind, shape_kji, spacing_kji_mm, regular, issues, series_number,"
                    " axis_codes, lossy, frame_of_reference_uid, source_format) VALUES (:key, :key, :uid, :modality,"
                    " :description, 'CHEST', 2, 2, 'volume', '[2, 8, 8]', '[5.0, 1.0, 1.0]', :yes, :issues, :position,"
                    " 'LPS', :no, '1.2.3', 'dicom')"
                ),
                {
                    "key": key,
                    "uid": uid,
                    "modality": ("CT", "PT")[position],
                    "description": vault.seal_text(
                        f"description/{key}", ("Nativ dünn", "PET corr")[position]
                    ),
                    "issues": json.dumps([{"code": "a.b", "message": "Odd.", "blocks_volumetry": False}]),
                    "position": position + 1,
                    "yes": True,
                    "no": False,
                },
            )
            for k in range(2):
                sop = f"{key}.{k}"
                file = stored_text(engine.paths.instances / f"{sop}.dcm", engine.paths.instances)
                run(
                    text(
                        "INSERT INTO instance (sop_instance_uid, series_key, position, sop_class_uid, sealed_file,"
                        " frames, instance_number, sha256, size, mtime_ns)"
                        " VALUES (:sop, :key, :k, :kind, :file, 1, :k, :sha, 10, 20)"
                    ),
                    {
                        "sop": sop,
                        "key": key,
                        "k": k,
                        "kind": CT_IMAGE,
                        "file": vault.seal_text(f"file/{sop}", file),
                        "sha": "ab" * 32,
                    },
                )


def _write_result(engine: Engine) -> None:
    result = model_result("r1", FIRST_STUDY, f"{FIRST_STUDY}.0")
    with engine.unit_of_work() as uow:
        uow.results.add(result)
        uow.findings.add_all("r1", result.findings)
        uow.decisions.add(
            Decision("d1", "r1", "f1", Verdict.ACCEPT, "reader", "2026-02-03T04:05:06+00:00", "Clear.")
        )
