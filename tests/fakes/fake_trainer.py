"""A training worker that speaks the real protocol and learns nothing: steps take milliseconds.

The learning rate chooses what it does: 0.01 a better model, 0.02 a worse one, 0.03 it raises, 0.04 it dies in the
middle (once: the second time it goes on), 0.05 it takes 40 ms a step, 0.06 it dies once while it compares.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from core.bundles.bundle import Bundle, read_bundle
from core.bundles.digest import bundle_digest
from core.bundles.manifest import MANIFEST_FILE
from core.bundles.writer import sign_bundle
from core.domain.errors import InputError
from core.domain.progress import Cancelled
from core.jobs.messages import CompareTask
from core.recipes.cases import Part
from core.recipes.schema import Recipe
from core.recipes.sources.library_cases import read_case_list
from core.worker.paired import paired
from core.worker.trainer import main
from core.worker.training_tasks import TrainingRunner

STEPS_PER_EPOCH = 5
BETTER, WORSE, RAISES, DIES, SLOW, DIES_COMPARING = 0.01, 0.02, 0.03, 0.04, 0.05, 0.06


def train(
    recipe: Recipe,
    *,
    data: Path,
    out: Path,
    resume: bool,
    device: str,
    progress: Any,
    cancel: Any,
    pause: Any,
    on_event: Any,
    initial: Bundle,
) -> dict[str, Any]:
    out.mkdir(parents=True, exist_ok=True)
    cases = read_case_list(data / "cases.json").cases
    assert not [c for c in cases if c.part is Part.TEST and "train" in c.id]
    counter, rate = out / "step.txt", recipe.optimizer.learning_rate
    first = int(counter.read_text()) if resume and counter.exists() else 0
    total = recipe.training.epochs * STEPS_PER_EPOCH

    def tell(event: str, **fields: Any) -> None:
        document = {"event": event, "time_utc": "2026-01-01T00:00:00.000+00:00", **fields}
        with (out / "events.jsonl").open("a") as stream:
            stream.write(json.dumps(document) + "\n")
        on_event(document)

    for step in range(first, total):
        if pause.is_paused:
            tell("paused", step=step)
            pause.wait_while_paused(cancel)
            tell("resumed", step=step)
        if cancel.is_cancelled:
            raise Cancelled
        time.sleep(0.04 if rate == SLOW else 0.002)
        counter.write_text(str(step + 1))
        loss = 1.0 / (step + 1)
        tell("step", step=step + 1, epoch=step // STEPS_PER_EPOCH, loss=loss, learning_rate=rate, seconds=0.0)
        if (step + 1) % STEPS_PER_EPOCH == 0:
            values = {"train_loss": loss, "validation_loss": 2 * loss}
            tell("epoch", step=step + 1, epoch=step // STEPS_PER_EPOCH, values=values)
        progress("Training", (step + 1) / total)
        if step == 2 and rate == RAISES:
            raise InputError("fake.refused", "The fake refused.", "Ask it nicely.")
        if step == 2 and rate == DIES and first == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    tell("note", code="early_stopping", message="It stopped early.")
    shutil.rmtree(out / "bundle", ignore_errors=True)
    shutil.copytree(initial.path, out / "bundle")
    manifest = initial.manifest.model_copy(update={"version": recipe.bundle.version})
    (out / "bundle" / MANIFEST_FILE).write_bytes(manifest.to_json())
    sign_bundle(out / "bundle", None)
    return {"bundle": str(out / "bundle"), "epochs": recipe.training.epochs, "seconds": 1.0, "rate": rate}


def compare(task: CompareTask, *, progress: Any, cancel: Any, pause: Any) -> dict[str, Any]:
    folder = Path(task.cases_folder)
    tested = [case for case in read_case_list(folder / "cases.json").cases if case.part is Part.TEST]
    rate = json.loads((folder.parent / "run" / "rate.json").read_text())
    died = folder.parent / "run" / "died.txt"
    if rate == DIES_COMPARING and not died.exists():
        died.write_text("once")
        os.kill(os.getpid(), signal.SIGKILL)
    gain = -0.3 if rate == WORSE else 0.05
    rows = [
        {
            "case_id": case.id,
            "patient": case.patient,
            "current": 0.8,
            "candidate": 0.8 + gain + 0.01 * n,
            "per_label": {},
        }
        for n, case in enumerate(tested)
    ]
    progress("Comparing", 0.5)
    for row in rows:
        row["per_label"] = {"Bone": [row["current"], row["candidate"]]}
    return {
        "metric": "dice",
        **paired(rows, task.seed),
        "cases": rows,
        "current_sha256": bundle_digest(read_bundle(Path(task.current_path))),
        "candidate_sha256": bundle_digest(read_bundle(Path(task.candidate_path))),
    }


def train_and_note(recipe: Recipe, **arguments: Any) -> dict[str, Any]:
    """Train, and leave the rate for the comparison."""
    outcome = train(recipe, **arguments)
    (arguments["out"] / "rate.json").write_text(json.dumps(outcome.pop("rate")))
    return outcome


if __name__ == "__main__":
    sys.exit(main(TrainingRunner(train_and_note, compare), yields=False))
