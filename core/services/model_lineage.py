"""Where a model came from: data, run, evaluation, and the verdicts that taught it."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.bundles.bundle import Bundle
from core.bundles.digest import bundle_digest
from core.domain.errors import InputError
from core.domain.training import Candidate
from core.recipes.runs import METRICS_FILE, RECIPE_FILE, RUN_FILE
from core.services.engine import Engine

_EVALUATION = "evaluation"
_OF_RUN = ("run_id", "name", "seed", "versions", "started_utc", "data_fingerprint", "split_sha256", "epochs")


@dataclass(frozen=True)
class Judged:
    """An evaluation: its document, and the sha256 of the file it stands in. ``passed`` is None without gates."""

    document: Mapping[str, Any]
    sha256: str

    @property
    def passed(self) -> bool | None:
        """Whether all gates passed."""
        return None if not self.document.get("gates") else self.document.get("passed") is True

    def numbers(self) -> dict[str, float]:
        """Return the plain numbers of the metrics."""
        metrics = self.document.get("metrics", {})
        return {
            str(key): float(value)
            for key, value in metrics.items()
            if isinstance(value, int | float) and not isinstance(value, bool)
        }


def lineage_of(
    engine: Engine, bundle: Bundle, run_folder: Path | None, evaluation: Judged | None
) -> dict[str, Any]:
    """Return the document of what a bundle came from, without any identity.

    Parameters
    ----------
    run_folder : pathlib.Path or None
        Of the training, where the bundle is a run's.
    evaluation : Judged or None
        As ``evaluation_of`` found it.

    Returns
    -------
    dict
        ``bundle`` (id, version, sha256), and of what is known: ``run`` with ``data_fingerprint`` and
        ``split_sha256``, ``recipe_sha256``, ``evaluation``, ``candidate`` with the verdicts that it learnt from.
    """
    document: dict[str, Any] = {
        "bundle": {
            "id": bundle.id,
            "version": bundle.manifest.version,
            "sha256": bundle_digest(bundle),
            "weights_sha256": bundle.identity.sha256,
            "source": bundle.manifest.source,
            "training_data": bundle.manifest.training_data,
            "licence": bundle.manifest.licence,
            "verified": bundle.verification,
        }
    }
    if run_folder is not None:
        run = _document(run_folder / RUN_FILE)
        document["run"] = {key: run[key] for key in _OF_RUN if key in run}
        recipe = run_folder / RECIPE_FILE
        if recipe.is_file():
            document["recipe_sha256"] = hashlib.sha256(recipe.read_bytes()).hexdigest()
    if evaluation is not None:
        document["evaluation"] = {
            "sha256": evaluation.sha256,
            "metrics": evaluation.document.get("metrics", {}),
            "gates": evaluation.document.get("gates", []),
            "passed": evaluation.passed,
        }
    candidate = _candidate(engine, bundle)
    if candidate is not None:
        document["candidate"] = _of_candidate(engine, candidate)
    return document


def evaluation_of(bundle: Bundle, run_folder: Path | None, given: Path | None) -> Judged | None:
    """Return the evaluation that a user names, or the run's own; None when there is none.

    Parameters
    ----------
    given : pathlib.Path or None
        Folder of ``overread evaluate``, or its ``metrics.json``.

    Raises
    ------
    InputError
        ``registry.evaluation`` when the file can't be read or is of other weights.
    """
    file = None
    if given is not None:
        file = given / METRICS_FILE if given.is_dir() else given
    elif run_folder is not None and (run_folder / _EVALUATION / METRICS_FILE).is_file():
        file = run_folder / _EVALUATION / METRICS_FILE
    if file is None:
        return None
    try:
        data = file.read_bytes()
        document = json.loads(data)
        weights = str(document["model"]["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            "registry.evaluation",
            f"{file.name} is no evaluation.",
            "Give the folder that “overread evaluate” wrote.",
        ) from error
    if weights != bundle.identity.sha256:
        raise InputError(
            "registry.evaluation",
            f"This evaluation is of other weights ({weights[:12]}…) than the model ({bundle.identity.sha256[:12]}…).",
            "Evaluate the model that is to be registered.",
        )
    return Judged(document, hashlib.sha256(data).hexdigest())


def _candidate(engine: Engine, bundle: Bundle) -> Candidate | None:
    digest = bundle_digest(bundle)
    with engine.unit_of_work(writes=False) as uow:
        return next((c for c in uow.candidates.all(bundle.id) if c.bundle_sha256 == digest), None)


def _of_candidate(engine: Engine, candidate: Candidate) -> dict[str, Any]:
    """Return what a candidate learnt from: counts and identifiers of ours, no reader, no patient."""
    with engine.unit_of_work(writes=False) as uow:
        records = uow.trainings.cases(candidate.run_id)
        promotions = [
            record.entry
            for record in uow.promotions.of_model(candidate.model_id)
            if record.entry.candidate_id == candidate.candidate_id
        ]
    labels = [label for record in records for label in _labels(record.document)]
    return {
        "candidate_id": candidate.candidate_id,
        "run_id": candidate.run_id,
        "base_version": candidate.base_version,
        "base_sha256": candidate.base_sha256,
        "state": candidate.state.value,
        "gates_passed": candidate.passed,
        "cases": len(records),
        "verdicts": dict(sorted(Counter(str(label.get("verdict", "")) for label in labels).items())),
        "decision_ids": sorted({str(label["decision_id"]) for label in labels if label.get("decision_id")}),
        "promotions": [{"action": entry.action, "utc": entry.created_utc} for entry in promotions],
    }


def _labels(document: str) -> list[dict[str, Any]]:
    parsed = json.loads(document)
    found = parsed.get("labels", []) if isinstance(parsed, dict) else parsed
    return [label for label in found if isinstance(label, dict)]


def _document(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            "registry.run", f"{file.name} of the run can't be read.", "Register the bundle itself."
        ) from error
    return document if isinstance(document, dict) else {}
