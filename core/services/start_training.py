"""Start a training on readers' verdicts: check, split, lay the cases out, queue it. Nothing of it changes a model."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from core.bundles.bundle import Bundle
from core.bundles.digest import bundle_digest
from core.config.sealed_file import open_plain, write_kept
from core.domain.audit import AuditCode, AuditOutcome
from core.domain.errors import EnvironmentFault, InputError, SafetyError
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.training import CasePart, TrainingPreview, TrainingRun, TrainingState
from core.library import documents
from core.library.repositories.training import CaseRecord
from core.recipes.finetune import FineTuneSettings
from core.services.engine import Engine
from core.services.lay_cases import LaidCase, lay_cases
from core.services.list_models import catalogue
from core.services.training_cases import preview_cases
from core.services.training_leaks import require_no_leaks
from core.services.training_recipe import finetune_recipe, next_version
from core.services.training_threads import thread_cap

CASES, RUN, RECIPE_FILE = "cases", "run", "recipe.json"


def start_training(
    engine: Engine,
    settings: FineTuneSettings,
    *,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> TrainingRun:
    """Queue a training; the training board takes it from there (call its ``wake``).

    Blocks while the cases are laid out, some seconds each.

    Raises
    ------
    InputError
        What keeps it from starting: ``training.too_few``, ``training.onnx_only``, ``model.unknown`` …
    SafetyError
        ``training.leak`` when a case tells of the frozen test set; the refusal is audited.
    AppError
        When a case can't be loaded or the disk is full. Nothing is kept then.
    """
    preview = preview_cases(engine, settings.model_id, settings.excluded, seed=settings.seed)
    if not preview.can_start:
        raise InputError(preview.refusal_code, preview.refusal, preview.remedy)
    bundle = catalogue(engine).get(settings.model_id)
    run_id = uuid.uuid4().hex
    folder = engine.paths.training / run_id
    try:
        laid = lay_cases(
            engine, bundle.manifest, preview.cases, folder / CASES, progress=progress, cancel=cancel
        )
        _require_no_leaks(engine, settings.model_id, laid)
        recipe = finetune_recipe(bundle, settings, preview, _version(engine, bundle), threads=thread_cap())
        _write_recipe(folder / RECIPE_FILE, recipe.model_dump_json(indent=1))
        if cancel is not None:
            cancel.raise_if_cancelled()
        return _queue(engine, run_id, settings, preview, bundle)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def recipe_text(engine: Engine, run_id: str) -> str:
    """Return the recipe of a training as JSON.

    Raises
    ------
    EnvironmentFault
        If it can't be read (``training.no_recipe``).
    """
    try:
        with open_plain(engine.paths.training / run_id / RECIPE_FILE) as stream:
            return stream.read().decode("utf-8")
    except OSError as error:
        raise EnvironmentFault(
            "training.no_recipe", "The folder of this training is gone.", "Start a new training."
        ) from error


def utc_now() -> str:
    """Return the time as rows hold it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _write_recipe(file: Path, text: str) -> None:
    try:
        write_kept(file, text.encode("utf-8"))
    except OSError as error:
        raise EnvironmentFault(
            "training.not_written",
            f"The recipe can't be written ({error.strerror or type(error).__name__}).",
            "Free space on the disk of the data folder.",
        ) from error


def _require_no_leaks(engine: Engine, model_id: str, laid: Sequence[LaidCase]) -> None:
    with engine.unit_of_work(writes=False) as uow:
        frozen = uow.frozen.of_model(model_id)
    try:
        require_no_leaks(laid, frozen)
    except SafetyError as error:
        engine.record(
            AuditCode.TRAINING_REFUSED,
            object_kind="model",
            object_ref=model_id,
            n_objects=len(laid),
            detail={"model_id": model_id, "cases": len(laid)},
            outcome=AuditOutcome.SERIOUS_FAILURE,
            reason=error.code,
        )
        raise


def _version(engine: Engine, bundle: Bundle) -> str:
    with engine.unit_of_work(writes=False) as uow:
        known = [candidate.version for candidate in uow.candidates.all(bundle.id)]
    return next_version([bundle.manifest.version, *known])


def _queue(
    engine: Engine,
    run_id: str,
    settings: FineTuneSettings,
    preview: TrainingPreview,
    bundle: Bundle,
) -> TrainingRun:
    counts = {str(part): preview.count(part) for part in CasePart}
    now = utc_now()
    run = TrainingRun(
        run_id,
        preview.model_id,
        preview.title,
        preview.version,
        bundle_digest(bundle),
        TrainingState.QUEUED,
        waits_for="night" if settings.start == "night" else "turn",
        epochs=settings.epochs,
        cases=counts,
        settings=settings.model_dump(mode="json"),
        actor=engine.actor,
        created_utc=now,
        updated_utc=now,
    )
    sides = {c.patient: "test" if c.part is CasePart.TEST else "train" for c in preview.included}
    with engine.unit_of_work() as uow:
        uow.frozen.assign(preview.model_id, sides)
        uow.trainings.add(run, _records(run_id, preview))
        engine.record(
            AuditCode.TRAINING_STARTED,
            action="C",
            object_kind="model",
            object_ref=preview.model_id,
            n_objects=len(preview.included),
            detail={
                "run_id": run_id,
                "model_id": preview.model_id,
                "model_version": preview.version,
                "model_sha256": run.base_sha256,
                "cases": len(preview.included),
                "test_cases": counts["test"],
                "patients": len(sides),
                "skipped": sum(case.code == "left_out" for case in preview.cases),
            },
        )
    return run


def _records(run_id: str, preview: TrainingPreview) -> list[CaseRecord]:
    return [
        CaseRecord(
            run_id,
            case.case_id,
            case.study_uid,
            case.series_key,
            case.result_id,
            case.patient,
            str(case.part),
            documents.labels_to_json(case.labels),
        )
        for case in preview.included
    ]
