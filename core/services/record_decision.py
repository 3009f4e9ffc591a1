"""A reader's verdict on a finding."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from pathlib import Path

from core.config.sealed_file import open_plain, write_kept
from core.domain.audit import AuditCode
from core.domain.changes import OperationChanges
from core.domain.errors import EnvironmentFault, InputError
from core.domain.result import Decision, Verdict
from core.services.engine import Engine

REASON_LIMIT = 2000
_MASK_SUFFIXES = (".nii.gz", ".nii")


def record_decision(
    engine: Engine,
    result_id: str,
    finding_id: str,
    verdict: Verdict | str,
    reason: str = "",
    mask_file: Path | None = None,
) -> tuple[Decision, OperationChanges]:
    """Record a verdict; it is on disk, with its audit record in the same transaction, when this returns.

    A later verdict on the same finding supersedes the earlier one, which is kept.

    Parameters
    ----------
    verdict : Verdict or str
        ``"accept"``, ``"reject"``, ``"edit"`` or ``"unsure"``.
    reason : str
        Free text, kept sealed; at most 2000 characters.
    mask_file : pathlib.Path or None
        Corrected label map (NIfTI) of an edit; copied into the result's folder.

    Raises
    ------
    InputError
        For an unknown verdict, result or finding, a reason that is too long, or a mask that isn't NIfTI.
    AppError
        If it can't be written; then nothing was recorded.
    """
    chosen = _verdict(verdict)
    if len(reason) > REASON_LIMIT:
        raise InputError(
            "decisions.reason_too_long",
            f"A reason has at most {REASON_LIMIT} characters.",
            "Shorten the reason.",
        )
    decision_id = uuid.uuid4().hex
    with engine.unit_of_work(writes=False) as uow:
        result = uow.results.get(result_id)
        finding = uow.findings.get(result_id, finding_id)
    if result is None:
        raise InputError("results.unknown", f"There is no result {result_id}.", "Run the model again.")
    if finding is None:
        raise InputError(
            "decisions.unknown_finding",
            f"Result {result_id} has no finding {finding_id}.",
            "Use an identifier from the result's list of findings.",
        )
    mask = _keep_mask(engine, result_id, decision_id, mask_file) if mask_file else None
    decided = datetime.now(UTC).isoformat(timespec="milliseconds")
    decision = Decision(decision_id, result_id, finding_id, chosen, engine.actor, decided, reason, mask)
    with engine.unit_of_work() as uow:
        uow.decisions.add(decision)
        uow.studies.touch(result.study_uid)
        engine.record(
            AuditCode.DECISION,
            action="C",
            object_kind="study",
            object_ref=result.study_uid,
            n_objects=1,
            detail={
                "decision_id": decision_id,
                "result_id": result_id,
                "finding_id": finding_id,
                "verdict": str(chosen),
                "reason_given": bool(reason),
                "with_mask": mask is not None,
            },
        )
    changes = OperationChanges(
        studies=frozenset({result.study_uid}),
        results=frozenset({result_id}),
        decisions=frozenset({decision_id}),
        audit=True,
    )
    return decision, changes


def _verdict(verdict: Verdict | str) -> Verdict:
    try:
        return Verdict(verdict)
    except ValueError as error:
        raise InputError(
            "decisions.unknown_verdict", "There is no such verdict.", "Use accept, reject, edit or unsure."
        ) from error


def _keep_mask(engine: Engine, result_id: str, decision_id: str, mask_file: Path) -> str:
    """Copy a mask under a name of ours; returns its path relative to the result's folder."""
    suffix = next((s for s in _MASK_SUFFIXES if mask_file.name.lower().endswith(s)), "")
    if not suffix:
        raise InputError(
            "decisions.mask_format", "The mask isn't a NIfTI file.", "Give a .nii or .nii.gz file."
        )
    relative = f"masks/{decision_id}{suffix}"
    try:
        with open_plain(mask_file) as stream:
            write_kept(engine.paths.results / result_id / relative, stream.read())
    except FileNotFoundError as error:
        raise InputError("decisions.mask_missing", "The mask file isn't there.", "Check the path.") from error
    except OSError as error:
        raise EnvironmentFault(
            "decisions.mask_not_kept",
            f"The mask can't be copied ({error.strerror or type(error).__name__}).",
            "Free space on the disk of the data folder.",
        ) from error
    return relative
