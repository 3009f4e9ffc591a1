"""One training for every recipe: what a batch, a step and a validation do. Lightning runs it."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from core.compute.inference.backends import is_out_of_memory
from core.compute.training.arithmetic import Arithmetic
from core.compute.training.averaging import Average
from core.compute.training.chance import generator_for, seed_batch
from core.compute.training.events import EventLog
from core.compute.training.freezing import Freezer, build_optimizer
from core.compute.training.meters import AnyMeter, meter_for
from core.compute.training.mixing import Mixture, mix
from core.compute.training.position import Position, Schedule
from core.compute.training.rehearsal import Rehearsal
from core.compute.training.validating import NetworkBackend, validate_case
from core.domain.errors import EnvironmentFault, InputError
from core.recipes.schema import Recipe

# After so many batches whose gradients were not finite, training goes on in float32 for good.
OVERFLOW_LIMITS = {"bf16": 3, "fp16": 20}


class TrainingModule(pl.LightningModule):
    """A network, its loss and its optimiser, driven by a recipe.

    Batches of one accumulation group are kept until their step is done: when memory runs out they are computed again in
    smaller micro-batches, when gradients overflow in reduced precision they are computed again in float32.

    Parameters
    ----------
    network, loss : torch.nn.Module
        The loss takes float32 logits ``(N, C, …)`` and int64 targets, or dicts by task. Its parameters train too.
    position, schedule : Position, Schedule
        Advanced in place.
    batches_per_epoch : int
        Batches of this process in an epoch.
    micro_batch : int or None
        Samples per pass; None: the whole batch.
    """

    runner: Any

    def __init__(
        self,
        recipe: Recipe,
        network: nn.Module,
        loss: nn.Module,
        *,
        arithmetic: Arithmetic,
        events: EventLog,
        position: Position,
        schedule: Schedule,
        batches_per_epoch: int,
        micro_batch: int | None = None,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.recipe, self.network, self.loss = recipe, network, loss
        self.arithmetic, self.events = arithmetic, events
        self.position, self.schedule = position, schedule
        self.batches_per_epoch, self.micro_batch = batches_per_epoch, micro_batch
        self.average = Average(network, recipe.training.ema_decay)
        self.freezer = Freezer(network, recipe.training.freezing)
        self.optimizer = build_optimizer(recipe, network, loss)
        self.scaler = torch.amp.GradScaler("cuda", enabled=arithmetic.precision == "fp16")
        self.overflows = 0
        self.rehearsal: Rehearsal | None = None
        self.epoch_loss = [0.0, 0.0]
        self.values: dict[str, float] = {}
        self.meter: AnyMeter = meter_for(recipe)
        # Not a submodule: its parameters are the network's.
        object.__setattr__(self, "runner", torch.compile(network) if recipe.training.compile else network)
        self._group: list[tuple[dict[str, Any], int]] = []
        self._losses: list[Tensor] = []
        self._averaged: AbstractContextManager[None] | None = None
        self._clock = time.perf_counter()

    def configure_optimizers(self) -> Any:
        """Return the optimiser."""
        return self.optimizer

    # -- training ------------------------------------------------------------------------------

    def on_train_epoch_start(self) -> None:
        """Freeze and unfreeze."""
        free = self.freezer.apply(self.position.epoch, keep_gradients=self._world > 1)
        every = self.recipe.training.freezing.unfreeze_every
        if free and every and self.position.batch == 0 and self.position.epoch % every == 0:
            self.events.note(
                "unfreeze", f"{free} stages of the backbone train from epoch {self.position.epoch}."
            )
        self._clock = time.perf_counter()

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Compute the gradients of a batch; step when its accumulation group is complete."""
        del batch_idx
        place = self.position
        group = self._group_size()
        self._group.append((batch, place.drawn))
        self._gradients(batch, place.drawn, group)
        place.batch += 1
        place.drawn += 1
        if len(self._group) == group:
            self._step(group)
            self._group, self._losses = [], []

    def _group_size(self) -> int:
        """Return how many batches make the step that the current batch belongs to."""
        accumulate = self.recipe.training.accumulate
        start = self.position.batch - len(self._group)
        return min(accumulate, self.batches_per_epoch - start)

    def _gradients(self, batch: dict[str, Any], drawn: int, group: int) -> None:
        """Add the gradients of one batch; after running out of memory those of its whole group, in smaller pieces."""
        try:
            self._losses.append(self._pieces(batch, drawn, 1.0 / group, self.arithmetic))
        except Exception as error:
            size = self.micro_batch or len(batch["image"])
            if self.runner is not self.network and not is_out_of_memory(error):
                self._give_up_compiling(error)
                self._again(group, self.arithmetic)
                return
            if not is_out_of_memory(error) or size == 1 or self._world > 1:
                raise _translated(error, size) from error
            self.micro_batch = (size + 1) // 2
            self.events.note(
                "oom", f"Memory ran out with {size} samples: {self.micro_batch} at a time from here on."
            )
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self._again(group, self.arithmetic)

    def _give_up_compiling(self, error: Exception) -> None:
        object.__setattr__(self, "runner", self.network)
        self.events.note(
            "compile_fallback",
            f"The network could not be compiled ({type(error).__name__}): it runs as it is.",
        )

    def _again(self, group: int, how: Arithmetic) -> None:
        """Compute the group so far anew."""
        self.optimizer.zero_grad(set_to_none=True)
        self._losses = []
        for index, (batch, drawn) in enumerate(list(self._group)):
            if how is self.arithmetic:
                done = self._group
                self._group = done[: index + 1]
                self._gradients(batch, drawn, group)
                self._group = done
            else:
                self._losses.append(self._pieces(batch, drawn, 1.0 / group, how))

    def _pieces(self, batch: dict[str, Any], drawn: int, share: float, how: Arithmetic) -> Tensor:
        """Add the gradients of a batch piece by piece and return its mean loss (detached)."""
        training = self.recipe.training
        seed_batch(self.recipe.seed, drawn, self.global_rank)
        mixture = Mixture.of(batch)
        if training.mixup:
            mixture = mix(mixture, training.mixup, generator_for(self.recipe.seed, "mixup", drawn))
        count = len(mixture.images)
        size = min(self.micro_batch or count, count)
        total = torch.zeros((), device=mixture.images.device)
        self._announce(mixture)
        for start in range(0, count, size):
            piece = mixture.piece(start, start + size)
            weight = len(piece.images) / count
            loss = piece.loss(self.runner, self.loss, how)
            self.manual_backward(self._scaled(loss * (weight * share), how))
            total += loss.detach() * weight
        if self.rehearsal is not None:
            extra = self.rehearsal.loss(self.network, drawn, mixture.images.device, how)
            self.manual_backward(self._scaled(extra * share, how))
        return total

    def _announce(self, mixture: Mixture) -> None:
        """Tell a loss of several tasks how much is known over all pieces and processes."""
        announce = getattr(self.loss, "announce", None)
        if announce is not None:
            announce(mixture.targets, self.trainer.strategy.reduce if self._world > 1 else None)

    def _scaled(self, loss: Tensor, how: Arithmetic) -> Tensor:
        return self.scaler.scale(loss) if how.precision == "fp16" else loss

    def _step(self, group: int) -> None:
        """Step the optimiser with finite gradients, whatever that takes."""
        how = self.arithmetic
        norm = self._norm(how)
        if not math.isfinite(norm) and how.precision != "fp32":
            norm = self._after_overflow(group, how)
        if not math.isfinite(norm):
            raise InputError(
                "training.diverged",
                f"The loss or its gradients are not finite at step {self.position.step}.",
                "Lower optimizer.learning_rate, set training.gradient_clip, or check the images.",
            )
        multiple = self.schedule.rate(self.position.step)
        for one in self.optimizer.param_groups:
            one["lr"] = one["full_rate"] * multiple
        self.optimizers().step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update(self.network, self.position.step)
        self._tell(multiple, norm)
        self.position.step += 1

    def _norm(self, how: Arithmetic) -> float:
        """Unscale and clip the gradients; returns their norm before clipping."""
        if how.precision == "fp16":
            self.scaler.unscale_(self.optimizer)
            self.scaler.update()
        self.freezer.drop_gradients()
        trained = (*self.network.parameters(), *self.loss.parameters())
        parameters = [p for p in trained if p.grad is not None]
        limit = self.recipe.training.gradient_clip or math.inf
        return float(nn.utils.clip_grad_norm_(parameters, limit))

    def _after_overflow(self, group: int, how: Arithmetic) -> float:
        self.overflows += 1
        self.events.note(
            "overflow",
            f"Gradients were not finite in {how.precision} at step {self.position.step} (number {self.overflows}): "
            "the step was computed again in fp32.",
        )
        exact = replace(how, precision="fp32")
        self._again(group, exact)
        if self.overflows >= OVERFLOW_LIMITS[how.precision]:
            self.arithmetic = exact
            self.events.note(
                "precision",
                f"After {self.overflows} overflows training goes on in fp32 from step {self.position.step}.",
            )
        return self._norm(exact)

    def _tell(self, multiple: float, norm: float) -> None:
        loss = torch.stack(self._losses).mean()
        if self._world > 1:
            loss = self.trainer.strategy.reduce(loss, reduce_op="mean")
        value = float(loss)
        self.epoch_loss[0] += value
        self.epoch_loss[1] += 1
        now = time.perf_counter()
        seconds, self._clock = now - self._clock, now
        rate = self.recipe.optimizer.learning_rate * multiple
        place = self.position
        self.events.emit(
            "step",
            step=place.step,
            epoch=place.epoch,
            loss=value,
            seconds=round(seconds, 5),
            learning_rate=rate,
            gradient_norm=norm,
        )
        for logger in self.trainer.loggers:
            logger.log_metrics({"train_step_loss": value, "learning_rate": rate}, step=place.step)

    @property
    def _world(self) -> int:
        return int(self.trainer.world_size)

    # -- validation ----------------------------------------------------------------------------

    def on_validation_epoch_start(self) -> None:
        """Take the averaged weights."""
        self.meter = meter_for(self.recipe)
        self._averaged = self.average.within(self.network)
        self._averaged.__enter__()

    def validation_step(self, batch: dict[str, Any], batch_idx: int) -> None:
        """Gather the answers to one batch of cases."""
        del batch_idx
        backend = NetworkBackend(self.network, self.arithmetic, self.device)
        validate_case(batch, backend, self.loss, self.recipe, self.meter)

    def on_validation_epoch_end(self) -> None:
        """Give the trained weights back and compute the values over all processes."""
        if self._averaged is not None:
            self._averaged.__exit__(None, None, None)
            self._averaged = None
        if self._world > 1:
            everyone: list[Any] = [None] * self._world
            torch.distributed.all_gather_object(everyone, self.meter.parts())
            self.meter = meter_for(self.recipe)
            for parts in everyone:
                self.meter.merge(parts)
        self.values = self.meter.values() | getattr(self.loss, "learnt", dict)()
        self.freezer.freeze_statistics()

    # -- checkpoints ---------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on, as tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "loss": {name: p.detach().clone() for name, p in self.loss.named_parameters()},
            "average": self.average.values if self.average.decay else {},
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "schedule": self.schedule.state(),
            "position": self.position.state(),
            "epoch_loss": list(self.epoch_loss),
            "precision": self.arithmetic.precision,
            "memory_format": self.arithmetic.memory_format,
            "micro_batch": self.micro_batch,
            "overflows": self.overflows,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` returned."""
        self.network.load_state_dict(state["network"])
        for name, parameter in self.loss.named_parameters():
            parameter.data.copy_(state["loss"][name])
        if self.average.decay:
            for key, value in state["average"].items():
                self.average.values[key].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])
        self.schedule.load(state["schedule"])
        for key, value in state["position"].items():
            setattr(self.position, key, value)
        self.epoch_loss = list(state["epoch_loss"])
        self.arithmetic = Arithmetic(state["precision"], state["memory_format"])
        self.micro_batch, self.overflows = state["micro_batch"], int(state["overflows"])


def _translated(error: Exception, size: int) -> Exception:
    if not is_out_of_memory(error):
        return error
    return EnvironmentFault(
        "training.memory",
        f"There is not enough memory to train with {size} samples at a time.",
        "Make data.sampling.patch_kji, preprocessing.resize_hw or the network smaller.",
    )
