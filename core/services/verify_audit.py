"""Checks, lists and exports the audit trail."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from core.audit.export import to_csv, to_xml
from core.audit.verify import Witness, verify_chain
from core.config.atomic import atomic_write_bytes
from core.domain.audit import AuditCode, AuditOutcome, AuditRecord, AuditVerification
from core.domain.errors import EnvironmentFault, InputError
from core.services.engine import KEYRING_HEAD, Engine

DEFAULT_LIMIT = 1000


def verify(engine: Engine) -> AuditVerification:
    """Check every record's hash, every anchor's signature and that the end is where it was last seen.

    Reads the whole chain (about 200,000 records per second); call it off the GUI thread. A finding is recorded as a
    security alert, once per process.

    Returns
    -------
    AuditVerification
        ``first_bad_seq`` is the first record that is wrong or missing.
    """
    witnesses = _witnesses(engine)
    with engine.unit_of_work(writes=False) as uow:
        outcome = verify_chain(uow.audit, engine.audit_key, engine.signer, witnesses)
    if not outcome.ok and engine.once("audit-alert"):
        engine.record(
            AuditCode.SECURITY_ALERT,
            object_kind="log",
            detail={"first_bad_seq": outcome.first_bad_seq or 0, "events": outcome.events},
            outcome=AuditOutcome.SERIOUS_FAILURE,
            reason="audit.chain_broken",
        )
    return outcome


def list_events(
    engine: Engine, since: str | None = None, limit: int = DEFAULT_LIMIT, *, newest_first: bool = False
) -> list[AuditRecord]:
    """Return records at or after ``since`` (ISO 8601, UTC), at most ``limit``.

    Looking into the trail is itself recorded, once per process.
    """
    if engine.once("audit-read"):
        engine.record(AuditCode.AUDIT_LOG_USED, action="R", object_kind="log")
    with engine.unit_of_work(writes=False) as uow:
        return uow.audit.records(since or "", limit, newest_first)


def export_events(
    engine: Engine, as_: Literal["xml", "csv"] | str, out: Path, *, since: str | None = None
) -> int:
    """Write the trail to a file; the export is recorded first, and fails when that fails.

    Returns
    -------
    int
        Number of records written.

    Raises
    ------
    InputError
        If ``as_`` is neither ``"xml"`` nor ``"csv"`` (``audit.export_format``).
    EnvironmentFault
        If the file can't be written (``audit.export_failed``).
    """
    if as_ not in ("xml", "csv"):
        raise InputError("audit.export_format", f"There is no audit export as “{as_}”.", "Use xml or csv.")
    engine.record(AuditCode.AUDIT_LOG_USED, action="R", object_kind="log", detail={"as": as_})
    with engine.unit_of_work(writes=False) as uow:
        records = uow.audit.records(since or "")
    source = f"overread-{engine.installation[:12]}"
    data = to_xml(records, source) if as_ == "xml" else to_csv(records).encode("utf-8")
    try:
        atomic_write_bytes(out, data)
    except OSError as error:
        raise EnvironmentFault(
            "audit.export_failed",
            f"The audit export can't be written ({error.strerror or type(error).__name__}).",
            "Choose another folder or free space.",
        ) from error
    return len(records)


def _witnesses(engine: Engine) -> list[Witness]:
    head_file = engine.head_file
    found = [Witness("keys/audit.head", head_file.read())]
    remembered = engine.keys.recall(KEYRING_HEAD)
    if remembered is not None:
        found.append(Witness("the keyring", head_file.decode(remembered)))
    return found
