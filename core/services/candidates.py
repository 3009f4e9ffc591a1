"""Trained models beside those in use: stored with their comparison, listed, judged by gates. None acts by itself."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.bundles.digest import bundle_digest
from core.domain.audit import AuditCode, AuditOutcome
from core.domain.errors import AppError, InputError
from core.domain.training import (
    Candidate,
    CandidateState,
    CaseComparison,
    Comparison,
    GateOutcome,
    LabelOrigin,
    TrainingRun,
)
from core.library import documents
from core.library.repositories.training import CaseRecord
from core.recipes.gates import Measured, Verdict, judge, read_gates, shipped_gates
from core.services.engine import Engine
from core.services.list_models import catalogue
from core.services.start_training import RUN, utc_now


def list_candidates(engine: Engine, model_id: str | None = None) -> list[Candidate]:
    """Return candidates with gates and cases, the newest first."""
    with engine.unit_of_work(writes=False) as uow:
        found = uow.candidates.all(model_id)
        cases = {candidate.run_id: uow.trainings.cases(candidate.run_id) for candidate in found}
    return [_placed(candidate, cases[candidate.run_id]) for candidate in found]


def load_candidate(engine: Engine, candidate_id: str) -> Candidate:
    """Return a candidate.

    Raises
    ------
    InputError
        If there is none of that identifier (``candidate.unknown``).
    """
    with engine.unit_of_work(writes=False) as uow:
        found = uow.candidates.get(candidate_id)
        cases = uow.trainings.cases(found.run_id) if found is not None else []
    if found is None:
        raise InputError(
            "candidate.unknown", f"There is no candidate {candidate_id}.", "List the candidates."
        )
    return _placed(found, cases)


def why_not(engine: Engine, candidate: Candidate) -> str:
    """Return why nobody may promote a candidate now, empty when a person may."""
    if candidate.state is CandidateState.PROMOTED:
        return "It is in use."
    if candidate.comparison is None:
        return "It was not compared with the model in use."
    if failed := [gate for gate in candidate.gates if not gate.passed]:
        return f"It failed a gate: {failed[0].title} ({failed[0].reason})."
    try:
        current = catalogue(engine).get(candidate.model_id)
    except AppError as error:
        return error.user_message
    if bundle_digest(current) != candidate.base_sha256:
        return "Another version is in use than the one that it was compared with."
    return ""


def candidate_folder(engine: Engine, candidate: Candidate) -> Path:
    """Return where the bundle of a candidate lies."""
    return engine.paths.training / candidate.run_id / RUN / "bundle"


def make_candidate(
    engine: Engine, run: TrainingRun, trained: Mapping[str, Any], compared: Mapping[str, Any]
) -> Candidate:
    """Return the candidate of a training, judged; nothing is written.

    Parameters
    ----------
    trained, compared : mapping
        Outcomes of the training worker's two tasks.
    """
    with engine.unit_of_work(writes=False) as uow:
        records = {record.case_id: record for record in uow.trainings.cases(run.run_id)}
    comparison = _comparison(compared, records)
    patients = {case.patient for case in comparison.cases}
    task = "classification" if comparison.metric == "accuracy" else "segmentation"
    return Candidate(
        uuid.uuid4().hex,
        run.run_id,
        run.model_id,
        run.title,
        str(trained["version"]),
        str(compared["candidate_sha256"]),
        run.base_version,
        str(compared["current_sha256"]),
        comparison,
        judge_comparison(comparison, len(patients), task),
        CandidateState.WAITING,
        utc_now(),
    )


def judge_comparison(comparison: Comparison, patients: int, task: str) -> tuple[GateOutcome, ...]:
    """Hold a comparison against the shipped gates of its task (``finetune-segmentation``, ``finetune-classification``).

    ``patients`` is how many independent ones it rests on.
    """
    low, high = comparison.ci95
    worst = min((case.difference for case in comparison.cases), default=float("nan"))
    measured = {
        "difference": Measured(comparison.difference, low, high, patients),
        "worst_difference": Measured(worst, worst, worst, patients),
    }
    gates = read_gates(shipped_gates(f"finetune-{task}"))
    return tuple(_outcome(verdict) for verdict in judge(gates, measured, {}))


def record_candidate(engine: Engine, candidate: Candidate) -> None:
    """Put the evaluation of a candidate into the audit trail, in the present unit of work."""
    comparison = candidate.comparison
    assert comparison is not None
    engine.record(
        AuditCode.CANDIDATE_EVALUATED,
        action="C",
        object_kind="model",
        object_ref=candidate.model_id,
        n_objects=len(comparison.cases),
        detail={
            "candidate_id": candidate.candidate_id,
            "run_id": candidate.run_id,
            "model_id": candidate.model_id,
            "from_version": candidate.base_version,
            "to_version": candidate.version,
            "from_sha256": candidate.base_sha256,
            "to_sha256": candidate.bundle_sha256,
            "metric": comparison.metric,
            "difference": comparison.difference,
            "ci_low": comparison.ci95[0],
            "ci_high": comparison.ci95[1],
            "test_cases": len(comparison.cases),
            "gates": len(candidate.gates),
            "passed": candidate.passed,
        },
        outcome=AuditOutcome.SUCCESS if candidate.passed else AuditOutcome.MINOR_FAILURE,
    )


def _comparison(compared: Mapping[str, Any], records: Mapping[str, CaseRecord]) -> Comparison:
    cases = [_case(row, records[row["case_id"]]) for row in compared["cases"] if row["case_id"] in records]
    corrected = [case.difference for case in cases if case.origin is LabelOrigin.READER]
    low, high = compared["ci95"]
    return Comparison(
        str(compared["metric"]),
        float(compared["current"]),
        float(compared["candidate"]),
        float(compared["difference"]),
        (float(low), float(high)),
        float(compared["p"]),
        tuple(sorted(cases, key=lambda case: (case.difference, case.candidate, case.case_id))),
        float(np.mean(corrected)) if corrected else None,
    )


def _case(row: Mapping[str, Any], record: CaseRecord) -> CaseComparison:
    labels = documents.labels_from_json(record.document)
    by_reader = any(label.origin is LabelOrigin.READER for label in labels)
    return CaseComparison(
        record.case_id,
        record.series_key,
        record.study_uid,
        record.patient,
        float(row["current"]),
        float(row["candidate"]),
        LabelOrigin.READER if by_reader else LabelOrigin.MODEL,
        {name: (float(a), float(b)) for name, (a, b) in row.get("per_label", {}).items()},
        str(row.get("truth", "")),
    )


def _placed(candidate: Candidate, records: Sequence[CaseRecord]) -> Candidate:
    """Say where each case is; one whose study has left the library has no series any more."""
    if candidate.comparison is None:
        return candidate
    known = {record.case_id: record for record in records}
    cases = tuple(
        replace(case, series_key=known[case.case_id].series_key, study_uid=known[case.case_id].study_uid)
        if case.case_id in known
        else case
        for case in candidate.comparison.cases
    )
    return replace(candidate, comparison=replace(candidate.comparison, cases=cases))


def _outcome(verdict: Verdict) -> GateOutcome:
    value = verdict.bound if verdict.bound is not None else float("nan")
    return GateOutcome(verdict.metric, verdict.name, verdict.threshold, value, verdict.passed, verdict.reason)
