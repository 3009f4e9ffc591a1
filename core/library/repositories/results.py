"""Results, findings, verdicts and explanations."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from core.domain.result import Decision, Finding, ModelResult, Verdict
from core.domain.segmentation import SegmentDefinition
from core.library import documents
from core.library.repositories.chunks import in_chunks
from core.library.tables import DecisionRow, ExplanationRow, FindingRow, ResultRow, SeriesRow
from core.library.vault import IdentityVault


@dataclass(frozen=True)
class LabelMapRecord:
    """What a label map's values stand for, the digest of its file as it was written, and its grid as JSON."""

    definitions: tuple[SegmentDefinition, ...]
    sha256: str
    grid: str


class ResultRepository:
    """Runs of models."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(
        self,
        result: ModelResult,
        definitions: tuple[SegmentDefinition, ...] = (),
        label_map_sha256: str = "",
        grid: str = "",
    ) -> None:
        """Add a result without its findings (see ``FindingRepository``)."""
        self._session.add(
            ResultRow(
                result_id=result.result_id,
                study_uid=result.study_uid,
                series_uid=result.series_uid,
                model_id=result.model.id,
                created_utc=result.created_utc,
                document=documents.result_to_json(result),
                segment_definitions=documents.definitions_to_json(definitions),
                label_map_sha256=label_map_sha256,
                grid=grid,
            )
        )
        self._session.flush()

    def get(self, result_id: str) -> ModelResult | None:
        """Return one result."""
        row = self._session.get(ResultRow, result_id)
        return None if row is None else documents.result_from_json(row.document)

    def label_map(self, result_id: str) -> LabelMapRecord | None:
        """Return what is known of the result's label map, None when there is no such result."""
        row = self._session.get(ResultRow, result_id)
        if row is None:
            return None
        definitions = documents.definitions_from_json(row.segment_definitions)
        return LabelMapRecord(definitions, row.label_map_sha256, row.grid)

    def of(self, series_or_study: str) -> list[ModelResult]:
        """Return the results of a series key, a Series or a Study Instance UID, the newest first."""
        keys = select(SeriesRow.key).where(SeriesRow.series_uid == series_or_study)
        uids = select(SeriesRow.series_uid).where(SeriesRow.key == series_or_study)
        query = (
            select(ResultRow.document)
            .where(
                or_(
                    ResultRow.study_uid == series_or_study,
                    ResultRow.series_uid == series_or_study,
                    ResultRow.series_uid.in_(keys),
                    ResultRow.series_uid.in_(uids),
                )
            )
            .order_by(ResultRow.created_utc.desc(), ResultRow.result_id)
        )
        return [documents.result_from_json(document) for document in self._session.scalars(query)]

    def of_model(self, model_id: str | None = None) -> list[ModelResult]:
        """Return the results of a model, of all models when None, the newest first."""
        query = select(ResultRow.document).order_by(ResultRow.created_utc.desc(), ResultRow.result_id)
        if model_id is not None:
            query = query.where(ResultRow.model_id == model_id)
        return [documents.result_from_json(document) for document in self._session.scalars(query)]

    def ids_of_studies(self, study_uids: Iterable[str] | None) -> list[str]:
        """Return the identifiers of all results of the studies; of all studies when None."""
        query = select(ResultRow.result_id)
        if study_uids is None:
            return list(self._session.scalars(query))
        return [
            result_id
            for part in in_chunks(list(study_uids))
            for result_id in self._session.scalars(query.where(ResultRow.study_uid.in_(part)))
        ]


class FindingRepository:
    """Findings of results."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add_all(self, result_id: str, findings: tuple[Finding, ...]) -> None:
        """Add the findings of a result in their order."""
        self._session.add_all(
            FindingRow(
                result_id=result_id,
                finding_id=finding.id,
                position=position,
                document=documents.finding_to_json(finding),
            )
            for position, finding in enumerate(findings)
        )
        self._session.flush()

    def get(self, result_id: str, finding_id: str) -> Finding | None:
        """Return one finding."""
        row = self._session.get(FindingRow, (result_id, finding_id))
        return None if row is None else documents.finding_from_json(row.document)

    def of_result(self, result_id: str) -> list[Finding]:
        """Return the findings of a result in their order."""
        query = select(FindingRow.document).where(FindingRow.result_id == result_id)
        rows = self._session.scalars(query.order_by(FindingRow.position))
        return [documents.finding_from_json(document) for document in rows]


class DecisionRepository:
    """Verdicts; the reason, free text, is sealed."""

    def __init__(self, session: Session, vault: IdentityVault) -> None:
        self._session = session
        self._vault = vault

    def add(self, decision: Decision) -> None:
        """Add a verdict; it supersedes earlier ones on the same finding."""
        last = self._session.scalar(select(func.max(DecisionRow.number))) or 0
        self._session.add(
            DecisionRow(
                decision_id=decision.decision_id,
                number=last + 1,
                result_id=decision.result_id,
                finding_id=decision.finding_id,
                verdict=str(decision.verdict),
                reader=decision.reader,
                decided_utc=decision.decided_utc,
                sealed_reason=self._vault.seal_text(f"reason/{decision.decision_id}", decision.reason),
                mask_file=decision.mask_file,
            )
        )
        self._session.flush()

    def get(self, decision_id: str) -> Decision | None:
        """Return one verdict."""
        row = self._session.get(DecisionRow, decision_id)
        return None if row is None else self._decision(row)

    def of_result(self, result_id: str) -> list[Decision]:
        """Return all verdicts on a result, the oldest first."""
        query = select(DecisionRow).where(DecisionRow.result_id == result_id).order_by(DecisionRow.number)
        return [self._decision(row) for row in self._session.scalars(query)]

    def of_results(self, result_ids: Iterable[str]) -> dict[str, list[Decision]]:
        """Return the verdicts on many results by result, the oldest first."""
        found: dict[str, list[Decision]] = {}
        for part in in_chunks(list(result_ids)):
            query = select(DecisionRow).where(DecisionRow.result_id.in_(part)).order_by(DecisionRow.number)
            for row in self._session.scalars(query):
                found.setdefault(row.result_id, []).append(self._decision(row))
        return found

    def _decision(self, row: DecisionRow) -> Decision:
        return Decision(
            decision_id=row.decision_id,
            result_id=row.result_id,
            finding_id=row.finding_id,
            verdict=Verdict(row.verdict),
            reader=row.reader,
            decided_utc=row.decided_utc,
            reason=self._vault.open_text(f"reason/{row.decision_id}", row.sealed_reason),
            mask_file=row.mask_file,
        )


@dataclass(frozen=True)
class ExplanationRecord:
    """Where a heat map lies (relative to the result's folder) and its description as JSON."""

    explanation_id: str
    result_id: str
    created_utc: str
    document: str
    file: str
    file_sha256: str


class ExplanationRepository:
    """Heat maps of results."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def add(self, record: ExplanationRecord) -> None:
        """Add a heat map."""
        self._session.add(ExplanationRow(**record.__dict__))
        self._session.flush()

    def of_result(self, result_id: str) -> list[ExplanationRecord]:
        """Return the heat maps of a result, the oldest first."""
        query = select(ExplanationRow).where(ExplanationRow.result_id == result_id)
        rows = self._session.scalars(
            query.order_by(ExplanationRow.created_utc, ExplanationRow.explanation_id)
        )
        return [
            ExplanationRecord(
                row.explanation_id, row.result_id, row.created_utc, row.document, row.file, row.file_sha256
            )
            for row in rows
        ]
