"""One transaction: repositories that see the same state, and the audit records that go with the change.

A session lives inside one unit of work and never crosses a thread. The block's end commits; an exception rolls back.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from core.domain.audit import AuditEvent
from core.library.database import WRITES, Library
from core.library.errors import translate
from core.library.repositories.audit import AuditRepository
from core.library.repositories.import_issues import ConflictRepository, QuarantineRepository
from core.library.repositories.jobs import JobRepository
from core.library.repositories.meta import MetaRepository
from core.library.repositories.results import (
    DecisionRepository,
    ExplanationRepository,
    FindingRepository,
    ResultRepository,
)
from core.library.repositories.series import InstanceRepository, SeriesRepository
from core.library.repositories.studies import StudyRepository
from core.library.repositories.tags import FilterRepository, RetentionRepository, TagRepository
from core.library.repositories.training import (
    CandidateRepository,
    FrozenRepository,
    OverlapRepository,
    PromotionRepository,
    TrainingRepository,
)
from core.library.vault import IdentityVault


class AuditSink(Protocol):
    """Turns events into records of the chain."""

    def append(self, store: AuditRepository, event: AuditEvent) -> None:
        """Append an event in the store's transaction."""

    def committed(self) -> None:
        """Hear that the appended events are on disk."""

    def rolled_back(self) -> None:
        """Hear that the appended events were undone."""


class UnitOfWork:
    """A transaction on the library.

    Parameters
    ----------
    library : Library
        The database.
    vault : IdentityVault
        Seals and opens.
    instances_folder : pathlib.Path
        Where copied instances lie.
    sink : AuditSink or None
        Receives ``record``; None in tools that only read.
    writes : bool
        Whether to take the writer lock and begin immediately.

    Examples
    --------
    ``with engine.unit_of_work() as uow: uow.decisions.add(decision); uow.record(event)``
    """

    studies: StudyRepository
    series: SeriesRepository
    instances: InstanceRepository
    tags: TagRepository
    filters: FilterRepository
    retention: RetentionRepository
    conflicts: ConflictRepository
    quarantine: QuarantineRepository
    results: ResultRepository
    findings: FindingRepository
    decisions: DecisionRepository
    explanations: ExplanationRepository
    jobs: JobRepository
    trainings: TrainingRepository
    frozen: FrozenRepository
    candidates: CandidateRepository
    promotions: PromotionRepository
    overlaps: OverlapRepository
    audit: AuditRepository
    meta: MetaRepository

    def __init__(
        self,
        library: Library,
        vault: IdentityVault,
        instances_folder: Path,
        sink: AuditSink | None = None,
        *,
        writes: bool = True,
    ) -> None:
        self._library = library
        self._vault = vault
        self._folder = instances_folder
        self._sink = sink
        self.writes = writes

    def __enter__(self) -> UnitOfWork:
        """Begin.

        Raises
        ------
        EnvironmentFault
            If the library is locked by another process for five seconds, or can't be reached.
        BugError
            If this thread already writes.
        """
        if self.writes:
            self._library.acquire_writer()
        try:
            self.session = Session(self._library.sql.execution_options(**{WRITES: self.writes}))
            self.session.connection()
        except SQLAlchemyError as error:
            self._end()
            raise translate(error) from error
        self._make_repositories()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit, or roll back when the block raised."""
        try:
            if error is None:
                self.commit()
            else:
                self.rollback()
        finally:
            self._end()
        if isinstance(error, SQLAlchemyError):
            raise translate(error) from error

    def record(self, event: AuditEvent) -> None:
        """Append an audit record to this transaction; when it can't be written, the transaction fails."""
        if self._sink is None or not self.writes:
            raise RuntimeError("a unit of work that only reads can't record")
        self._sink.append(self.audit, event)

    def commit(self) -> None:
        """Make everything so far durable; the block may go on in a new transaction."""
        try:
            if self.writes:
                self.studies.recount_touched()
            self.session.commit()
        except SQLAlchemyError as error:
            self.rollback()
            raise translate(error) from error
        except BaseException:
            # A seal that doesn't open stops the sums; the audit log must hear that its records are gone.
            self.rollback()
            raise
        self.meta.transaction_ended()
        if self._sink is not None and self.writes:
            self._sink.committed()

    def rollback(self) -> None:
        """Undo everything since the last commit."""
        self.session.rollback()
        self._touched.clear()
        self.meta.transaction_ended()
        if self._sink is not None and self.writes:
            self._sink.rolled_back()

    def _end(self) -> None:
        self.session.close()
        if self.writes:
            self._library.release_writer()

    def _make_repositories(self) -> None:
        self.meta = MetaRepository(self.session)
        self._touched: set[str] = set()
        self.studies = StudyRepository(self.session, self._vault, self.meta, self._touched)
        self.series = SeriesRepository(self.session, self._vault, self._touched)
        self.instances = InstanceRepository(self.session, self._vault, self._folder)
        self.tags = TagRepository(self.session, self._touched)
        self.filters = FilterRepository(self.session, self._vault)
        self.retention = RetentionRepository(self.session)
        self.conflicts = ConflictRepository(self.session, self._vault, self._folder)
        self.quarantine = QuarantineRepository(self.session, self._vault, self._folder)
        self.results = ResultRepository(self.session)
        self.findings = FindingRepository(self.session)
        self.decisions = DecisionRepository(self.session, self._vault)
        self.explanations = ExplanationRepository(self.session)
        self.jobs = JobRepository(self.session)
        self.trainings = TrainingRepository(self.session)
        self.frozen = FrozenRepository(self.session)
        self.candidates = CandidateRepository(self.session)
        self.promotions = PromotionRepository(self.session, self._vault)
        self.overlaps = OverlapRepository(self.session)
        self.audit = AuditRepository(self.session)
