"""Lightning's Trainer as this application uses it: no files of its own, no bars, our checkpoints and data order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as pl

from core.compute.training.conductor import Conductor
from core.compute.training.feed import Feed, TrainLoader, ValidationLoader
from core.compute.training.module import TrainingModule
from core.compute.training.quiet import quiet_lightning
from core.compute.training.run_folder import processes
from core.domain.errors import BugError


def build_trainer(
    *,
    device: str,
    epochs: int,
    out: Path,
    callbacks: Sequence[pl.Callback],
    loggers: Sequence[Any] = (),
) -> pl.Trainer:
    """Return a Trainer for this process.

    Several processes (``torch.distributed.run``) average their gradients by DDP: gloo on processors, NCCL on GPUs. On
    GPUs batch normalisation is synchronised; on processors torch has no such layer and each process uses its own half.
    """
    _, count = processes()
    strategy: Any = "auto"
    devices, nodes = 1, 1
    if count > 1:
        from lightning.pytorch.strategies import DDPStrategy

        strategy = DDPStrategy(process_group_backend="gloo" if device == "cpu" else "nccl")
        devices = int(os.environ.get("LOCAL_WORLD_SIZE", str(count)))
        nodes = count // devices
    trainer = pl.Trainer(
        accelerator="cpu" if device == "cpu" else "cuda",
        devices=devices,
        num_nodes=nodes,
        strategy=strategy,
        max_epochs=epochs,
        logger=list(loggers) or False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        inference_mode=False,
        sync_batchnorm=count > 1 and device != "cpu",
        default_root_dir=out,
    )
    # Lightning would take SIGTERM for the end of a training (exit status 0). Who starts the training handles signals.
    trainer._signal_connector.register_signal_handlers = lambda: None
    return trainer


def fit(trainer: pl.Trainer, module: TrainingModule, feed: Feed, batch_size: int) -> None:
    """Train from the module's position to the end of the recipe.

    Raises
    ------
    Cancelled
        When asked to.
    """
    place = module.position
    rank, count = processes()
    progress = trainer.fit_loop.epoch_progress.current
    progress.ready = progress.started = progress.processed = progress.completed = place.epoch
    loader = TrainLoader(feed, place, batch_size, rank, count)
    validation = ValidationLoader(lambda: feed.validation_batches(rank, count))
    trainer.fit(module, loader, validation if feed.counts.get("validation") else None)


def run_fit(
    module: TrainingModule,
    feed: Feed,
    conductor: Conductor,
    *,
    device: str,
    epochs: int,
    batch_size: int,
    out: Path,
    more: Sequence[pl.Callback] = (),
) -> str:
    """Train quietly, with ``more`` callbacks before the conductor.

    Returns why training ended: ``epochs``, ``early_stopping`` or ``budget``.

    Raises
    ------
    Cancelled
        When asked to.
    BugError
        ``training.stopped`` when Lightning came back without having trained to an end.
    """
    with quiet_lightning():
        trainer = build_trainer(device=device, epochs=epochs, out=out, callbacks=[*more, conductor])
        fit(trainer, module, feed, batch_size)
    conductor.cancel.raise_if_cancelled()
    if not conductor.finished:
        raise BugError("training.stopped", "Training stopped before its end.", "Resume it; report this.")
    return conductor.finished
