"""Train a recipe from its data to a bundle with its card."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from core.bundles.bundle import Bundle
from core.compute.training.checkpoints import Checkpoints
from core.compute.training.conductor import Conductor
from core.compute.training.events import EVENTS_FILE, EventLog
from core.compute.training.finishing import Finisher, answer_of
from core.compute.training.fitting import run_fit
from core.compute.training.module import TrainingModule
from core.compute.training.objective import balanced_counts, build_network, build_objective
from core.compute.training.opening import PRIVATE_SOURCES, Opened, open_data
from core.compute.training.planning import Plan, make_plan
from core.compute.training.position import Position, Schedule, watch_of
from core.compute.training.pretrained import PretrainedReport
from core.compute.training.recomputing import recompute_stages
from core.compute.training.rehearsal import pretrained, pretraining_of, rehearsal_of
from core.compute.training.run_folder import RunFolder, processes
from core.domain.errors import AppError
from core.domain.progress import Cancelled, CancelToken, PauseToken, Progress, no_progress
from core.recipes.cases import Part
from core.recipes.load import recipe_document
from core.recipes.schema import Recipe

if TYPE_CHECKING:
    from core.compute.training.profiling import Profiler

OnEvent = Callable[[dict[str, Any]], None]


def train_recipe(
    recipe: Recipe,
    *,
    data: Path | None = None,
    out: Path,
    resume: bool = True,
    device: str = "auto",
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
    pause: PauseToken | None = None,
    on_event: OnEvent | None = None,
    private_key_file: Path | None = None,
    initial: Bundle | None = None,
    profile: bool = False,
) -> dict[str, Any]:
    """Train a model, evaluate it on what it has not seen, and write its bundle.

    Parameters
    ----------
    data : pathlib.Path, optional
        The data folder; procedural sources need none.
    out : pathlib.Path
        The run's folder. What an interrupted run left in it is continued unless ``resume`` is False.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    pause : PauseToken, optional
        Waits between two steps while it is set.
    on_event : callable, optional
        Gets every document of ``events.jsonl``; may be called from another thread (hardware figures).
    private_key_file : pathlib.Path, optional
        Signs the bundle.
    initial : Bundle, optional
        Whose weights to begin with (fine-tuning).
    profile : bool
        Measure where time and memory go, see ``core.compute.training.profiling``.

    Returns
    -------
    dict
        ``run_id``, ``checkpoint``, ``metrics`` (name → [value, low, high]), ``gates``, ``epochs``, ``seconds``,
        ``bundle``. Only the first of several processes gets numbers; the others get their ``run_id``.

    Raises
    ------
    InputError, SafetyError, EnvironmentFault
        Recipe, data or machine; the run says ``failed``.
    Cancelled
        When asked to; call again to go on.
    """
    rank, _ = processes()
    run = RunFolder(out, leader=rank == 0)
    continued = run.begin(recipe, resume=resume)
    if not resume and rank == 0:
        (out / EVENTS_FILE).unlink(missing_ok=True)
    events = EventLog(out / EVENTS_FILE if rank == 0 else None, on_event)
    job = _Job(
        recipe, data, out, run, events, device, progress, cancel, pause, private_key_file, initial, profile
    )
    try:
        with _threads(recipe), _trackers(recipe, run, out, events):
            return job.train(continued)
    except Cancelled:
        run.update(state="cancelled")
        events.emit("cancelled")
        raise
    except AppError as error:
        run.update(state="failed", code=error.code)
        events.emit("failed", code=error.code, message=error.user_message)
        raise
    except BaseException as error:
        run.update(state="failed", code=type(error).__name__)
        events.emit("failed", code="bug.unexpected", message=type(error).__name__)
        raise
    finally:
        events.close()


@dataclass(eq=False)
class _Job:
    """One call of ``train_recipe``."""

    recipe: Recipe
    data: Path | None
    out: Path
    run: RunFolder
    events: EventLog
    device: str
    progress: Progress
    cancel: CancelToken | None
    pause: PauseToken | None
    private_key_file: Path | None
    initial: Bundle | None
    profile: bool = False

    def train(self, continued: bool) -> dict[str, Any]:
        """Open, fit, finish."""
        started = time.monotonic()
        device = _device(self.device)
        rank, count = processes()
        before = pretraining_of(self.recipe)
        if before is not None and self.initial is None:
            self.events.note("pretraining", f"“{before.name}” is trained first.")
            self.initial = pretrained(before, self.out, self._train_before)
        self.progress("Preparing", 0.0)
        self.run.update(state="preparing", device=device)
        opened = open_data(
            self.recipe,
            self.data,
            self.run,
            self.events,
            cuda=device != "cpu",
            progress=self.progress,
            cancel=self.cancel,
        )
        checkpoints = Checkpoints(self.out / "checkpoints")
        if not continued and rank == 0:
            checkpoints.clear()
        state, damaged = checkpoints.load_last() if continued else (None, [])
        if continued:
            self.events.rewind(0 if state is None else int(state["events_offset"]))
        for name in damaged:
            self.events.note("checkpoint_damaged", f"{name} could not be read; the one before it is used.")
        module, plan = self._module(opened, state, device)
        watch = watch_of(self.recipe)
        finished = ""
        if state is not None:
            watch.load(state["watch"])
            finished = self._still_finished(str(state["finished"]), module.position)
        conductor = Conductor(
            self.recipe,
            checkpoints,
            self.events,
            watch,
            leader=rank == 0,
            progress=self.progress,
            cancel=self.cancel,
            pause=self.pause,
            out=self.out,
            samples=self._samples(opened),
        )
        parameters = sum(p.numel() for p in module.network.parameters())
        self.events.emit(
            "started",
            run_id=self.run.run_id,
            cases=dict(opened.feed.counts),
            parameters=parameters,
            step=module.position.step,
        )
        self.events.emit("chosen", **plan.as_dict())
        self.run.update(state="running", parameters=parameters, world=count, **plan.as_dict())
        if not finished:
            profiler = self._profiler(module)
            run_fit(
                module,
                opened.feed if profiler is None else profiler.watched(opened.feed),
                conductor,
                device=device,
                epochs=self.recipe.training.epochs,
                batch_size=plan.batch_size,
                out=self.out,
                more=() if profiler is None else (profiler,),
            )
            if profiler is not None:
                self.run.update(profile=profiler.summary)
        if rank != 0:
            return {"run_id": self.run.run_id}
        return self._finish(opened, module, conductor, started)

    def _module(
        self, opened: Opened, state: dict[str, Any] | None, device: str
    ) -> tuple[TrainingModule, Plan]:
        recipe, feed = self.recipe, opened.feed
        _, count = processes()
        network = (
            build_network(recipe, self.initial, self._tell_pretrained)
            if state is None
            else build_network(recipe)
        )
        objective = build_objective(recipe, balanced_counts(recipe, feed))
        plan = make_plan(recipe, network, objective, feed, device, self.run.document if state else None)
        batches = feed.batches_per_epoch(plan.batch_size, count)
        steps = -(-batches // recipe.training.accumulate)
        plan.arithmetic.place_network(network, recipe.spatial_dims)
        if recipe.training.gradient_checkpointing:
            recompute_stages(network)
        module = TrainingModule(
            recipe,
            network,
            objective,
            arithmetic=plan.arithmetic,
            events=self.events,
            position=Position(),
            schedule=Schedule(recipe.schedule, steps, recipe.training.epochs, recipe.training.monitor.mode),
            batches_per_epoch=batches,
        )
        if state is not None:
            module.restore(state)
        module.rehearsal = rehearsal_of(recipe, self.data, self.out, network)
        return module, plan

    def _train_before(self, recipe: Recipe, folder: Path) -> dict[str, Any]:
        return train_recipe(
            recipe,
            data=self.data,
            out=folder,
            device=self.device,
            progress=self.progress,
            cancel=self.cancel,
            pause=self.pause,
        )

    def _profiler(self, module: TrainingModule) -> Profiler | None:
        if not self.profile or not self.run.leader:
            return None
        from core.compute.training.profiling import Profiler

        total = self.recipe.training.epochs * module.batches_per_epoch
        return Profiler(self.out, self.events, max(0, total - module.position.drawn))

    def _tell_pretrained(self, report: PretrainedReport) -> None:
        """Keep on record what a file of pretrained weights gave to the network."""
        self.run.update(pretrained=report.as_dict())
        self.events.note(
            "pretrained",
            f"{report.file} ({report.naming} names) filled {100 * report.coverage:.1f} % of the backbone; "
            f"{len(report.missing)} missing, {len(report.mismatched)} of other shapes, {len(report.unused)} unused. "
            + " ".join(report.notes),
        )

    def _samples(self, opened: Opened) -> Callable[[], Iterator[dict[str, Any]]] | None:
        """Return what sample pictures are drawn of: nothing that must not lie on the disk unsealed."""
        if self.recipe.data.source.name in PRIVATE_SOURCES or not opened.parts[Part.VALIDATION]:
            return None
        return opened.feed.validation_batches

    def _still_finished(self, why: str, position: Position) -> str:
        """Return why training had ended, empty when this recipe goes on from there."""
        training = self.recipe.training
        if why == "epochs" and position.epoch < training.epochs:
            return ""
        if why == "budget" and (
            training.budget_minutes is None or position.seconds < 60 * training.budget_minutes
        ):
            return ""
        return why

    def _finish(
        self, opened: Opened, module: TrainingModule, conductor: Conductor, started: float
    ) -> dict[str, Any]:
        self.run.update(state="evaluating", ended_by=conductor.finished or "epochs")
        finisher = Finisher(
            self.recipe,
            opened,
            self.events,
            self.out,
            self.run.run_id,
            self.progress,
            self.cancel,
            self.initial,
            self.private_key_file,
        )
        done = finisher.finish(module, conductor.watch, conductor.checkpoints)
        answer = answer_of(done, self.run.run_id, module.position.epoch, time.monotonic() - started)
        self.run.update(state="done", seconds=answer["seconds"], epochs=module.position.epoch)
        self.events.emit("done", bundle=answer["bundle"], step=module.position.step)
        self.progress("Done", 1.0)
        return answer


def _device(wanted: str) -> str:
    from core.compute.inference.networks import available_device

    return available_device(wanted)[0]


@contextmanager
def _trackers(recipe: Recipe, run: RunFolder, out: Path, events: EventLog) -> Iterator[None]:
    """Mirror the events into the trackers that the recipe asks for, and watch the machine."""
    if not run.leader:
        yield
        return
    from core.compute.training.tracking.exporters import Exporters, RunFacts
    from core.compute.training.tracking.hardware import HardwareWatch

    facts = RunFacts(run.run_id, recipe.name, recipe_document(recipe))
    exporters = Exporters(
        recipe.tracking, out, facts, lambda name, message: events.note(f"tracker_{name}", message)
    )
    events.listen(exporters)
    status = "failed"
    try:
        with HardwareWatch(out, recipe.tracking.hardware_every_s, events.pass_on):
            yield
        status = "success"
    except Cancelled:
        status = "aborted"
        raise
    finally:
        exporters.close(status)


@contextmanager
def _threads(recipe: Recipe) -> Iterator[None]:
    """Leave one processor to the reader unless the recipe or the environment says otherwise."""
    before = torch.get_num_threads()
    wanted = recipe.training.threads
    if wanted is None and "OMP_NUM_THREADS" not in os.environ:
        wanted = max(1, (os.cpu_count() or 2) - 1)
    if wanted is not None:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)
