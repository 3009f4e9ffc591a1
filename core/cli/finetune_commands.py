"""``finetune``, ``candidates``, ``promote``, ``rollback`` and ``models monitor``: learning from readers' verdicts.

Their services load scipy and more: each command imports its own.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from core.cli.model_commands import models_app
from core.cli.options import DeviceOption, HomeOption, JsonOption, engine_at
from core.cli.output import TerminalProgress, answer, tell
from core.domain.errors import EnvironmentFault, InputError
from core.domain.progress import Cancelled
from core.domain.training import (
    Candidate,
    CandidateState,
    ModelMonitor,
    ModelVersions,
    TrainingPreview,
    TrainingRun,
    TrainingState,
)
from core.recipes.finetune import parse_finetune
from core.services.engine import Engine

_POLL_S = 0.5
_ROLLED_BACK = "Rolled back on the command line."


def finetune_command(
    model_id: Annotated[str, typer.Argument(help="Model that learns from accepted and corrected findings.")],
    budget_minutes: Annotated[int, typer.Option("--budget-minutes", help="Time limit.")] = 60,
    epochs: Annotated[int, typer.Option("--epochs", help="How often each case is shown.")] = 10,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", help="How far a step moves the weights.")
    ] = 1e-4,
    seed: Annotated[int, typer.Option("--seed", help="Random seed.")] = 0,
    max_memory_mb: Annotated[int, typer.Option("--max-memory-mb", help="Memory limit.")] = 4096,
    leave_out: Annotated[list[str] | None, typer.Option("--leave-out", help="Case that isn't used.")] = None,
    night: Annotated[bool, typer.Option("--night", help="Wait for the night hours.")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Only say which cases would be used and why others not.")
    ] = False,
    device: DeviceOption = "auto",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model further on readers' verdicts and compare the candidate with it. Nothing is promoted by itself."""
    from core.services import start_training, training_cases

    settings = parse_finetune(
        {
            "model_id": model_id,
            "budget_minutes": budget_minutes,
            "epochs": epochs,
            "learning_rate": learning_rate,
            "seed": seed,
            "max_memory_mb": max_memory_mb,
            "excluded": list(leave_out or ()),
            "start": "night" if night else "now",
            "device": device,
        }
    )
    with engine_at(home) as engine:
        if preview:
            shown = training_cases.preview_cases(engine, model_id, settings.excluded, seed=seed)
            answer(preview_document(shown), as_json, lambda: preview_lines(shown))
            return
        run = start_training.start_training(engine, settings, progress=TerminalProgress())
        candidate = _trained(engine, run)
        document = candidate_document(candidate) | {"run_id": run.run_id, "cases_used": run.cases}
    answer(document, as_json, lambda: candidate_lines(candidate))


def candidates_command(
    model_id: Annotated[str, typer.Option("--model", help="Of this model only.")] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the candidates with their comparison, newest first."""
    from core.services import candidates

    with engine_at(home) as engine:
        found = candidates.list_candidates(engine, model_id or None)
        rows = [candidate_document(c) | {"why_not": candidates.why_not(engine, c)} for c in found]
    answer(
        {"candidates": rows},
        as_json,
        lambda: [line for c in found for line in candidate_lines(c)] or ["No candidates."],
    )


def promote_command(
    candidate: Annotated[str, typer.Argument(help="Identifier of the candidate.")],
    by: Annotated[str, typer.Option("--by", help="Who answers for it.")],
    reason: Annotated[str, typer.Option("--reason", help="Why.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a candidate the version in use. Refused when a gate failed."""
    from core.services import promote_model

    with engine_at(home) as engine:
        versions = promote_model.promote(engine, candidate, by, reason)
    _answer_versions(versions, as_json, {"candidate": candidate, "promoted": True})


def rollback_command(
    model_id: Annotated[str, typer.Argument()],
    by: Annotated[str, typer.Option("--by", help="Who answers for it; by default the reader.")] = "",
    reason: Annotated[str, typer.Option("--reason", help="Why.")] = _ROLLED_BACK,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make the former version of a model the one in use again, bit by bit the same."""
    from core.services import promote_model

    with engine_at(home) as engine:
        versions = promote_model.roll_back(engine, model_id, by or engine.actor, reason)
    _answer_versions(versions, as_json, {"rolled_back": True})


def monitor_command(
    model_id: Annotated[str, typer.Option("--model", help="Of this model only.")] = "",
    window_days: Annotated[int, typer.Option("--window-days", min=1, help="What counts as recent.")] = 30,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how readers agreed with each model over time, and whether its inputs or outputs drift."""
    from core.services import model_monitor

    with engine_at(home) as engine:
        found = model_monitor.watch_models(engine, model_id or None, window_days=window_days)
    answer(found, as_json, lambda: monitor_lines(found))


def candidate_document(candidate: Candidate) -> dict[str, Any]:
    """Return a candidate as the contract says it, with its gates and cases."""
    comparison = candidate.comparison
    return {
        "candidate": candidate.candidate_id,
        "model": candidate.model_id,
        "version": candidate.version,
        "current_version": candidate.base_version,
        "sha256": candidate.bundle_sha256,
        "comparison": None
        if comparison is None
        else {
            "metric": comparison.metric,
            "current": comparison.current,
            "candidate": comparison.candidate,
            "difference": comparison.difference,
            "ci95": list(comparison.ci95),
            "p": comparison.p,
            "corrected_difference": comparison.corrected_difference,
        },
        "gates": [
            {
                "name": g.title,
                "threshold": g.threshold,
                "value": g.value,
                "passed": g.passed,
                "reason": g.reason,
            }
            for g in candidate.gates
        ],
        "cases": [
            {
                "case": case.case_id,
                "series_uid": case.series_key,
                "current": case.current,
                "candidate": case.candidate,
                "difference": case.difference,
                "label_by": str(case.origin),
            }
            for case in (comparison.cases if comparison is not None else ())
        ],
        "state": str(candidate.state),
        "created": candidate.created_utc,
        "promoted": candidate.state is CandidateState.PROMOTED,
    }


def candidate_lines(candidate: Candidate) -> list[str]:
    """Return a candidate for a person."""
    lines = [f"{candidate.candidate_id}  {candidate.model_id} {candidate.version}  {candidate.state}"]
    if (found := candidate.comparison) is not None:
        low, high = found.ci95
        lines.append(
            f"  {found.metric}: {found.current:.3f} now, {found.candidate:.3f} candidate, "
            f"difference {found.difference:+.3f} ({low:+.3f} … {high:+.3f}), p = {found.p:.3g}"
        )
    lines += [f"  {'passed' if g.passed else 'FAILED'}  {g.title}: {g.reason}" for g in candidate.gates]
    return lines


def preview_document(preview: TrainingPreview) -> dict[str, Any]:
    """Return what a training would use."""
    return {
        "model": preview.model_id,
        "version": preview.version,
        "can_start": preview.can_start,
        "why": preview.refusal,
        "cases": [
            {
                "case": case.case_id,
                "series_uid": case.series_key,
                "patient": case.patient,
                "label_by": str(case.origin),
                "part": None if case.part is None else str(case.part),
                "included": case.included,
                "reason": case.reason,
            }
            for case in preview.cases
        ],
    }


def preview_lines(preview: TrainingPreview) -> list[str]:
    """Return what a training would use, for a person."""
    lines = [
        f"{case.case_id}  {case.patient}  {case.part or 'left out':10} {case.reason or 'by ' + case.origin}"
        for case in preview.cases
    ]
    return [*lines, preview.refusal] if preview.refusal else lines


def monitor_lines(found: ModelMonitor) -> list[str]:
    """Return agreement and alerts for a person."""
    lines = [
        f"{row.model_id:18} {row.version:8} {row.week}  {row.findings:4} findings: "
        f"{row.accept_rate:4.0%} accepted, {row.edit_rate:4.0%} corrected, {row.reject_rate:4.0%} rejected"
        for row in found.agreement
    ]
    return lines + [f"! {alert.message}" for alert in found.alerts] or ["No verdicts yet."]


def _trained(engine: Engine, run: TrainingRun) -> Candidate:
    """Wait for a training on a board that looks after it alone; an interrupt leaves it resumable."""
    from core.services import candidates
    from core.services.training_board import TrainingBoard

    board = TrainingBoard(engine, only=run.run_id, auto_resume=False)
    progress = TerminalProgress()
    try:
        board.wake()
        while not (now := board.wait(run.run_id, _POLL_S)).is_final:
            if now.state is TrainingState.INTERRUPTED:
                break
            if now.phase:
                progress(now.phase, now.fraction)
    except KeyboardInterrupt:
        tell("The training was interrupted; it goes on when the window is opened.")
        raise
    finally:
        board.shutdown()
    if now.state is TrainingState.CANCELLED:
        raise Cancelled()
    if now.state is TrainingState.FAILED:
        raise InputError(now.error_code, now.error, now.remedy)
    if now.state is not TrainingState.SUCCEEDED:
        raise EnvironmentFault(now.error_code or "training.interrupted", now.error, now.remedy)
    progress("Done", 1.0)
    return candidates.load_candidate(engine, now.candidate_id)


def _answer_versions(versions: ModelVersions, as_json: bool, more: dict[str, Any]) -> None:
    document = {
        "model": versions.model_id,
        "version": versions.current_version,
        "sha256": versions.current_sha256,
        "previous_version": versions.previous_version,
        **more,
    }
    answer(document, as_json, lambda: [f"{versions.model_id} {versions.current_version} is in use"])


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("finetune")(finetune_command)
    app.command("candidates")(candidates_command)
    app.command("promote")(promote_command)
    app.command("rollback")(rollback_command)
    models_app.command("monitor")(monitor_command)
