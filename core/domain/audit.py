"""What the audit trail holds: events as services state them, records as the chain keeps them.

Source: DICOM PS3.15 A.5 and PS3.16 CID 400 and 401 for the codes; own events carry the scheme ``99OVERREAD``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum


class AuditCode(StrEnum):
    """Which kind of event. Numbers are DCM codes, words are ours."""

    APPLICATION_START = "110120"
    APPLICATION_STOP = "110121"
    AUDIT_LOG_USED = "110101"
    INSTANCES_ACCESSED = "110103"
    STUDY_DELETED = "110105"
    EXPORT = "110106"
    IMPORT = "110107"
    QUERY = "110112"
    SECURITY_ALERT = "110113"
    SECURITY_CONFIGURATION = "110129"
    SOFTWARE_CONFIGURATION = "110131"
    MODEL_RUN = "model-run"
    MODEL_EXPLANATION = "model-explanation"
    MODEL_SELFTEST = "model-selftest"
    MODEL_ADDED = "model-added"
    MODEL_REMOVED = "model-removed"
    DECISION = "decision"
    STUDY_STATUS = "study-status"
    STUDY_TAG = "study-tag"
    RETENTION_RULE = "retention-rule"
    RETENTION_APPLIED = "retention-applied"
    LIBRARY_BACKUP = "library-backup"
    LIBRARY_RESTORED = "library-restored"
    LIBRARY_CHECK = "library-check"
    READ_FIRST = "read-first"
    JOB_FAILED = "job-failed"
    TRAINING_STARTED = "training-started"
    TRAINING_FINISHED = "training-finished"
    TRAINING_CANCELLED = "training-cancelled"
    TRAINING_REFUSED = "training-refused"
    CANDIDATE_EVALUATED = "candidate-evaluated"
    MODEL_PROMOTED = "model-promoted"
    MODEL_ROLLED_BACK = "model-rolled-back"
    MODEL_REGISTERED = "model-registered"
    MODEL_ALIAS = "model-alias"


class AuditOutcome(IntEnum):
    """How an event ended. Source: RFC 3881 section 5.1.4."""

    SUCCESS = 0
    MINOR_FAILURE = 4
    SERIOUS_FAILURE = 8
    MAJOR_FAILURE = 12


@dataclass(frozen=True)
class AuditEvent:
    """One event before it enters the chain.

    Attributes
    ----------
    action : str
        C, R, U, D or E (create, read, update, delete, execute).
    object_kind : str
        ``"study"``, ``"series"``, ``"result"``, ``"model"``, ``"job"`` or empty.
    object_ref : str
        Never an identifier of the patient: a keyed hash of the UID, or an identifier of ours.
    detail : mapping
        Keys from the allow-list of ``core.audit.detail``; short values free of identity.
    """

    code: AuditCode
    action: str = "E"
    object_kind: str = ""
    object_ref: str = ""
    n_objects: int = 0
    detail: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    outcome: AuditOutcome = AuditOutcome.SUCCESS
    reason: str = ""


@dataclass(frozen=True)
class AuditRecord:
    """One row of the chain, without its hashes. ``detail_json`` is canonical JSON."""

    seq: int
    ts_utc: str
    mono_ns: int
    boot_id: str
    user_id: str
    os_user: str
    role: str
    session_id: str
    host: str
    app_version: str
    process: str
    event_code: str
    event_type: str
    action: str
    object_kind: str
    object_ref: str
    n_objects: int
    detail_json: str
    outcome: int
    reason: str


@dataclass(frozen=True)
class AuditVerification:
    """Outcome of a check of the whole chain.

    ``first_bad_seq`` is the first record that is wrong or missing, None when all is well; ``reason`` says
    what is wrong with it; ``anchors`` counts the signed heads that were checked.
    """

    events: int
    ok: bool
    first_bad_seq: int | None = None
    reason: str = ""
    anchors: int = 0
