"""The main job on the embedded sample, without a screen.

Make the sample studies, import them, run the shipped models, explain, decide, export, verify the audit
chain and draw what the viewer would show. Every step goes through the services that the window uses.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from core.config.atomic import atomic_write_text
from core.domain.errors import EnvironmentFault
from core.domain.progress import Progress, no_progress
from core.domain.result import ModelResult, Verdict
from core.domain.study import SeriesSummary
from core.domain.window import Window
from core.services import (
    explain_finding,
    export_result,
    import_study,
    list_models,
    list_studies,
    make_phantom,
    record_decision,
    render,
    run_model,
    verify_audit,
)
from core.services.engine import Engine, open_engine
from core.services.job_board import JobBoard

SEGMENTATION_MODEL = "thorax-ct"
CLASSIFICATION_MODEL = "mednist"
PICTURE_SIZE = (1600, 1200)
LUNG_WINDOW = Window(-600.0, 1500.0, "lung")

T = TypeVar("T")
Training = Callable[[Path, Progress], dict[str, Any]]


@dataclass
class DemoLog:
    """What was done so far: steps with seconds, and files."""

    progress: Progress
    steps: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)

    def step(self, name: str, work: Callable[[], T], summary: Callable[[T], str]) -> T:
        """Do one step, time it and note what came of it."""
        self.progress(name, 0.0)
        started = time.monotonic()
        outcome = work()
        seconds = round(time.monotonic() - started, 2)
        self.steps.append({"step": name, "seconds": seconds, "summary": summary(outcome)})
        return outcome

    def wrote(self, kind: str, path: Path, **more: Any) -> None:
        """Note a file."""
        self.files.append({"kind": kind, "path": str(path), **more})


def run_demo(
    out: Path,
    *,
    home: Path | None = None,
    seed: int = 7,
    progress: Progress = no_progress,
    training: Training | None = None,
) -> dict[str, Any]:
    """Do the main job and return what was done and where it lies.

    Parameters
    ----------
    out : pathlib.Path
        Folder that receives the sample, the exports and the pictures.
    home : pathlib.Path or None
        The library; else ``OVERREAD_HOME``, else a library of the demonstration's own under ``out``.
    training : callable, optional
        Trains a small model into the folder that it is given and returns what came of it, with a ``summary``. Services
        don't compute, so the caller brings it.

    Raises
    ------
    AppError
        If a step is refused; nothing is dressed up.
    """
    out = out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    if home is None and not os.environ.get("OVERREAD_HOME"):
        home = out / "home"
    log = DemoLog(progress)
    engine = open_engine(home)
    board = JobBoard(engine, resume=False)
    try:
        document = _main_job(engine, board, out, seed, log)
    finally:
        board.shutdown()
        engine.close()
    if training is not None:
        document["training"] = log.step(
            "train", lambda: training(out / "training", log.progress), lambda found: str(found["summary"])
        )
    atomic_write_text(out / "demo.json", json.dumps(document, indent=2, ensure_ascii=False))
    return document


def _main_job(engine: Engine, board: JobBoard, out: Path, seed: int, log: DemoLog) -> dict[str, Any]:
    ct, cxr = _import_samples(engine, out, seed, log)
    models = log.step(
        "models",
        lambda: list_models.list_models(engine, ct.key),
        lambda rows: f"{len(rows)} models in the catalogue",
    )
    del models
    thorax = _run(engine, board, SEGMENTATION_MODEL, ct, log)
    kind = _run(engine, board, CLASSIFICATION_MODEL, cxr, log)
    organ = next((s.label for s in thorax.segments if s.label.lower() == "liver"), thorax.segments[0].label)
    _explain(engine, board, thorax, organ, log)
    _explain(engine, board, kind, kind.classes[0].label, log)
    decisions = _decide(engine, thorax, log) + _decide(engine, kind, log)
    _export(engine, thorax, out / "export-thorax", log)
    _export(engine, kind, out / "export-cxr", log, kinds=("sr", "pm", "pdf"))
    _draw(engine, ct, thorax, organ, cxr, kind, out / "pictures", log)
    audit = log.step("audit", lambda: verify_audit.verify(engine), lambda a: f"{a.events} events, ok: {a.ok}")
    return {
        "ok": bool(audit.ok),
        "out": str(out),
        "home": str(engine.paths.root),
        "series": {"ct": ct.key, "cxr": cxr.key},
        "results": {"segmentation": thorax.result_id, "classification": kind.result_id},
        "volumes_ml": {s.label: round(s.volume_ml, 1) for s in thorax.segments},
        "classes": {c.label: round(c.probability, 4) for c in kind.classes},
        "decisions": decisions,
        "files": log.files,
        "steps": log.steps,
        "audit": {"events": audit.events, "ok": audit.ok, "first_bad_seq": audit.first_bad_seq},
    }


def _import_samples(
    engine: Engine, out: Path, seed: int, log: DemoLog
) -> tuple[SeriesSummary, SeriesSummary]:
    ct_dir, cxr_dir = out / "sample" / "ct-thorax", out / "sample" / "cxr"
    ct = log.step(
        "phantom ct",
        lambda: make_phantom.make_phantom("ct-thorax", ct_dir, seed=seed),
        lambda _: "synthetic chest CT",
    )
    cxr = log.step(
        "phantom cxr",
        lambda: make_phantom.make_phantom("cxr", cxr_dir, seed=seed),
        lambda _: "synthetic radiograph",
    )
    log.wrote("sample", ct_dir)
    log.wrote("sample", cxr_dir)
    log.step(
        "import",
        lambda: import_study.import_paths(
            engine, [ct_dir, cxr_dir], mode="link", progress=no_progress, cancel=None
        ),
        lambda r: (
            f"{len(r.studies)} studies, {r.already_present} files were there already, {len(r.skipped)} skipped"
        ),
    )
    return (
        list_studies.get_series(engine, ct["series_uid"])[0],
        list_studies.get_series(engine, cxr["series_uid"])[0],
    )


def _run(engine: Engine, board: JobBoard, model_id: str, series: SeriesSummary, log: DemoLog) -> ModelResult:
    def summary(result: ModelResult) -> str:
        if result.segments:
            return ", ".join(f"{s.label} {s.volume_ml:.0f} ml" for s in result.segments)
        best = max(result.classes, key=lambda c: c.probability)
        return f"{best.label} {best.probability:.2f}"

    return log.step(
        f"run {model_id}",
        lambda: run_model.run_model(engine, board, model_id, series.key, "auto", progress=log.progress),
        summary,
    )


def _explain(engine: Engine, board: JobBoard, result: ModelResult, label: str, log: DemoLog) -> None:
    log.step(
        f"explain {label}",
        lambda: explain_finding.explain(
            engine, board, result.result_id, "gradcam", label, "", progress=log.progress
        ),
        lambda e: (
            f"Grad-CAM at {e.layer}, {max(e.resolution_mm):.0f} mm cells, "
            f"randomisation correlation {e.randomisation_correlation}"
        ),
    )


def _decide(engine: Engine, result: ModelResult, log: DemoLog) -> list[dict[str, str]]:
    """Accept every finding but the last, which is marked unsure; the demonstration has no reader."""
    decisions = []
    for number, finding in enumerate(result.findings):
        verdict = Verdict.UNSURE if 0 < number == len(result.findings) - 1 else Verdict.ACCEPT
        decision, _ = record_decision.record_decision(
            engine, result.result_id, finding.id, verdict, "made by the demonstration, not by a reader"
        )
        decisions.append(
            {"finding": finding.label, "verdict": verdict.value, "decision_id": decision.decision_id}
        )
    log.steps.append(
        {"step": "decide", "seconds": 0.0, "summary": f"{len(decisions)} verdicts on {result.model.id}"}
    )
    return decisions


def _export(
    engine: Engine,
    result: ModelResult,
    out: Path,
    log: DemoLog,
    kinds: tuple[str, ...] = ("seg", "sr", "pm", "nifti", "pdf"),
) -> None:
    files = log.step(
        f"export {result.model.id}",
        lambda: export_result.export_result(engine, result.result_id, kinds, out),
        lambda all_: f"{len(all_)} objects, {sum(f.verified for f in all_)} read back and compared",
    )
    for file in files:
        log.wrote(file.kind, file.path, sop_instance_uid=file.sop_instance_uid, verified=file.verified)


def _draw(
    engine: Engine,
    ct: SeriesSummary,
    thorax: ModelResult,
    organ: str,
    cxr: SeriesSummary,
    kind: ModelResult,
    out: Path,
    log: DemoLog,
) -> None:
    """Draw stack, MPR with segments, heat maps and the 3-D view; a missing 3-D renderer is said, not hidden."""
    out.mkdir(parents=True, exist_ok=True)
    wanted: list[tuple[str, SeriesSummary, dict[str, Any]]] = [
        ("stack", ct, {"layout": "stack", "window": LUNG_WINDOW}),
        ("mpr-segments", ct, {"layout": "mpr", "result_id": thorax.result_id}),
        ("mpr-heatmap", ct, {"layout": "mpr", "result_id": thorax.result_id, "heatmap": f"gradcam:{organ}"}),
        ("volume-3d", ct, {"layout": "3d", "result_id": thorax.result_id}),
        (
            "cxr-heatmap",
            cxr,
            {"layout": "stack", "result_id": kind.result_id, "heatmap": f"gradcam:{kind.classes[0].label}"},
        ),
    ]
    for name, series, options in wanted:
        file = out / f"{name}.png"
        started = time.monotonic()
        try:
            render.render(engine, series.key, size=PICTURE_SIZE, out=file, **options)
        except EnvironmentFault as error:
            summary = f"not drawn: {error.user_message}"
        else:
            summary = file.name
            log.wrote("picture", file)
        log.steps.append(
            {"step": "draw", "seconds": round(time.monotonic() - started, 2), "summary": summary}
        )
