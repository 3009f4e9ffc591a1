"""The catalogue of models, and which of them fit a series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from core.bundles.bundle import Bundle
from core.bundles.catalogue import Catalogue, Version
from core.bundles.estimate import estimate_seconds
from core.bundles.fit import fit
from core.config.resources import shipped_bundles_dir
from core.domain.study import SeriesSummary
from core.services.engine import Engine
from core.services.list_studies import get_series, get_study

_CAM = ("gradcam", "gradcam++", "layercam", "ig", "occlusion")


@dataclass(frozen=True)
class ModelRow:
    """One model as panels and the command line show it.

    ``fits`` is None when no series was asked about; ``estimate_s`` None when nothing was measured on this
    machine; ``card`` is the model card in Markdown. ``labels`` are structures and classes, ``inputs`` the contrasts
    that a model takes together (empty: one series), ``missing_inputs`` those that the study lacks, ``measurements``
    what the model estimates, with units.
    """

    id: str
    version: str
    task: str
    title: str
    labels: tuple[str, ...]
    fits: bool | None
    why: str
    verified: str
    licence: str
    card: str
    description: str = ""
    intended_use: str = ""
    estimate_s: float | None = None
    explain_methods: tuple[str, ...] = ()
    explain_why: str = ""
    sha256: str = ""
    inputs: tuple[str, ...] = ()
    measurements: tuple[str, ...] = ()
    takes_text: bool = False
    missing_inputs: tuple[str, ...] = ()


def catalogue(engine: Engine) -> Catalogue:
    """Read the shipped, the user's and the promoted bundles; every file is verified."""
    return Catalogue(
        [shipped_bundles_dir(), engine.paths.bundles],
        promoted_versions(engine),
    )


def promoted_versions(engine: Engine) -> dict[str, Version]:
    """Return the promoted versions in use, as the library knows them, by model."""
    with engine.unit_of_work(writes=False) as uow:
        current = uow.promotions.current()
    return {
        model_id: Version(engine.paths.root / record.folder, record.bundle_sha256)
        for model_id, record in current.items()
    }


def list_models(engine: Engine, series_key: str | None = None) -> list[ModelRow]:
    """Return all models, those that fit the series first.

    Parameters
    ----------
    series_key : str, optional
        Key of a series of the library; without it ``fits`` is None.

    Raises
    ------
    InputError
        ``library.unknown_series``.
    """
    summary = get_series(engine, series_key)[0] if series_key else None
    study = () if summary is None else get_study(engine, summary.study_uid).series
    rows = [_row(engine, bundle, summary, study) for bundle in catalogue(engine).list()]
    return sorted(rows, key=lambda row: (row.fits is False, row.title))


def _row(
    engine: Engine, bundle: Bundle, summary: SeriesSummary | None, study: Sequence[SeriesSummary]
) -> ModelRow:
    manifest = bundle.manifest
    answer = None if summary is None else fit(manifest, summary, study)
    has_network = manifest.network is not None
    return ModelRow(
        manifest.id,
        manifest.version,
        manifest.task,
        manifest.title,
        tuple(label.name for label in (*manifest.labels, *manifest.classes)),
        None if answer is None else answer.fits,
        "" if answer is None else answer.why,
        bundle.verification,
        manifest.licence,
        bundle.card,
        manifest.description,
        manifest.intended_use,
        None if summary is None else estimate_seconds(bundle, summary, engine.paths.root / "probes"),
        _CAM if has_network else ("occlusion",),
        "" if has_network else "It comes as ONNX only: gradients can't be taken, its answers can be probed.",
        bundle.identity.sha256,
        manifest.inputs,
        tuple(f"{item.name} ({item.unit})" for item in manifest.measurements),
        manifest.text is not None,
        () if answer is None else answer.missing,
    )
