"""The findings of a result: jump to them, decide on them, undo a decision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from app.presenters.answer_rows import NO_ANSWERS, Answers, answers_of
from app.presenters.finding_places import Point, places_of
from app.presenters.finding_rows import FindingRow, ResultChoice, choice_of, model_title, passed, row_of
from app.presenters.notices import NoticesPresenter
from app.presenters.ports import Presenter, ReadingPort, ReviewEngine, Tasks
from core.domain.result import Decision, Finding, ModelResult, Verdict
from core.domain.segmentation import Segmentation

WITHHELD = "Read first: what models found is hidden until you ask for it."


@dataclass(frozen=True)
class FindingsState:
    """What the findings panel shows.

    ``checks`` are failed checks in words; ``not_found`` are segments without a voxel; ``withheld`` says that the
    results wait until the reader asks for them: then nothing of them stands in the state. ``answers`` is what a model
    of several tasks says of the whole image.
    """

    results: tuple[ResultChoice, ...] = ()
    result_id: str = ""
    model: str = ""
    rows: tuple[FindingRow, ...] = ()
    selected: int = -1
    checks: tuple[str, ...] = ()
    message: str = "Open a series to see its findings."
    can_undo: bool = False
    can_redo: bool = False
    withheld: bool = False
    not_found: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    answers: Answers = NO_ANSWERS

    @property
    def undecided(self) -> int:
        """How many findings wait for a verdict."""
        return sum(1 for row in self.rows if not row.verdict)

    @property
    def current(self) -> FindingRow | None:
        """The selected finding."""
        return self.rows[self.selected] if 0 <= self.selected < len(self.rows) else None


@dataclass(frozen=True)
class _Change:
    result_id: str
    finding_id: str
    before: tuple[str, str, str]
    after: tuple[str, str, str]


@dataclass
class _Loaded:
    result: ModelResult
    decisions: Mapping[str, Decision]
    segmentation: Segmentation | None
    places: Mapping[str, Point]
    hidden: set[int] = field(default_factory=set)


class FindingsPresenter(Presenter[FindingsState]):
    """Shows one result at a time. A verdict is drawn only after it is on the disk."""

    def __init__(
        self, engine: ReviewEngine, tasks: Tasks, notices: NoticesPresenter, reading: ReadingPort
    ) -> None:
        super().__init__(FindingsState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._reading = reading
        self._results: dict[str, ModelResult] = {}
        self._loaded: _Loaded | None = None
        self._generation = 0
        self._undo: list[_Change] = []
        self._redo: list[_Change] = []
        self._withheld = False
        self._in_hu = False
        self.decided: Callable[[ModelResult], None] = lambda _: None
        self.result_shown: Callable[[ModelResult | None], None] = lambda _: None

    @property
    def result(self) -> ModelResult | None:
        """The result on screen."""
        return self._loaded.result if self._loaded and not self._withheld else None

    def set_withheld(self, withheld: bool) -> None:
        """Keep everything about the results from screen, or show it."""
        if withheld == self._withheld:
            return
        self._withheld = withheld
        if self._loaded is not None:
            self._take(self._loaded)

    def set_modality(self, modality: str) -> None:
        """Take the modality of the open series: only of CT are means in Hounsfield units."""
        self._in_hu = modality == "CT"

    def clear(self, message: str) -> None:
        """Forget everything; ``message`` says the next step."""
        self._generation += 1
        self._results = {}
        self._loaded = None
        self._undo.clear()
        self._redo.clear()
        self._publish(FindingsState(message=message))
        self.result_shown(None)

    def set_results(self, results: list[ModelResult], select: str = "") -> None:
        """Take the results of the open series, newest first, and show one of them."""
        self._results = {result.result_id: result for result in results}
        if not results:
            self.clear("No results yet. Run a model, or press M to go to the models.")
            return
        wanted = select if select in self._results else results[0].result_id
        self.show_result(wanted)

    def show_result(self, result_id: str) -> None:
        """Load a result's decisions and label map, then show it."""
        self._generation += 1
        generation = self._generation
        result = self._results[result_id]

        def work() -> _Loaded:
            decisions = self._engine.decisions_for(result_id)
            segmentation = self._engine.load_segmentation(result_id)
            return _Loaded(result, decisions, segmentation, places_of(result.findings, segmentation))

        def done(loaded: _Loaded) -> None:
            if generation == self._generation:
                self._take(loaded)

        self._tasks.io(work, done, self._notices.report)

    def _take(self, loaded: _Loaded) -> None:
        self._loaded = loaded
        if self._withheld:
            self._reading.set_segmentation(None)
            self._publish(FindingsState(message=WITHHELD, withheld=True))
            self.result_shown(None)
            return
        self._reading.set_segmentation(loaded.segmentation)
        self._publish(self._state_of(loaded, 0 if loaded.result.findings else -1))
        self.result_shown(loaded.result)

    def redraw_overlays(self) -> None:
        """Hand the label map to the pictures again, after the complete volume took the place of its slices."""
        if self._loaded is None or self._withheld:
            return
        self._reading.set_segmentation(self._loaded.segmentation)
        for value in self._loaded.hidden:
            self._reading.set_segment_visible(value, False)

    def _state_of(self, loaded: _Loaded, selected: int) -> FindingsState:
        result = loaded.result
        means = {s.value: s.mean_hu for s in result.segments} if self._in_hu else {}
        failed = tuple(f"{name}: {text}" for name, text in result.checks.items() if not passed(text))
        return FindingsState(
            tuple(choice_of(r) for r in self._results.values()),
            result.result_id,
            model_title(result),
            tuple(_row(finding, loaded, means) for finding in result.findings),
            selected,
            failed,
            "" if result.findings else "The model found nothing to decide on.",
            bool(self._undo),
            bool(self._redo),
            not_found=tuple(segment.label for segment in result.segments if segment.voxels == 0),
            classes=tuple(found.label for found in result.classes),
            answers=answers_of(result),
        )

    def _republish(self) -> None:
        if self._loaded is not None and not self._withheld:
            self._publish(self._state_of(self._loaded, self.state.selected))

    def select(self, index: int, jump: bool = True) -> None:
        """Select a finding and bring it into view."""
        if not 0 <= index < len(self.state.rows):
            return
        self._publish(replace(self.state, selected=index))
        if jump:
            self._jump()

    def step(self, by: int) -> None:
        """Select the next (+1) or previous (-1) finding, around the ends."""
        if self.state.rows:
            self.select((self.state.selected + by) % len(self.state.rows))

    def _jump(self) -> None:
        finding = self._finding()
        if finding is not None and self._loaded is not None and finding.id in self._loaded.places:
            self._reading.jump_to(self._loaded.places[finding.id])

    def _finding(self) -> Finding | None:
        if self._loaded is None or self.state.current is None:
            return None
        return self._loaded.result.findings[self.state.selected]

    def toggle_visible(self, index: int) -> None:
        """Show or hide the segment of a finding."""
        if self._loaded is None or not 0 <= index < len(self.state.rows):
            return
        value = self.state.rows[index].segment_value
        if value is None:
            return
        self._loaded.hidden ^= {value}
        self._reading.set_segment_visible(value, value not in self._loaded.hidden)
        self._republish()

    def decide(self, verdict: Verdict, reason: str = "", advance: bool = False, mask: str = "") -> None:
        """Record a verdict on the selected finding; an edit keeps the corrected mask of the edit before it."""
        finding = self._finding()
        if finding is None or self._loaded is None:
            return
        before = self._verdict_of(finding.id)
        if verdict is Verdict.EDIT and before[0] == verdict.value:
            mask = mask or before[2]
        after = (verdict.value, reason.strip(), mask)
        change = _Change(self._loaded.result.result_id, finding.id, before, after)
        self._redo.clear()
        self._record(change, change.after, self._undo)
        if advance:
            self.step(1)

    def set_reason(self, reason: str) -> None:
        """Record the selected finding's verdict again with a reason; nothing happens before a verdict."""
        row = self.state.current
        if row is not None and row.verdict and reason.strip() != row.reason:
            self.decide(Verdict(row.verdict), reason)

    def give_mask(self, file: str) -> None:
        """Record the selected finding as edited, with a corrected mask; the reason stays."""
        row = self.state.current
        if row is not None and row.segment_value is not None and file.strip():
            self.decide(
                Verdict.EDIT, row.reason if row.verdict == Verdict.EDIT.value else "", mask=file.strip()
            )

    def undo(self) -> None:
        """Record a decision that supersedes the last one."""
        if self._undo and not self._withheld:
            change = self._undo.pop()
            self._record(change, change.before, self._redo)

    def redo(self) -> None:
        """Record the decision again that was undone last."""
        if self._redo and not self._withheld:
            change = self._redo.pop()
            self._record(change, change.after, self._undo)

    def _verdict_of(self, finding_id: str) -> tuple[str, str, str]:
        decision = self._loaded.decisions.get(finding_id) if self._loaded else None
        if decision is None:
            return "", "", ""
        return decision.verdict.value, decision.reason, decision.mask_file or ""

    def _record(self, change: _Change, target: tuple[str, str, str], stack: list[_Change]) -> None:
        verdict, reason, mask = target
        if not verdict:
            # A decision is never deleted: taking the first one back leaves the finding open as unsure.
            verdict, reason = Verdict.UNSURE.value, f"Withdrawn (was {change.after[0]})"
        stack.append(change)

        def work() -> Decision:
            given, kept = Verdict(verdict), change.finding_id
            return self._engine.record_decision(change.result_id, kept, given, reason, mask)

        def failed(error: Exception) -> None:
            if change in stack:
                stack.remove(change)
            self._republish()
            self._notices.report(error)  # type: ignore[arg-type]

        # A mask is read and compared first; that takes too long for the thread of the database.
        (self._tasks.io if mask else self._tasks.db)(work, self._take_decision, failed)

    def _take_decision(self, decision: Decision) -> None:
        loaded = self._loaded
        if loaded is None or loaded.result.result_id != decision.result_id:
            return
        loaded.decisions = {**loaded.decisions, decision.finding_id: decision}
        self._republish()
        self.decided(loaded.result)


def _row(finding: Finding, loaded: _Loaded, means: Mapping[int, float | None]) -> FindingRow:
    decision = loaded.decisions.get(finding.id)
    return row_of(finding, decision, loaded.segmentation, means, finding.segment_value not in loaded.hidden)
