"""What happens between steps: cancel, pause, budget, memory watch, checkpoints, the books of an epoch."""

# ruff: noqa: ARG002
# (Lightning calls its hooks with arguments that not every hook needs.)

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import psutil
import torch

from core.compute.training.checkpoints import Checkpoints
from core.compute.training.events import EventLog
from core.compute.training.module import TrainingModule
from core.compute.training.pictures import write_samples
from core.compute.training.position import Watch
from core.compute.training.validating import NetworkBackend
from core.domain.errors import EnvironmentFault
from core.domain.progress import Cancelled, CancelToken, PauseToken, Progress
from core.recipes.schema import Recipe

_WATCH_SECONDS = 2.0
_LEAST_FREE_BYTES = 300 << 20
_CANCEL, _PAUSE, _BUDGET = 0, 1, 2


class Conductor(pl.Callback):
    """Lightning's callback that looks after a training.

    Parameters
    ----------
    leader : bool
        Whether this process writes files and events (the first of a distributed training, or the only one).
    samples : callable, optional
        Gives the validation batches that sample predictions are drawn of; None draws none.
    """

    def __init__(
        self,
        recipe: Recipe,
        checkpoints: Checkpoints,
        events: EventLog,
        watch: Watch,
        *,
        leader: bool,
        progress: Progress,
        cancel: CancelToken | None,
        pause: PauseToken | None,
        out: Path,
        samples: Callable[[], Iterator[dict[str, Any]]] | None = None,
    ) -> None:
        self.recipe, self.checkpoints, self.events, self.watch = recipe, checkpoints, events, watch
        self.leader, self.progress = leader, progress
        self.cancel, self.pause, self.out = cancel or CancelToken(), pause or PauseToken(), out
        self.samples = samples
        self.finished = ""
        self._began = time.monotonic()
        self._spent = 0.0
        self._looked = 0.0

    # -- between steps -------------------------------------------------------------------------

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        assert isinstance(pl_module, TrainingModule)
        self._spent, self._began = pl_module.position.seconds, time.monotonic()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Cancel, pause, and look at the memory."""
        assert isinstance(pl_module, TrainingModule)
        wishes = self._agreed(trainer, pl_module)
        if wishes[_CANCEL]:
            raise Cancelled
        if wishes[_PAUSE]:
            self._wait(trainer, pl_module)
        if time.monotonic() - self._looked > _WATCH_SECONDS:
            self._looked = time.monotonic()
            self._check_memory()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save every so many steps; stop when the time is up."""
        module = pl_module
        assert isinstance(module, TrainingModule)
        place = module.position
        place.seconds = self._spent + time.monotonic() - self._began
        stepped = not module._group
        total = self.recipe.training.epochs * module.batches_per_epoch
        self.progress("Training", min(1.0, place.drawn / max(total, 1)))
        last = place.batch >= module.batches_per_epoch
        if stepped and not last and place.step % self.recipe.training.checkpoints.every_steps == 0:
            self.save(module)
        if stepped and self._agreed(trainer, module)[_BUDGET]:
            self.finished = "budget"
            self.events.note(
                "budget", f"The time for training is over after {place.step} steps; evaluation follows."
            )
            trainer.should_stop = True

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Cancel between cases."""
        if trainer.world_size == 1:
            self.cancel.raise_if_cancelled()

    # -- the end of an epoch -------------------------------------------------------------------

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the epoch's values, keep it when it is among the best, decide whether to go on."""
        module = pl_module
        assert isinstance(module, TrainingModule)
        place = module.position
        values = self._values(module)
        monitored = values.get(f"validation_{self.recipe.training.monitor.value}", math.nan)
        if not math.isfinite(monitored) and not module.values:
            monitored = -values["train_loss"] if self.watch.mode == "max" else values["train_loss"]
        self.events.emit("epoch", epoch=place.epoch, step=place.step, values=values)
        for logger in trainer.loggers:
            logger.log_metrics(values, step=place.step)
        if module.schedule.observe(monitored):
            self.events.note("plateau", f"The learning rate fell to {module.schedule.factor:g} of its value.")
        self._keep(module, monitored, values)
        self._draw(module)
        if self.watch.observe(monitored) and not self.finished:
            self.finished = "early_stopping"
            self.events.note(
                "early_stopping",
                f"{self.recipe.training.monitor.value} has not improved for {self.watch.waited} epochs.",
            )
            trainer.should_stop = True
        if place.batch >= module.batches_per_epoch:
            place.epoch, place.batch = place.epoch + 1, 0
            module.epoch_loss = [0.0, 0.0]
        if place.epoch >= self.recipe.training.epochs and not self.finished:
            self.finished = "epochs"
        module.values = {}
        self.save(module)
        if self.leader:
            self.checkpoints.keep_best({str(item["file"]) for item in self.watch.best})

    def _values(self, module: TrainingModule) -> dict[str, float]:
        total, count = module.epoch_loss
        values = {"train_loss": total / count if count else math.nan}
        values |= {f"validation_{name}": value for name, value in module.values.items()}
        values["learning_rate"] = float(module.optimizer.param_groups[0]["lr"])
        return values

    def _keep(self, module: TrainingModule, monitored: float, values: dict[str, float]) -> None:
        epoch = module.position.epoch
        name = f"best-{epoch:05d}.ckpt"
        if self.watch.place(name, monitored, epoch, values.get("validation_loss", math.nan)) and self.leader:
            weights = module.average.state_for_export(module.network)
            self.checkpoints.save_best(name, {"weights": weights, "epoch": epoch, "values": values})

    def _draw(self, module: TrainingModule) -> None:
        """Write pictures of sample predictions after the first and every fifth epoch."""
        count, epoch = self.recipe.training.sample_predictions, module.position.epoch
        if not count or not self.leader or self.samples is None or (epoch and (epoch + 1) % 5):
            return
        name = f"samples/epoch-{epoch + 1:05d}.png"
        network_was_training = module.network.training
        module.network.eval()
        with module.average.within(module.network), torch.no_grad():
            backend = NetworkBackend(module.network, module.arithmetic, module.device)
            write_samples(self.out / name, self.samples(), backend, self.recipe, count)
        module.network.train(network_was_training)
        module.freezer.freeze_statistics()
        self.events.emit("sample", file=name, epoch=epoch, step=module.position.step)

    # -- saving and stopping -------------------------------------------------------------------

    def save(self, module: TrainingModule) -> None:
        """Write the last state; a resumed training begins here."""
        if not self.leader:
            return
        self.events.emit("checkpoint", file=self.checkpoints.upcoming, step=module.position.step)
        state = module.state() | {
            "watch": self.watch.state(),
            "finished": self.finished,
            "events_offset": self.events.offset,
        }
        self.checkpoints.save_last(state)

    def _wait(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        self.events.emit("paused", step=module.position.step)
        before = time.monotonic()
        while self._agreed(trainer, module)[_PAUSE]:
            if self._agreed(trainer, module)[_CANCEL]:
                raise Cancelled
            time.sleep(0.05)
        self._began += time.monotonic() - before
        module._clock = time.perf_counter()
        self.events.emit("resumed", step=module.position.step)

    def _agreed(self, trainer: pl.Trainer, module: TrainingModule) -> list[bool]:
        """Return (cancel, pause, budget) as all processes see it."""
        budget = self.recipe.training.budget_minutes
        over = budget is not None and module.position.seconds >= 60 * budget
        mine = [self.cancel.is_cancelled, self.pause.is_paused, over]
        if trainer.world_size == 1:
            return mine
        wishes = torch.tensor(mine, dtype=torch.float32, device=module.device)
        torch.distributed.all_reduce(wishes, torch.distributed.ReduceOp.MAX)
        return [bool(wish) for wish in wishes.tolist()]

    def _check_memory(self) -> None:
        """Stop before the system ends processes; the last checkpoint stays."""
        free = psutil.virtual_memory().available
        if free < _LEAST_FREE_BYTES:
            raise EnvironmentFault(
                "training.memory_low",
                f"Only {free >> 20} MB of memory are free: training stopped before the system would stop it.",
                "Close other programs and resume the training.",
            )
