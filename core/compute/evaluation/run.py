"""Evaluate a model on data with a known answer: run it, measure, judge, compare, report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.bundles.bundle import Bundle, read_bundle
from core.bundles.catalogue import Catalogue
from core.bundles.manifest import MANIFEST_FILE
from core.compute.evaluation.assess import Evaluation, assess
from core.compute.evaluation.evaluation_set import EvaluationSet, kept_out_of_training, read_evaluation_set
from core.compute.evaluation.predicting import predict_cases
from core.compute.evaluation.reader_study import ReaderStudy
from core.compute.evaluation.report import write_report
from core.compute.training.events import EVENTS_FILE, read_events
from core.config.paths import Paths
from core.config.resources import shipped_bundles_dir
from core.domain.errors import InputError
from core.domain.progress import CancelToken, Progress, no_progress
from core.recipes.gates import Gates, read_gates, shipped_gates
from core.recipes.load import load_recipe

BUNDLE_FOLDER, RECIPE_FILE = "bundle", "recipe.yaml"
UNKNOWN_TRAINING_OF_OTHERS = (
    "Whether a model that was compared was trained on some of these cases can't be told; if it was, the comparison "
    "favours it."
)
UNKNOWN_TRAINING = (
    "Whether the model was trained on some of these cases can't be told from the model; if it was, the values are "
    "too good."
)


@dataclass(frozen=True, eq=False)
class OpenedModel:
    """A bundle, and the folder of the run that made it when it was given as one."""

    bundle: Bundle
    run_folder: Path | None = None


def open_model(model: str | Path, home: Path | None = None) -> OpenedModel:
    """Open a bundle's path, a run's folder (or a checkpoint in it), or a model of the catalogue by id.

    Raises
    ------
    InputError
        ``model.unknown``; ``evaluation.no_bundle`` for a run that has not written its bundle yet.
    """
    path = Path(model)
    if not path.exists():
        return OpenedModel(Catalogue([shipped_bundles_dir(), Paths.resolve(home).bundles]).get(str(model)))
    if (path / MANIFEST_FILE).is_file() or path.suffix.lower() == ".zip":
        run = path.resolve().parent if path.resolve().name == BUNDLE_FOLDER else None
        return OpenedModel(read_bundle(path), run)
    # A checkpoint lies in its run's folder or one below.
    for folder in (path,) if path.is_dir() else path.resolve().parents[:2]:
        if (folder / BUNDLE_FOLDER).is_dir():
            return OpenedModel(read_bundle(folder / BUNDLE_FOLDER), folder)
    if path.is_dir() and any((path / name).exists() for name in (EVENTS_FILE, "run.json")):
        raise InputError(
            "evaluation.no_bundle",
            "This run has not written its model yet.",
            "Let the training finish, or evaluate another model.",
        )
    return OpenedModel(read_bundle(path))


def open_gates(gates: str | Path | None) -> Gates | None:
    """Read a gates file, or shipped gates by name; InputError as ``read_gates`` and ``shipped_gates``."""
    if gates is None:
        return None
    path = Path(gates)
    return read_gates(path if path.suffix or path.exists() else shipped_gates(str(gates)))


def _recipe_gates(model: OpenedModel) -> str | None:
    """Return the gates that the recipe of a run names."""
    if model.run_folder is None or not (model.run_folder / RECIPE_FILE).is_file():
        return None
    return load_recipe(model.run_folder / RECIPE_FILE).evaluation.gates


def dataset_of(model: OpenedModel, data: Path) -> EvaluationSet:
    """Return the cases below a folder; of the data that a run was trained on, only those it never saw.

    Raises
    ------
    AppError
        From ``read_evaluation_set`` and ``kept_out_of_training``.
    """
    manifest = model.bundle.manifest
    if model.run_folder is not None:
        kept = kept_out_of_training(model.run_folder, data, manifest)
        if kept is not None:
            return kept
    found = read_evaluation_set(data, manifest)
    return replace(found, notes=(*found.notes, UNKNOWN_TRAINING))


def evaluate_models(
    model: OpenedModel,
    dataset: EvaluationSet,
    *,
    gates: Gates | None = None,
    compare: Sequence[Bundle] = (),
    case_names: tuple[str, ...] | None = None,
    tolerance_mm: float = 2.0,
    resamples: int = 2000,
    seed: int = 0,
    device: str = "auto",
    backend: str | None = None,
    probe_folder: Path | None = None,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> Evaluation:
    """Run a model, and others to compare it with, on the same cases and evaluate the answers.

    Parameters
    ----------
    compare : sequence of Bundle
        Each is taken as the current model, the evaluated one as its candidate.
    case_names : tuple of str, optional
        What the cases are called in results and reports; their numbers by default. Must hold no identity.

    Raises
    ------
    AppError
        From ``predict_cases``.
    Cancelled
        When asked to; nothing is written.
    """
    bundles = [model.bundle, *compare]
    share = 0.95 / len(bundles)
    answers = []
    for n, bundle in enumerate(bundles):

        def part(phase: str, fraction: float, n: int = n) -> None:
            progress(phase, share * (n + fraction))

        answers.append(
            predict_cases(
                bundle,
                dataset,
                case_names=case_names,
                tolerance_mm=tolerance_mm,
                device=device,
                backend=backend,
                probe_folder=probe_folder,
                progress=part,
                cancel=cancel,
            )
        )
    progress("Measuring", 0.95)
    events = read_events(model.run_folder / EVENTS_FILE) if model.run_folder else []
    return assess(
        dataset,
        answers[0],
        others=answers[1:],
        gates=gates,
        tolerance_mm=tolerance_mm,
        resamples=resamples,
        seed=seed,
        curves=[e for e in events if e.get("event") in ("epoch", "step")],
    )


def evaluate(
    model: str | Path,
    data: Path,
    *,
    gates: str | Path | None = None,
    compare: Sequence[str | Path] = (),
    out: Path,
    home: Path | None = None,
    device: str = "auto",
    tolerance_mm: float = 2.0,
    resamples: int = 2000,
    study: ReaderStudy | None = None,
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
) -> dict[str, Any]:
    """Evaluate as the command line does and write the report to ``out``.

    Parameters
    ----------
    gates : str or pathlib.Path, optional
        A file, or shipped gates by name; for a run's folder those of its recipe when none are given.
    study : ReaderStudy, optional
        A reader study of this model, reported beside it.

    Returns
    -------
    dict
        The content of ``metrics.json`` and ``report_html``, ``report_pdf``, ``metrics_json`` (paths).

    Raises
    ------
    AppError
        For a model, data or gates that can't be used.
    """
    opened = open_model(model, home)
    others = [open_model(other, home).bundle for other in compare]
    wanted = open_gates(gates if gates is not None else _recipe_gates(opened))
    dataset = dataset_of(opened, data)
    evaluation = evaluate_models(
        opened,
        dataset,
        gates=wanted,
        compare=others,
        tolerance_mm=tolerance_mm,
        resamples=resamples,
        device=device,
        probe_folder=Paths.resolve(home).root / "probes",
        progress=progress,
        cancel=cancel,
    )
    more = (UNKNOWN_TRAINING_OF_OTHERS,) if others else ()
    evaluation = replace(evaluation, study=study, notes=(*evaluation.notes, *more))
    progress("Writing the report", 0.97)
    files = write_report(evaluation, out)
    progress("Done", 1.0)
    return {**evaluation.document(), **{name: str(path) for name, path in files.items()}}
