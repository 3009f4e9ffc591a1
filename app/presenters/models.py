"""The models that fit the open series: run one, follow it, cancel it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from app.presenters.answer_rows import listed
from app.presenters.notices import NoticesPresenter
from app.presenters.ports import (
    JOB_ACTIVE,
    JobRow,
    ModelOffer,
    Presenter,
    ReviewEngine,
    Tasks,
    seconds_in_words,
)
from core.domain.errors import AppError
from core.domain.study import SeriesSummary
from core.domain.volume import Volume


@dataclass(frozen=True)
class ModelRow:
    """A model that may be run; ``job`` is its unfinished job on the open series, if any.

    ``inputs`` names the contrasts of a model that takes several, ``incomplete`` says that the study lacks some, and
    ``why`` in a sentence what the run will use. ``server`` is the name of the model server that has it; ``trouble``
    says why that can't run anything now.
    """

    id: str
    title: str
    version: str
    detail: str
    verified: bool
    job: JobRow | None = None
    inputs: str = ""
    incomplete: bool = False
    why: str = ""
    server: str = ""
    trouble: str = ""


@dataclass(frozen=True)
class ModelsState:
    """What the models panel shows. ``others`` are models that don't fit, each with its reason."""

    rows: tuple[ModelRow, ...] = ()
    others: tuple[tuple[str, str], ...] = ()
    message: str = "Open a series to see which models fit it."
    can_run: bool = False


class ModelsPresenter(Presenter[ModelsState]):
    """Asks which models fit, submits runs, shows their progress."""

    def __init__(self, engine: ReviewEngine, tasks: Tasks, notices: NoticesPresenter) -> None:
        super().__init__(ModelsState())
        self._engine = engine
        self._tasks = tasks
        self._notices = notices
        self._summary: SeriesSummary | None = None
        self._volume: Volume | None = None
        self._offers: list[ModelOffer] = []
        self._jobs: tuple[JobRow, ...] = ()
        self._starting: set[str] = set()
        self._known = False
        self._generation = 0
        self._troubles: dict[str, str] = {}
        self.submitted: Callable[[], None] = lambda: None

    def offer(self, model_id: str) -> ModelOffer | None:
        """Return what is known about a model of the last catalogue."""
        return next((offer for offer in self._offers if offer.id == model_id), None)

    def offer_for(self, model_id: str) -> ModelOffer | None:
        """Return what is known about the model of a result: of this computer, else of a server."""
        served = (offer for offer in self._offers if offer.server and offer.id.endswith(f"/{model_id}"))
        return self.offer(model_id) or next(served, None)

    def clear(self) -> None:
        """Forget the series."""
        self._generation += 1
        self._summary = None
        self._volume = None
        self._offers, self._known = [], False
        self._publish(ModelsState())

    def set_series(self, summary: SeriesSummary) -> None:
        """Ask which models fit a series."""
        self._generation += 1
        generation = self._generation
        self._summary = summary
        self._volume = None
        self._offers, self._known = [], False
        self._publish(ModelsState(message="Looking which models fit…"))

        def done(offers: list[ModelOffer]) -> None:
            if generation == self._generation:
                self._offers, self._known = offers, True
                self._rebuild()
                self._ask_servers(generation)

        def failed(error: AppError) -> None:
            if generation == self._generation:
                self._publish(ModelsState(message=error.user_message))
                self._notices.report(error)

        self._tasks.io(lambda: self._engine.list_models(summary), done, failed)

    def _ask_servers(self, generation: int) -> None:
        """Ask the servers whose models fit whether they are there; the list doesn't wait for it."""
        names = sorted({offer.server for offer in self._offers if offer.server and offer.fits})
        if not names:
            return

        def done(troubles: dict[str, str]) -> None:
            self._troubles = troubles
            if generation == self._generation and self._known:
                self._rebuild()

        self._tasks.io(lambda: self._engine.unreachable(names), done, self._notices.report)

    def set_volume(self, volume: Volume) -> None:
        """Take the voxels; running needs them."""
        self._volume = volume
        if self._known:
            self._rebuild()

    def set_jobs(self, jobs: tuple[JobRow, ...]) -> None:
        """Take the present jobs."""
        self._jobs = jobs
        if self._known:
            self._rebuild()

    def run(self, model_id: str) -> None:
        """Run a model on the open series; the picture stays usable meanwhile."""
        offer = self.offer(model_id)
        if self._summary is None or self._volume is None or offer is None or not offer.fits:
            return
        if model_id in self._starting or self._job_of(model_id) is not None:
            return
        self._starting.add(model_id)
        key, volume = self._summary.key, self._volume

        def done(_: str) -> None:
            self._starting.discard(model_id)
            self.submitted()

        def failed(error: AppError) -> None:
            self._starting.discard(model_id)
            self._notices.report(error)

        self._tasks.io(lambda: self._engine.submit_run(model_id, key, volume), done, failed)

    def run_first(self) -> None:
        """Run the first model that fits."""
        if self.state.rows:
            self.run(self.state.rows[0].id)

    def _job_of(self, model_id: str) -> JobRow | None:
        key = self._summary.key if self._summary else ""
        for job in self._jobs:
            if (
                job.state in JOB_ACTIVE
                and job.kind == "run"
                and job.model_id == model_id
                and job.series_key == key
            ):
                return job
        return None

    def _rebuild(self) -> None:
        fitting = [offer for offer in self._offers if offer.fits]
        rows = tuple(self._row(offer) for offer in fitting)
        others = tuple((_titled(offer), offer.why) for offer in self._offers if not offer.fits)
        self._publish(ModelsState(rows, others, self._message(bool(rows)), self._volume is not None))

    def _message(self, any_fits: bool) -> str:
        if any_fits:
            return ""
        if not self._offers:
            return "No models are installed. Add one with “overread models add”."
        return "No installed model fits this series."

    def _row(self, offer: ModelOffer) -> ModelRow:
        where = f"on {offer.server}" if offer.server else ""
        parts = [where, "fits", seconds_in_words(offer.estimate_s), offer.licence]
        detail = " · ".join(part for part in parts if part)
        signed = offer.verified == "signed"
        return ModelRow(
            offer.id,
            offer.title,
            offer.version,
            detail,
            signed,
            self._job_of(offer.id),
            inputs_in_words(offer),
            bool(offer.missing),
            offer.why,
            offer.server,
            self._troubles.get(offer.server, "") if offer.server else "",
        )


def _titled(offer: ModelOffer) -> str:
    return f"{offer.title} {offer.version}".strip() + (f" on {offer.server}" if offer.server else "")


def inputs_in_words(offer: ModelOffer) -> str:
    """Return which contrasts a run would use, and which are missing; empty for a model of one series."""
    there = [name for name in offer.inputs if name not in offer.missing]
    if not there:
        return ""
    return f"takes {listed(there)}" + (f" · {listed(offer.missing)} missing" if offer.missing else "")
