"""Trainings, their cases, frozen test sets, candidates and promotions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from core.domain.errors import BugError, InputError
from core.domain.training import Candidate, CandidateState, PromotionEntry, TrainingRun, TrainingState
from core.library import documents
from core.library.repositories.chunks import in_chunks
from core.library.tables import (
    CandidateRow,
    CurrentModelRow,
    EditOverlapRow,
    FrozenPatientRow,
    PromotionRow,
    TrainingCaseRow,
    TrainingRunRow,
)
from core.library.vault import IdentityVault

S = TrainingState
LEGAL_TRANSITIONS: dict[TrainingState, frozenset[TrainingState]] = {
    S.QUEUED: frozenset({S.RUNNING, S.CANCELLED, S.FAILED, S.INTERRUPTED, S.COMPARING}),
    S.RUNNING: frozenset(
        {S.PAUSED, S.COMPARING, S.CANCELLING, S.CANCELLED, S.FAILED, S.INTERRUPTED, S.QUEUED}
    ),
    S.PAUSED: frozenset(
        {S.RUNNING, S.CANCELLING, S.CANCELLED, S.FAILED, S.INTERRUPTED, S.QUEUED, S.COMPARING}
    ),
    S.COMPARING: frozenset({S.SUCCEEDED, S.CANCELLING, S.CANCELLED, S.FAILED, S.INTERRUPTED, S.QUEUED}),
    S.CANCELLING: frozenset({S.CANCELLED, S.FAILED}),
    S.INTERRUPTED: frozenset({S.QUEUED, S.CANCELLED}),
    S.FAILED: frozenset({S.QUEUED}),
    S.CANCELLED: frozenset(),
    S.SUCCEEDED: frozenset(),
}
"""From each state, those that may follow."""


@dataclass(frozen=True)
class CaseRecord:
    """One case of a training. ``document`` is the TrainingCase's labels as JSON."""

    run_id: str
    case_id: str
    study_uid: str
    series_key: str
    result_id: str
    patient: str
    part: str
    document: str


@dataclass(frozen=True)
class CurrentRecord:
    """The promoted version in use; ``folder`` is relative to the home."""

    model_id: str
    version: str
    bundle_sha256: str
    folder: str


@dataclass(frozen=True)
class PromotionRecord:
    """One change of the version in use, with what a roll-back needs."""

    entry: PromotionEntry
    from_sha256: str
    from_folder: str
    to_sha256: str
    to_folder: str


class TrainingRepository:
    """Trainings in the order of their submission."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, run: TrainingRun, cases: Iterable[CaseRecord]) -> None:
        """Append a training with its cases."""
        last = self._session.scalar(select(func.max(TrainingRunRow.number))) or 0
        self._session.add(
            TrainingRunRow(
                run_id=run.run_id,
                number=last + 1,
                model_id=run.model_id,
                state=str(run.state),
                document=documents.training_run_to_json(run),
                created_utc=run.created_utc,
                updated_utc=run.updated_utc,
            )
        )
        self._session.flush()
        self._session.add_all(TrainingCaseRow(**case.__dict__) for case in cases)
        self._session.flush()

    def update(self, run: TrainingRun, *, trained_sha256: str | None = None) -> None:
        """Keep a training as it is now.

        Raises
        ------
        InputError
            If there is no such training (``training.unknown``).
        BugError
            If its state can't follow the kept one (``training.transition``).
        """
        row = self._row(run.run_id)
        old = TrainingState(row.state)
        if run.state is not old and run.state not in LEGAL_TRANSITIONS[old]:
            raise BugError(
                "training.transition",
                f"A training that is {old} can't become {run.state}.",
                "Report this fault.",
            )
        row.state = str(run.state)
        row.document = documents.training_run_to_json(run)
        row.updated_utc = run.updated_utc
        if trained_sha256 is not None:
            row.trained_sha256 = trained_sha256
        self._session.flush()

    def get(self, run_id: str) -> TrainingRun | None:
        """Return one training."""
        row = self._session.get(TrainingRunRow, run_id)
        return None if row is None else _run(row)

    def trained_sha256(self, run_id: str) -> str:
        """Return the digest of the bundle that a training made; empty while there is none."""
        return self._row(run_id).trained_sha256

    def all(self, limit: int = 200) -> list[TrainingRun]:
        """Return trainings, the newest first."""
        query = select(TrainingRunRow).order_by(TrainingRunRow.number.desc()).limit(limit)
        return [_run(row) for row in self._session.scalars(query)]

    def in_states(self, states: Collection[TrainingState]) -> list[TrainingRun]:
        """Return the trainings in any of the states, the oldest first."""
        wanted = [str(state) for state in states]
        query = select(TrainingRunRow).where(TrainingRunRow.state.in_(wanted)).order_by(TrainingRunRow.number)
        return [_run(row) for row in self._session.scalars(query)]

    def ids(self) -> set[str]:
        """Return the identifiers of all trainings."""
        return set(self._session.scalars(select(TrainingRunRow.run_id)))

    def cases(self, run_id: str) -> list[CaseRecord]:
        """Return the cases of a training whose studies are still in the library."""
        query = select(TrainingCaseRow).where(TrainingCaseRow.run_id == run_id)
        rows = self._session.scalars(query.order_by(TrainingCaseRow.case_id))
        return [_case(row) for row in rows]

    def cases_of_study(self, study_uid: str) -> list[CaseRecord]:
        """Return the cases of all trainings that come from a study."""
        query = select(TrainingCaseRow).where(TrainingCaseRow.study_uid == study_uid)
        return [_case(row) for row in self._session.scalars(query)]

    def _row(self, run_id: str) -> TrainingRunRow:
        row = self._session.get(TrainingRunRow, run_id)
        if row is None:
            raise InputError("training.unknown", f"There is no training {run_id}.", "List the trainings.")
        return row


class FrozenRepository:
    """On which side of a model's split a patient is. A patient is assigned once."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def of_model(self, model_id: str) -> dict[str, str]:
        """Return ``"test"`` or ``"train"`` by pseudonym."""
        query = select(FrozenPatientRow).where(FrozenPatientRow.model_id == model_id)
        return {row.patient: row.part for row in self._session.scalars(query)}

    def assign(self, model_id: str, parts: Mapping[str, str]) -> None:
        """Assign patients that have no side yet.

        Raises
        ------
        BugError
            If a patient would change sides (``training.frozen``).
        """
        known = self.of_model(model_id)
        now = _now()
        for patient, part in parts.items():
            if known.get(patient, part) != part:
                raise BugError(
                    "training.frozen", "A patient can't leave the frozen test set.", "Report this fault."
                )
            if patient not in known:
                self._session.add(
                    FrozenPatientRow(model_id=model_id, patient=patient, part=part, assigned_utc=now)
                )
        self._session.flush()


class CandidateRepository:
    """Trained models beside those in use."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, candidate: Candidate) -> None:
        """Add a candidate."""
        last = self._session.scalar(select(func.max(CandidateRow.number))) or 0
        self._session.add(
            CandidateRow(
                candidate_id=candidate.candidate_id,
                number=last + 1,
                run_id=candidate.run_id,
                model_id=candidate.model_id,
                version=candidate.version,
                bundle_sha256=candidate.bundle_sha256,
                state=str(candidate.state),
                document=documents.candidate_to_json(candidate),
                created_utc=candidate.created_utc,
            )
        )
        self._session.flush()

    def set_state(self, candidate_id: str, state: CandidateState) -> None:
        """Note what became of a candidate."""
        row = self._session.get(CandidateRow, candidate_id)
        if row is not None:
            row.state = str(state)
            self._session.flush()

    def get(self, candidate_id: str) -> Candidate | None:
        """Return one candidate; its cases carry no series (see ``TrainingRepository.cases``)."""
        row = self._session.get(CandidateRow, candidate_id)
        return None if row is None else _candidate(row)

    def of_run(self, run_id: str) -> Candidate | None:
        """Return the candidate of a training."""
        row = self._session.scalar(select(CandidateRow).where(CandidateRow.run_id == run_id))
        return None if row is None else _candidate(row)

    def all(self, model_id: str | None = None) -> list[Candidate]:
        """Return candidates, the newest first."""
        query = select(CandidateRow).order_by(CandidateRow.number.desc())
        if model_id is not None:
            query = query.where(CandidateRow.model_id == model_id)
        return [_candidate(row) for row in self._session.scalars(query)]


class PromotionRepository:
    """Which version of a model is in use, and how it came to be. Reasons, free text, are sealed."""

    def __init__(self, session: Session, vault: IdentityVault) -> None:
        self._session = session
        self._vault = vault

    def add(self, record: PromotionRecord) -> PromotionEntry:
        """Append a change and point to the new version; returns it with its number."""
        last = self._session.scalar(select(func.max(PromotionRow.number))) or 0
        entry = record.entry
        number = last + 1
        self._session.add(
            PromotionRow(
                number=number,
                model_id=entry.model_id,
                action=entry.action,
                candidate_id=entry.candidate_id,
                from_version=entry.from_version,
                from_sha256=record.from_sha256,
                from_folder=record.from_folder,
                to_version=entry.to_version,
                to_sha256=record.to_sha256,
                to_folder=record.to_folder,
                done_by=entry.by,
                sealed_reason=self._vault.seal_text(f"promotion/{number}", entry.reason),
                created_utc=entry.created_utc,
            )
        )
        self._point(entry.model_id, entry.to_version, record.to_sha256, record.to_folder)
        return self._records(entry.model_id)[-1].entry

    def of_model(self, model_id: str) -> list[PromotionRecord]:
        """Return the changes of a model, the oldest first."""
        return self._records(model_id)

    def current(self) -> dict[str, CurrentRecord]:
        """Return the promoted versions in use, by model."""
        rows = self._session.scalars(select(CurrentModelRow))
        return {
            row.model_id: CurrentRecord(row.model_id, row.version, row.bundle_sha256, row.folder)
            for row in rows
        }

    def _point(self, model_id: str, version: str, sha256: str, folder: str) -> None:
        self._session.execute(delete(CurrentModelRow).where(CurrentModelRow.model_id == model_id))
        if folder:
            self._session.add(
                CurrentModelRow(
                    model_id=model_id,
                    version=version,
                    bundle_sha256=sha256,
                    folder=folder,
                    changed_utc=_now(),
                )
            )
        self._session.flush()

    def _records(self, model_id: str) -> list[PromotionRecord]:
        query = select(PromotionRow).where(PromotionRow.model_id == model_id).order_by(PromotionRow.number)
        return [self._record(row) for row in self._session.scalars(query)]

    def _record(self, row: PromotionRow) -> PromotionRecord:
        entry = PromotionEntry(
            row.number,
            row.model_id,
            row.action,
            row.from_version,
            row.to_version,
            row.done_by,
            self._vault.open_text(f"promotion/{row.number}", row.sealed_reason),
            row.created_utc,
            row.candidate_id,
        )
        return PromotionRecord(entry, row.from_sha256, row.from_folder, row.to_sha256, row.to_folder)


class OverlapRepository:
    """Dice between the model's and the reader's mask of edits, once worked out."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def of(self, decision_ids: Collection[str]) -> dict[str, float | None]:
        """Return what is known, by decision."""
        found: dict[str, float | None] = {}
        for part in in_chunks(list(decision_ids)):
            rows = self._session.scalars(select(EditOverlapRow).where(EditOverlapRow.decision_id.in_(part)))
            found |= {row.decision_id: row.dice for row in rows}
        return found

    def keep(self, overlaps: Mapping[str, float | None]) -> None:
        """Keep new ones."""
        self._session.add_all(EditOverlapRow(decision_id=key, dice=value) for key, value in overlaps.items())
        self._session.flush()


def _run(row: TrainingRunRow) -> TrainingRun:
    return documents.training_run_from_json(row.document)


def _candidate(row: CandidateRow) -> Candidate:
    return documents.candidate_from_json(row.document, row.state)


def _case(row: TrainingCaseRow) -> CaseRecord:
    return CaseRecord(
        row.run_id,
        row.case_id,
        row.study_uid,
        row.series_key,
        row.result_id,
        row.patient,
        row.part,
        row.document,
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
