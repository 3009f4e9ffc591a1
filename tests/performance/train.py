"""Steps of the engine against plain Lightning with MONAI in float32; two processes against one; cached epochs.

Each variant trains a few steps in turn, round after round; the median time from the end of one step to the end of
the next counts, the first step of each turn left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

STEPS = 5
DDP_STEPS = 6


def recipe(task: str, dims: int, **training: Any) -> Any:
    """A recipe as the engine needs it; data and network are given separately."""
    from core.recipes.load import parse_recipe

    return parse_recipe(
        {
            "name": "bench",
            "task": task,
            "spatial_dims": dims,
            "data": {"source": {"name": "library_cases"}},
            "network": {"name": "cnn2d"},
            "optimizer": {"name": "adamw", "learning_rate": 0.001},
            "schedule": {"name": "constant"},
            "training": {
                "epochs": 1,
                "checkpoints": {"every_steps": 10_000},
                "precision": "auto",
                "memory_format": "auto",
                **training,
            },
            "bundle": {
                "id": "bench",
                "title": "Bench",
                "labels": [{"value": value, "name": f"label {value}"} for value in range(1, 3)]
                if task == "segmentation"
                else [{"value": value, "name": f"class {value}"} for value in range(6)],
            },
        }
    )


class OneBatch:
    """The same batch, as often as wanted."""

    def __init__(self, batch: dict[str, Any], steps: int) -> None:
        self.batch, self.steps = batch, steps
        self.counts = {"train": 1, "validation": 0, "test": 0}
        self.class_counts = (1,)

    def batches_per_epoch(self, batch_size: int, world: int) -> int:
        del batch_size, world
        return self.steps

    def train_batches(
        self, epoch: int, first: int, batch_size: int, rank: int, world: int
    ) -> Iterator[dict[str, Any]]:
        del epoch, batch_size
        rows = {key: value[rank::world] for key, value in self.batch.items()}
        for _ in range(first, self.steps):
            yield rows

    def validation_batches(self, rank: int = 0, world: int = 1) -> Iterator[dict[str, Any]]:
        del rank, world
        yield from ()

    def test_batches(self) -> Iterator[dict[str, Any]]:
        yield from ()


def unet_3d() -> tuple[Any, Any, dict[str, Any], Any]:
    """MONAI's U-Net 16/32/64/128 on 64³, batch of 2; Dice and cross-entropy."""
    import torch
    from monai.losses import DiceCELoss
    from monai.networks.nets import UNet

    torch.manual_seed(0)
    network = UNet(3, 1, 3, (16, 32, 64, 128), (2, 2, 2), num_res_units=2)
    loss = DiceCELoss(to_onehot_y=True, softmax=True)
    images, target = torch.randn(2, 1, 64, 64, 64), torch.randint(0, 3, (2, 64, 64, 64))
    batch = {"image": images, "target": target, "case": ["a", "b"]}
    return network, _with_channel(loss), batch, ("segmentation", 3)


def densenet_2d() -> tuple[Any, Any, dict[str, Any], Any]:
    """MONAI's DenseNet121 on 224², batch of 4; cross-entropy."""
    import torch
    from monai.networks.nets import DenseNet121

    torch.manual_seed(0)
    network = DenseNet121(2, 1, 6)
    batch = {"image": torch.randn(4, 1, 224, 224), "target": torch.arange(4), "case": list("abcd")}
    return network, torch.nn.CrossEntropyLoss(), batch, ("classification", 2)


def _with_channel(loss: Any) -> Any:
    import torch

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = loss

        def forward(self, logits: Any, target: Any) -> Any:
            return self.inner(logits, target.unsqueeze(1))

    return Wrapped()


CASES = {"unet3d-64-bs2": unet_3d, "densenet121-224-bs4": densenet_2d}


def plain_turn(network: Any, loss: Any, batch: dict[str, Any], steps: int) -> list[float]:
    """Train with Lightning as its documentation shows it; returns seconds from step to step."""
    import lightning.pytorch as pl
    import torch

    class Plain(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.loss = network, loss

        def training_step(self, given: dict[str, Any], number: int) -> Any:
            del number
            return self.loss(self.network(given["image"]), given["target"])

        def configure_optimizers(self) -> Any:
            return torch.optim.AdamW(self.parameters(), lr=0.001)

    ends: list[float] = []

    class Clock(pl.Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            ends.append(time.perf_counter())

    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Clock()],
    )
    trainer.fit(Plain(), torch.utils.data.DataLoader([batch] * steps, batch_size=None))
    return [b - a for a, b in pairwise(ends)]


def our_turn(network: Any, loss: Any, feed: OneBatch, kind: Any, how: Any, folder: Path) -> dict[str, Any]:
    """Train with the engine; returns seconds from step to step and the losses."""
    from core.compute.training.checkpoints import Checkpoints
    from core.compute.training.conductor import Conductor
    from core.compute.training.events import EventLog
    from core.compute.training.fitting import run_fit
    from core.compute.training.module import TrainingModule
    from core.compute.training.position import Position, Schedule, watch_of
    from core.compute.training.run_folder import processes
    from core.domain.progress import no_progress

    settings = recipe(*kind)
    rank, _ = processes()
    steps: list[dict[str, Any]] = []

    def heard(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            steps.append(event)

    events = EventLog(folder / "events.jsonl" if rank == 0 else None, heard)
    how.place_network(network, kind[1])
    module = TrainingModule(
        settings,
        network,
        loss,
        arithmetic=how,
        events=events,
        position=Position(),
        schedule=Schedule(settings.schedule, feed.steps, 1),
        batches_per_epoch=feed.steps,
    )
    conductor = Conductor(
        settings,
        Checkpoints(folder / "checkpoints"),
        events,
        watch_of(settings),
        leader=rank == 0,
        progress=no_progress,
        cancel=None,
        pause=None,
        out=folder,
    )
    run_fit(module, feed, conductor, device="cpu", epochs=1, batch_size=1, out=folder)
    events.close()
    return {"seconds": [s["seconds"] for s in steps[1:]], "losses": [s["loss"] for s in steps]}


def compare(name: str, rounds: int, folder: Path) -> dict[str, Any]:
    """Return median seconds per step of the peer, of ours in float32 and of ours as chosen, and the choices."""
    import copy

    from core.compute.training.precision import candidates, choose, measure

    network, loss, batch, kind = CASES[name]()
    training = recipe(*kind).training
    options = candidates(training, "cpu")
    trials = measure(network, loss, batch, options, device="cpu", seed=0)
    chosen = choose(trials)
    exact = choose([trial for trial in trials if trial.arithmetic.precision == "fp32"])
    feed = OneBatch(batch, STEPS)
    seconds: dict[str, list[float]] = {"lightning": [], "fp32": [], "auto": []}
    for turn in range(rounds):
        for variant in seconds:
            own = copy.deepcopy(network)
            place = folder / f"{name}-{variant}-{turn}"
            if variant == "lightning":
                seconds[variant] += plain_turn(own, loss, batch, STEPS)
            else:
                how = exact if variant == "fp32" else chosen
                seconds[variant] += our_turn(own, loss, feed, kind, how, place)["seconds"]
    found: dict[str, Any] = {key: statistics.median(values) for key, values in seconds.items()}
    least = {key: min(values) for key, values in seconds.items()}
    return found | {
        "ratio_of_least": least["lightning"] / least["auto"],
        "ratio_of_least_in_fp32": least["lightning"] / least["fp32"],
        "chosen": str(chosen),
        "exact": str(exact),
        "trials": [trial.sentence() for trial in trials],
    }


def ddp_network() -> tuple[Any, Any, OneBatch, Any]:
    """A small network without batch statistics, and a batch of four."""
    import torch

    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 8, 3, stride=2),
        torch.nn.InstanceNorm2d(8, affine=True),
        torch.nn.ReLU(),
        torch.nn.Conv2d(8, 8, 3, stride=2),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(8, 6),
    )
    batch = {"image": torch.randn(4, 1, 32, 32), "target": torch.arange(4), "case": list("abcd")}
    return network, torch.nn.CrossEntropyLoss(), OneBatch(batch, DDP_STEPS), ("classification", 2)


def ddp_losses(folder: Path) -> list[float]:
    """Train the small network in this process, or as one of those that ``torch.distributed.run`` started."""
    from core.compute.training.arithmetic import Arithmetic

    return list(our_turn(*ddp_network(), Arithmetic(), folder)["losses"])


def ddp_difference(folder: Path) -> float:
    """Return the largest difference of the losses of two processes and of one with the double batch."""
    out = folder / "two"
    subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0"),
            *(__file__, "--ddp-child", str(out)),
        ],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    lines = (out / "events.jsonl").read_text(encoding="utf-8").splitlines()
    two = [event["loss"] for event in map(json.loads, lines) if event["event"] == "step"]
    one = ddp_losses(folder / "one")
    return max(abs(a - b) for a, b in zip(one, two, strict=True))


def main() -> None:
    """Print the document of the bench contract."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--case", choices=sorted(CASES), action="append")
    parser.add_argument("--without", choices=("ddp", "cache"), action="append", default=[])
    parser.add_argument("--ddp-child", type=Path)
    options = parser.parse_args()
    import torch

    if options.ddp_child is not None:
        ddp_losses(options.ddp_child)
        return
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    from core.compute.training.quiet import quiet_lightning

    with tempfile.TemporaryDirectory() as temporary, quiet_lightning():
        folder = Path(temporary)
        found = {name: compare(name, options.rounds, folder) for name in options.case or CASES}
        ratios: dict[str, float] = {}
        ours: dict[str, Any] = {}
        for name, row in found.items():
            ratios[f"{name}: step rate/Lightning fp32"] = row["lightning"] / row["auto"]
            ratios[f"{name}: step rate in fp32/Lightning fp32"] = row["lightning"] / row["fp32"]
            ours[name] = {key: value for key, value in row.items() if key != "lightning"}
        if "ddp" not in options.without:
            ours["two processes: largest difference of losses"] = ddp_difference(folder)
    peers: dict[str, Any] = {"Lightning fp32": {name: row["lightning"] for name, row in found.items()}}
    if "cache" not in options.without:
        from tests.performance.cache import cached_epoch_ratio

        cached = cached_epoch_ratio(options.rounds)
        ratios["cached epoch/PersistentDataset"] = cached["ratio"]
        ours["cached epoch"] = cached
    document = {
        "name": "train",
        "ratios": ratios,
        "ours": ours,
        "peers": peers,
        "rounds": options.rounds,
        "machine": {"processor": platform.machine(), "threads": options.threads},
    }
    sys.stdout.write(json.dumps(document, indent=None if options.json else 2) + "\n")


if __name__ == "__main__":
    main()
