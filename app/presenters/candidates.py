"""Candidates beside the model in use: gates, cases, promotion by a named person, the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Presenter, Tasks
from app.presenters.ports_training import CandidateOffer, TrainingEngine
from app.presenters.training_words import means_in_words, summary_in_words, worst_first
from core.domain.errors import AppError
from core.domain.training import Candidate, CandidateState, CaseComparison, ModelVersions

NONE_YET = "No candidate yet. Each finished training leaves one here; nothing is used before you promote it."


@dataclass(frozen=True)
class CandidatesState:
    """What the page shows; ``person`` and ``reason`` are what was entered for the next act."""

    offers: tuple[CandidateOffer, ...] = ()
    chosen: str = ""
    cases: tuple[CaseComparison, ...] = ()
    versions: ModelVersions | None = None
    person: str = ""
    reason: str = ""
    busy: bool = False
    message: str = NONE_YET

    @property
    def offer(self) -> CandidateOffer | None:
        """The candidate that is looked at, with what keeps it from being promoted."""
        return next((offer for offer in self.offers if offer.candidate.candidate_id == self.chosen), None)

    @property
    def candidate(self) -> Candidate | None:
        """The candidate that is looked at."""
        return self.offer.candidate if self.offer is not None else None

    @property
    def summary(self) -> str:
        """The comparison in one sentence."""
        return summary_in_words(self.candidate) if self.candidate is not None else ""

    @property
    def means(self) -> str:
        """Both means."""
        return means_in_words(self.candidate) if self.candidate is not None else ""

    @property
    def promote_why_not(self) -> str:
        """What keeps the candidate from being promoted; empty when nothing does."""
        if self.offer is None:
            return "There is no candidate."
        candidate = self.offer.candidate
        if candidate.state is not CandidateState.WAITING:
            return f"This candidate was decided on: {candidate.state.value}."
        failed = [gate.title for gate in candidate.gates if not gate.passed]
        if self.offer.why_not or failed:
            return self.offer.why_not or f"Not passed: {', '.join(failed)}."
        return self._signature_missing

    @property
    def roll_back_why_not(self) -> str:
        """What keeps the model from being rolled back; empty when nothing does."""
        if self.versions is None or not self.versions.previous_version:
            return "There is no former version to go back to."
        return self._signature_missing

    @property
    def _signature_missing(self) -> str:
        if self.busy:
            return "Working…"
        if not self.person.strip():
            return "Give your name."
        return "" if self.reason.strip() else "Give a reason."


class CandidatesPresenter(Presenter[CandidatesState]):
    """Shows one candidate at a time; nothing is promoted or rolled back without name and reason."""

    def __init__(self, engine: TrainingEngine, tasks: Tasks, notices: NoticesPresenter) -> None:
        super().__init__(CandidatesState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._generation = 0
        self.changed: Callable[[], None] = lambda: None
        self.open_series: Callable[[CaseComparison], None] = lambda _: None

    def refresh(self, choose: str = "") -> None:
        """Read the candidates again; ``choose`` is the one to look at."""
        self._generation += 1
        generation = self._generation

        def done(offers: Sequence[CandidateOffer]) -> None:
            if generation != self._generation:
                return
            known = [offer.candidate.candidate_id for offer in offers]
            chosen = next((name for name in (choose, self.state.chosen) if name in known), "")
            message = "" if offers else NONE_YET
            self._show(
                replace(self.state, offers=tuple(offers), message=message), chosen or "".join(known[:1])
            )

        self._tasks.io(self._engine.candidates, done, self._notices.report)

    def choose(self, candidate_id: str) -> None:
        """Look at a candidate."""
        if candidate_id != self.state.chosen:
            self._show(self.state, candidate_id)

    def _show(self, state: CandidatesState, chosen: str) -> None:
        before = self.state.candidate
        shown = replace(state, chosen=chosen)
        candidate = shown.candidate
        same_model = candidate is not None and before is not None and before.model_id == candidate.model_id
        found = candidate.comparison if candidate is not None else None
        self._publish(
            replace(
                shown,
                cases=worst_first(found.cases) if found is not None else (),
                person=state.person or self._engine.reader,
                reason=state.reason if chosen == self.state.chosen else "",
                versions=state.versions if same_model else None,
            )
        )
        if candidate is not None:
            self._read_versions(candidate.model_id)

    def _read_versions(self, model_id: str) -> None:
        self._tasks.io(
            lambda: self._engine.model_versions(model_id), self._take_versions, self._notices.report
        )

    def _take_versions(self, versions: ModelVersions) -> None:
        candidate = self.state.candidate
        if candidate is not None and candidate.model_id == versions.model_id:
            self._publish(replace(self.state, versions=versions))

    def sign(self, person: str, reason: str) -> None:
        """Take who decides and why."""
        self._publish(replace(self.state, person=person, reason=reason))

    def open_case(self, place: int) -> None:
        """Open the pictures of a case of the comparison."""
        if 0 <= place < len(self.state.cases):
            self.open_series(self.state.cases[place])

    def promote(self) -> None:
        """Make the candidate the model in use."""
        candidate = self.state.candidate
        person, reason = self.state.person.strip(), self.state.reason.strip()
        if candidate is None or self.state.promote_why_not:
            return
        self._act(
            lambda: self._engine.promote_candidate(candidate.candidate_id, person, reason),
            f"{candidate.title} {candidate.version} is in use now.",
        )

    def roll_back(self) -> None:
        """Make the former version the one in use."""
        versions, person, reason = self.state.versions, self.state.person.strip(), self.state.reason.strip()
        if versions is None or self.state.roll_back_why_not:
            return
        self._act(
            lambda: self._engine.roll_back_model(versions.model_id, person, reason),
            f"{versions.title} {versions.previous_version} is in use again.",
        )

    def _act(self, work: Callable[[], ModelVersions], words: str) -> None:
        self._publish(replace(self.state, busy=True))

        def done(versions: ModelVersions) -> None:
            self._publish(replace(self.state, busy=False, reason=""))
            self._take_versions(versions)
            self._notices.say("done", words, "The audit trail says who decided and why.")
            self.refresh()
            self.changed()

        def failed(error: AppError) -> None:
            self._publish(replace(self.state, busy=False))
            self._notices.report(error)
            self.refresh()

        self._tasks.io(work, done, failed)
