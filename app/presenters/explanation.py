"""“Why?”: ask for a heat map of a class, show it, judge whether it may be trusted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from app.presenters.notices import NoticesPresenter
from app.presenters.ports import JOB_ACTIVE, JobRow, ModelOffer, Presenter, ReadingPort, ReviewEngine, Tasks
from core.domain.errors import AppError
from core.domain.explanation import Explanation
from core.domain.result import ModelResult
from core.domain.volume import Volume


@dataclass(frozen=True)
class ExplanationState:
    """What the explanation panel shows. ``sanity`` is a sentence and ``sanity_passed`` its verdict."""

    available: bool = False
    message: str = "Run a model first; then ask why."
    methods: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    method: str = ""
    class_label: str = ""
    job: JobRow | None = None
    shown: bool = False
    has_map: bool = False
    opacity: float = 0.5
    threshold: float = 0.3
    blinking: bool = False
    resolution: str = ""
    sanity: str = ""
    sanity_passed: bool | None = None


class ExplanationPresenter(Presenter[ExplanationState]):
    """Holds the heat maps of the result on screen and shows one of them."""

    def __init__(
        self, engine: ReviewEngine, tasks: Tasks, notices: NoticesPresenter, reading: ReadingPort
    ) -> None:
        super().__init__(ExplanationState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._reading = reading
        self._result: ModelResult | None = None
        self._volume: Volume | None = None
        self._maps: dict[tuple[str, str], Explanation] = {}
        self._generation = 0
        self._job_id = ""
        self.submitted: Callable[[], None] = lambda: None
        self._show_when_done: tuple[str, str] | None = None

    def set_volume(self, volume: Volume | None) -> None:
        """Take the voxels of the open series."""
        self._volume = volume

    def set_result(self, result: ModelResult | None, offer: ModelOffer | None) -> None:
        """Take the result on screen; its earlier heat maps are loaded, none is shown unasked."""
        self._generation += 1
        self._result = result
        self._maps = {}
        self._job_id = ""
        self._show_when_done = None
        if self.state.has_map:
            self._reading.set_heatmap(None)
        if self.state.blinking:
            self._reading.blink(False)
        self._publish(self._fresh(result, offer))
        if self.state.available:
            self._load_maps()

    def _fresh(self, result: ModelResult | None, offer: ModelOffer | None) -> ExplanationState:
        style = replace(ExplanationState(), opacity=self.state.opacity, threshold=self.state.threshold)
        if result is None:
            return style
        methods = offer.explain_methods if offer is not None else ()
        if not methods:
            why = offer.explain_why if offer is not None else ""
            return replace(style, message=why or "This model offers no explanation.")
        classes = classes_of(result)
        if not classes:
            return replace(style, message="The result has no class to explain.")
        return replace(
            style,
            available=True,
            message="",
            methods=methods,
            classes=classes,
            method=methods[0],
            class_label=classes[0],
        )

    def choose(self, method: str = "", class_label: str = "") -> None:
        """Choose method or class; a map that exists already is shown if one was shown."""
        method = method or self.state.method
        label = class_label or self.state.class_label
        self._publish(replace(self.state, method=method, class_label=label))
        self._show(self._maps.get((method, label)), self.state.shown)

    def suggest(self, class_label: str) -> None:
        """Take the class of the finding that the reader looks at, unless a map is on screen or on its way."""
        state = self.state
        busy = state.shown or state.job is not None or bool(self._job_id)
        if not busy and class_label in state.classes and class_label != state.class_label:
            self.choose(class_label=class_label)

    def ask(self) -> None:
        """Show the map of the chosen class, computing it if need be; a second time hides it."""
        state = self.state
        if not state.available:
            return
        if state.has_map:
            self.set_shown(not state.shown)
        elif state.job is None and not self._job_id:
            self._submit()

    def _submit(self) -> None:
        if self._result is None:
            return
        result_id, method, label = self._result.result_id, self.state.method, self.state.class_label
        volume, generation = self._volume, self._generation
        self._job_id = "starting"
        self._show_when_done = (method, label)

        def done(job_id: str) -> None:
            if generation == self._generation:
                self._job_id = job_id
            self.submitted()

        def failed(error: AppError) -> None:
            if generation == self._generation:
                self._job_id = ""
            self._notices.report(error)

        self._tasks.io(lambda: self._engine.submit_explain(result_id, method, label, volume), done, failed)

    def set_jobs(self, jobs: tuple[JobRow, ...]) -> None:
        """Follow the job of the question that was asked."""
        job = next((job for job in jobs if job.job_id == self._job_id), None)
        if job is None:
            return
        if job.state in JOB_ACTIVE:
            self._publish(replace(self.state, job=job))
            return
        self._job_id = ""
        self._publish(replace(self.state, job=None))
        if job.state == "succeeded":
            self._load_maps()

    def _load_maps(self) -> None:
        if self._result is None:
            return
        result_id, generation = self._result.result_id, self._generation

        def done(maps: list[Explanation]) -> None:
            if generation == self._generation:
                self._maps = {(m.method, m.class_label): m for m in maps}
                self._take_maps()

        self._tasks.io(lambda: self._engine.load_explanations(result_id), done, self._notices.report)

    def _take_maps(self) -> None:
        key = (self.state.method, self.state.class_label)
        # The answer may be that of an earlier question: the wish to see stays until its map is there.
        asked = self._show_when_done == key and key in self._maps
        if asked:
            self._show_when_done = None
        self._show(self._maps.get(key), self.state.shown or asked)

    def _show(self, explanation: Explanation | None, shown: bool) -> None:
        visible = shown and explanation is not None
        self._reading.set_heatmap(explanation if visible else None)
        if visible:
            self._reading.set_heat_style(self.state.opacity, self.state.threshold)
        sanity, passed = sanity_in_words(explanation)
        self._publish(
            replace(
                self.state,
                has_map=explanation is not None,
                shown=visible,
                resolution=resolution_in_words(explanation),
                sanity=sanity,
                sanity_passed=passed,
            )
        )

    def set_shown(self, shown: bool) -> None:
        """Show or hide the map."""
        self._show(self._maps.get((self.state.method, self.state.class_label)), shown)

    def redraw_map(self) -> None:
        """Hand the map to the pictures again, after the complete volume took the place of its slices."""
        if self.state.shown:
            self.set_shown(True)

    def set_style(self, opacity: float | None = None, threshold: float | None = None) -> None:
        """Set opacity or threshold, 0…1."""
        opacity = self.state.opacity if opacity is None else min(max(opacity, 0.0), 1.0)
        threshold = self.state.threshold if threshold is None else min(max(threshold, 0.0), 1.0)
        self._publish(replace(self.state, opacity=opacity, threshold=threshold))
        self._reading.set_heat_style(opacity, threshold)

    def toggle_blink(self) -> None:
        """Start or stop alternating between with and without overlays."""
        self._publish(replace(self.state, blinking=not self.state.blinking))
        self._reading.blink(self.state.blinking)


def classes_of(result: ModelResult) -> tuple[str, ...]:
    """Return what may be explained: the classes, most probable first, then the segments that were found."""
    ordered = sorted(result.classes, key=lambda c: c.probability, reverse=True)
    found = [segment.label for segment in result.segments if segment.voxels > 0]
    return tuple(dict.fromkeys([*(item.label for item in ordered), *found]))


def resolution_in_words(explanation: Explanation | None) -> str:
    """Return how fine the map really is, and what it isn't."""
    if explanation is None:
        return ""
    i, j, k = explanation.resolution_mm
    cells = f"{i:.0f} × {j:.0f}" + (f" × {k:.0f}" if explanation.heat.shape[0] > 1 else "")
    return f"One cell of the map is {cells} mm; finer detail is interpolated. Not a lesion outline."


def sanity_in_words(explanation: Explanation | None) -> tuple[str, bool | None]:
    """Return the outcome of the check with randomised weights, and whether it passed."""
    if explanation is None:
        return "", None
    passed = explanation.sanity_passed
    correlation = explanation.randomisation_correlation
    if passed is None or correlation is None:
        return "Not checked against randomised weights.", None
    words = "depends on what was learnt" if passed else "does NOT depend on what was learnt: don't use it"
    return f"The map {words} (correlation with randomised weights {correlation:.2f}).", passed
