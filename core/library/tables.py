"""Tables of the index.

Pseudonymised metadata only. Identity, file paths and free text are sealed by the vault before they get here
(columns ``sealed_…``), so that they are unreadable on PostgreSQL too, where no SQLCipher lies below.
Times are ISO 8601 text in UTC.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import BigInteger

UID = String(80)
TIME = String(40)
NOT_COUNTED = -1


class Base(DeclarativeBase):
    """Declarative base; constraint names are fixed so that migrations can name them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class MetaRow(Base):
    """Facts about the library itself: installation, key check, revision."""

    __tablename__ = "meta"
    key: Mapped[str] = mapped_column(String(40), primary_key=True)
    value: Mapped[str] = mapped_column(Text)


class StudyRow(Base):
    """One study, with what its series sum up to, so that a list of studies reads no series.

    ``number`` is the row of the search table. ``series_count`` is -1 until the sums are made (see
    ``StudyRepository.recount``); ``modalities`` and ``body_parts`` are parted by backslashes, as DICOM does.
    """

    __tablename__ = "study"
    study_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    pseudonym: Mapped[str] = mapped_column(String(32), index=True)
    sealed_description: Mapped[bytes] = mapped_column(LargeBinary)
    study_year_month: Mapped[str] = mapped_column(String(7), default="")
    status: Mapped[str] = mapped_column(String(20), default="unread")
    imported_utc: Mapped[str] = mapped_column(TIME)
    revision: Mapped[int] = mapped_column(BigInteger, default=0, index=True)
    number: Mapped[int] = mapped_column(BigInteger, unique=True, index=True)
    modalities: Mapped[str] = mapped_column(Text, default="")
    body_parts: Mapped[str] = mapped_column(Text, default="")
    series_count: Mapped[int] = mapped_column(default=NOT_COUNTED)
    instance_count: Mapped[int] = mapped_column(default=0)
    frame_count: Mapped[int] = mapped_column(default=0)
    issue_count: Mapped[int] = mapped_column(default=0)


class TagRow(Base):
    """A word that readers put on a study; checked to be none of the patient's identity."""

    __tablename__ = "study_tag"
    study_uid: Mapped[str] = mapped_column(
        UID, ForeignKey("study.study_uid", ondelete="CASCADE"), primary_key=True
    )
    tag: Mapped[str] = mapped_column(String(64), primary_key=True)


class IdentityRow(Base):
    """Who the patient of a study is: one sealed record, bound to the study's UID."""

    __tablename__ = "identity_vault"
    study_uid: Mapped[str] = mapped_column(
        UID, ForeignKey("study.study_uid", ondelete="CASCADE"), primary_key=True
    )
    sealed: Mapped[bytes] = mapped_column(LargeBinary)


class SeriesRow(Base):
    """One displayable series (``key``); several share a ``series_uid`` when a series had to be split."""

    __tablename__ = "series"
    key: Mapped[str] = mapped_column(String(100), primary_key=True)
    series_uid: Mapped[str] = mapped_column(UID, index=True)
    study_uid: Mapped[str] = mapped_column(UID, ForeignKey("study.study_uid", ondelete="CASCADE"), index=True)
    modality: Mapped[str] = mapped_column(String(16))
    sealed_description: Mapped[bytes] = mapped_column(LargeBinary)
    body_part: Mapped[str] = mapped_column(String(64), default="")
    instances: Mapped[int]
    frames: Mapped[int]
    kind: Mapped[str] = mapped_column(String(16))
    shape_kji: Mapped[list[int] | None] = mapped_column(JSON)
    spacing_kji_mm: Mapped[list[float] | None] = mapped_column(JSON)
    regular: Mapped[bool]
    issues: Mapped[list[dict[str, object]]] = mapped_column(JSON)
    series_number: Mapped[int | None] = mapped_column(BigInteger)
    axis_codes: Mapped[str] = mapped_column(String(3), default="")
    lossy: Mapped[bool] = mapped_column(default=False)
    frame_of_reference_uid: Mapped[str | None] = mapped_column(UID)
    source_format: Mapped[str] = mapped_column(String(16), default="dicom")
    time_points: Mapped[int] = mapped_column(default=1)
    dimension: Mapped[str] = mapped_column(String(32), default="")
    view: Mapped[str] = mapped_column(String(32), default="")
    object_kind: Mapped[str] = mapped_column(String(16), default="")
    source_series: Mapped[list[str]] = mapped_column(JSON, default=list)


class InstanceRow(Base):
    """One file. ``position`` is its place in the series; ``size`` and ``mtime_ns`` recognise a changed file."""

    __tablename__ = "instance"
    sop_instance_uid: Mapped[str] = mapped_column(UID, primary_key=True)
    series_key: Mapped[str] = mapped_column(
        String(100), ForeignKey("series.key", ondelete="CASCADE"), index=True
    )
    position: Mapped[int]
    sop_class_uid: Mapped[str] = mapped_column(UID)
    sealed_file: Mapped[bytes] = mapped_column(LargeBinary)
    frames: Mapped[int]
    instance_number: Mapped[int | None] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64), default="")
    size: Mapped[int] = mapped_column(BigInteger)
    mtime_ns: Mapped[int] = mapped_column(BigInteger)


class ConflictRow(Base):
    """A file whose SOP Instance UID the library knows with other content. The path is sealed."""

    __tablename__ = "conflict"
    conflict_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    sop_instance_uid: Mapped[str] = mapped_column(UID, index=True)
    study_uid: Mapped[str] = mapped_column(UID, index=True)
    sealed_file: Mapped[bytes] = mapped_column(LargeBinary)
    sha256: Mapped[str] = mapped_column(String(64), default="")
    seen_utc: Mapped[str] = mapped_column(TIME)


class QuarantineRow(Base):
    """A file that couldn't be imported and why. The path is sealed; ``kept`` says that the library has a copy."""

    __tablename__ = "quarantine"
    file_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    sealed_file: Mapped[bytes] = mapped_column(LargeBinary)
    code: Mapped[str] = mapped_column(String(64))
    message: Mapped[str] = mapped_column(Text)
    seen_utc: Mapped[str] = mapped_column(TIME)
    kept: Mapped[bool] = mapped_column(default=False)


class SavedFilterRow(Base):
    """A filter of the browser, name and all sealed: readers save what they searched for, names too."""

    __tablename__ = "saved_filter"
    filter_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    sealed: Mapped[bytes] = mapped_column(LargeBinary)


class RetentionRuleRow(Base):
    """A rule by which studies leave the library; ``document`` is the RetentionRule as JSON."""

    __tablename__ = "retention_rule"
    name: Mapped[str] = mapped_column(String(80), primary_key=True)
    document: Mapped[str] = mapped_column(Text)


class ResultRow(Base):
    """One run of a model on a series. ``document`` is the ModelResult as JSON."""

    __tablename__ = "result"
    result_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID, ForeignKey("study.study_uid", ondelete="CASCADE"), index=True)
    series_uid: Mapped[str] = mapped_column(String(100), index=True)
    model_id: Mapped[str] = mapped_column(String(128))
    created_utc: Mapped[str] = mapped_column(TIME)
    document: Mapped[str] = mapped_column(Text)
    segment_definitions: Mapped[str] = mapped_column(Text, default="[]")
    grid: Mapped[str] = mapped_column(Text, default="")
    label_map_sha256: Mapped[str] = mapped_column(String(64), default="")


class FindingRow(Base):
    """One finding of a result, in the order of the result."""

    __tablename__ = "finding"
    result_id: Mapped[str] = mapped_column(
        String(64), ForeignKey("result.result_id", ondelete="CASCADE"), primary_key=True
    )
    finding_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    position: Mapped[int]
    document: Mapped[str] = mapped_column(Text)


class DecisionRow(Base):
    """One verdict; later ones on the same finding supersede, none is overwritten."""

    __tablename__ = "decision"
    decision_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, unique=True)
    result_id: Mapped[str] = mapped_column(
        String(64), ForeignKey("result.result_id", ondelete="CASCADE"), index=True
    )
    finding_id: Mapped[str] = mapped_column(String(64))
    verdict: Mapped[str] = mapped_column(String(16))
    reader: Mapped[str] = mapped_column(String(128))
    decided_utc: Mapped[str] = mapped_column(TIME)
    sealed_reason: Mapped[bytes] = mapped_column(LargeBinary)
    mask_file: Mapped[str | None] = mapped_column(String(200))


class ExplanationRow(Base):
    """One heat map of a result; the array lies in the result's folder."""

    __tablename__ = "explanation"
    explanation_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    result_id: Mapped[str] = mapped_column(
        String(64), ForeignKey("result.result_id", ondelete="CASCADE"), index=True
    )
    created_utc: Mapped[str] = mapped_column(TIME)
    document: Mapped[str] = mapped_column(Text)
    file: Mapped[str] = mapped_column(String(200))
    file_sha256: Mapped[str] = mapped_column(String(64))


class JobRow(Base):
    """One job of the persistent queue."""

    __tablename__ = "job"
    job_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, unique=True)
    kind: Mapped[str] = mapped_column(String(32))
    title: Mapped[str] = mapped_column(String(200))
    state: Mapped[str] = mapped_column(String(16), index=True)
    payload: Mapped[str] = mapped_column(Text)
    error: Mapped[str | None] = mapped_column(Text)
    result_id: Mapped[str | None] = mapped_column(String(64))
    created_utc: Mapped[str] = mapped_column(TIME)
    updated_utc: Mapped[str] = mapped_column(TIME)


class TrainingRunRow(Base):
    """One training. ``document`` is the TrainingRun as JSON; ``trained_sha256`` the digest of the bundle it made."""

    __tablename__ = "training_run"
    run_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, unique=True)
    model_id: Mapped[str] = mapped_column(String(128), index=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    document: Mapped[str] = mapped_column(Text)
    trained_sha256: Mapped[str] = mapped_column(String(64), default="")
    created_utc: Mapped[str] = mapped_column(TIME)
    updated_utc: Mapped[str] = mapped_column(TIME)


class TrainingCaseRow(Base):
    """One case of a training; ``document`` says where its labels come from. Gone with its study."""

    __tablename__ = "training_case"
    run_id: Mapped[str] = mapped_column(
        String(64), ForeignKey("training_run.run_id", ondelete="CASCADE"), primary_key=True
    )
    case_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    study_uid: Mapped[str] = mapped_column(UID, ForeignKey("study.study_uid", ondelete="CASCADE"), index=True)
    series_key: Mapped[str] = mapped_column(String(100))
    result_id: Mapped[str] = mapped_column(String(64))
    patient: Mapped[str] = mapped_column(String(32))
    part: Mapped[str] = mapped_column(String(16))
    document: Mapped[str] = mapped_column(Text)


class FrozenPatientRow(Base):
    """Which side of a model's split a patient (pseudonym) is on, for good."""

    __tablename__ = "frozen_patient"
    model_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    patient: Mapped[str] = mapped_column(String(32), primary_key=True)
    part: Mapped[str] = mapped_column(String(16))
    assigned_utc: Mapped[str] = mapped_column(TIME)


class CandidateRow(Base):
    """One trained model with its comparison; ``document`` is the Candidate as JSON."""

    __tablename__ = "candidate"
    candidate_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, unique=True)
    run_id: Mapped[str] = mapped_column(String(64))
    model_id: Mapped[str] = mapped_column(String(128), index=True)
    version: Mapped[str] = mapped_column(String(64))
    bundle_sha256: Mapped[str] = mapped_column(String(64))
    state: Mapped[str] = mapped_column(String(16))
    document: Mapped[str] = mapped_column(Text)
    created_utc: Mapped[str] = mapped_column(TIME)


class PromotionRow(Base):
    """One change of a model's version in use. Folders are relative to the home; empty: as shipped or added."""

    __tablename__ = "promotion"
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    model_id: Mapped[str] = mapped_column(String(128), index=True)
    action: Mapped[str] = mapped_column(String(16))
    candidate_id: Mapped[str] = mapped_column(String(64), default="")
    from_version: Mapped[str] = mapped_column(String(64))
    from_sha256: Mapped[str] = mapped_column(String(64))
    from_folder: Mapped[str] = mapped_column(String(200))
    to_version: Mapped[str] = mapped_column(String(64))
    to_sha256: Mapped[str] = mapped_column(String(64))
    to_folder: Mapped[str] = mapped_column(String(200))
    done_by: Mapped[str] = mapped_column(String(128))
    sealed_reason: Mapped[bytes] = mapped_column(LargeBinary)
    created_utc: Mapped[str] = mapped_column(TIME)


class CurrentModelRow(Base):
    """The promoted version of a model that is in use; no row: the shipped or added one."""

    __tablename__ = "current_model"
    model_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    version: Mapped[str] = mapped_column(String(64))
    bundle_sha256: Mapped[str] = mapped_column(String(64))
    folder: Mapped[str] = mapped_column(String(200))
    changed_utc: Mapped[str] = mapped_column(TIME)


class EditOverlapRow(Base):
    """Dice between the model's and the reader's mask of an edit, kept because masks are slow to read."""

    __tablename__ = "edit_overlap"
    decision_id: Mapped[str] = mapped_column(
        String(64), ForeignKey("decision.decision_id", ondelete="CASCADE"), primary_key=True
    )
    dice: Mapped[float | None] = mapped_column(Float)


class AuditRow(Base):
    """One record of the audit chain; triggers refuse UPDATE and DELETE."""

    __tablename__ = "audit"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    ts_utc: Mapped[str] = mapped_column(TIME)
    mono_ns: Mapped[int] = mapped_column(BigInteger)
    boot_id: Mapped[str] = mapped_column(String(64))
    user_id: Mapped[str] = mapped_column(String(128))
    os_user: Mapped[str] = mapped_column(String(128))
    role: Mapped[str] = mapped_column(String(32))
    session_id: Mapped[str] = mapped_column(String(32))
    host: Mapped[str] = mapped_column(String(255))
    app_version: Mapped[str] = mapped_column(String(64))
    process: Mapped[str] = mapped_column(String(64))
    event_code: Mapped[str] = mapped_column(String(40))
    event_type: Mapped[str] = mapped_column(String(40))
    action: Mapped[str] = mapped_column(String(1))
    object_kind: Mapped[str] = mapped_column(String(32))
    object_ref: Mapped[str] = mapped_column(String(128))
    n_objects: Mapped[int] = mapped_column(BigInteger)
    detail_json: Mapped[str] = mapped_column(Text)
    outcome: Mapped[int]
    reason: Mapped[str] = mapped_column(String(200))
    prev: Mapped[bytes] = mapped_column(LargeBinary)
    hash: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = (
        CheckConstraint("action IN ('C','R','U','D','E')", name="action"),
        CheckConstraint("outcome IN (0,4,8,12)", name="outcome"),
    )


class AnchorRow(Base):
    """One signed head of the audit chain; triggers refuse UPDATE and DELETE."""

    __tablename__ = "audit_anchor"
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    head: Mapped[bytes] = mapped_column(LargeBinary)
    ts_utc: Mapped[str] = mapped_column(TIME)
    sig: Mapped[bytes] = mapped_column(LargeBinary)
    key_id: Mapped[str] = mapped_column(String(32))


Index("ix_decision_finding", DecisionRow.result_id, DecisionRow.finding_id)

SEARCH = Table("study_search", MetaData(), Column("rowid", BigInteger), Column("words", Text))
"""The searched words of each study: FTS5 on SQLite, a plain table on PostgreSQL. ``rowid`` is ``study.number``.

Apart from ``Base.metadata``, because SQLAlchemy can't describe a virtual table.
"""
