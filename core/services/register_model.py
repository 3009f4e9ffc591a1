"""Enter a model in the registry, move its aliases, and find a registered one by name and alias.

The registry is the data scientist's. What readers use is decided by promotion (``promote_model``), never here.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from core.bundles.bundle import Bundle, read_bundle
from core.bundles.digest import bundle_digest
from core.bundles.manifest import MANIFEST_FILE
from core.config.atomic import atomic_write_text
from core.domain.audit import AuditCode
from core.domain.errors import InputError, SafetyError
from core.recipes.runs import RUN_FILE
from core.registry.store import LINEAGE_FILE, ModelRegistry, RegisteredVersion, already
from core.registry.versions import check_alias, check_name, parse_reference, parse_version
from core.services.engine import Engine
from core.services.list_models import catalogue
from core.services.model_lineage import Judged, evaluation_of, lineage_of
from core.services.promote_model import plain_name
from core.services.registered_models import registered_bundle, verified

View = Callable[[Bundle, Path], Path | None]
"""Writes what MLflow's own readers open below a folder and returns where; None when the model has no such form."""
PRODUCTION, STAGING, ARCHIVED = "production", "staging", "archived"
STAGES = (STAGING, PRODUCTION, ARCHIVED)
_BUNDLE = "bundle"
_MAX_DESCRIPTION = 4000


def register_model(
    engine: Engine,
    model: str | Path,
    version: str,
    *,
    name: str | None = None,
    tags: Mapping[str, str] | None = None,
    stage: str = "",
    by: str = "",
    evaluation: Path | None = None,
    view: View | None = None,
) -> RegisteredVersion:
    """Copy a model into the registry as a new version that never changes.

    Parameters
    ----------
    model : str or pathlib.Path
        A run's folder, a checkpoint in it, a bundle's path, or a model of the catalogue by id.
    version : str
        Semantic version.
    name : str, optional
        Of the registered model; the bundle's id by default.
    stage : str
        ``staging``, ``production`` or ``archived``: also becomes the alias of that name. Production asks for an
        evaluation whose gates all passed, and for who decides.
    by : str
        The person who decides on production.
    evaluation : pathlib.Path, optional
        Folder that ``overread evaluate`` wrote; a run's own by default.
    view : callable, optional
        Writes the form that MLflow's readers open.

    Raises
    ------
    InputError
        ``registry.version``, ``registry.name``, ``registry.tag``, ``registry.stage``, ``registry.exists``,
        ``registry.evaluation``, ``registry.no_name``; ``model.unknown``.
    SafetyError
        ``registry.gates`` for production without passed gates.
    EnvironmentFault
        From the registry's database.
    """
    number = str(parse_version(version))
    bundle, run_folder = _opened(engine, model)
    called = check_name(name or bundle.id)
    judged = evaluation_of(bundle, run_folder, evaluation)
    _check_stage(engine, bundle, stage, by, judged)
    registry = ModelRegistry(engine.paths.registry)
    place = registry.place_of(called, number)
    if place.exists() or any(known.version == number for known in registry.versions(called)):
        raise already(called, number)
    lineage = lineage_of(engine, bundle, run_folder, judged)
    digest = bundle_digest(bundle)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".registering-", dir=place.parent) as temporary:
        staged = Path(temporary) / "version"
        _copy(bundle, staged / _BUNDLE, digest)
        text = json.dumps(lineage, indent=2, ensure_ascii=False) + "\n"
        atomic_write_text(staged / LINEAGE_FILE, text)
        opened = None if view is None else view(bundle, staged)
        inside = Path(_BUNDLE) if opened is None else opened.relative_to(staged)
        staged.rename(place)
    try:
        found = registry.register(
            called,
            number,
            sha256=digest,
            source=place / inside,
            description=bundle.card[:_MAX_DESCRIPTION] or bundle.manifest.title,
            tags=tags or {},
            stage=stage,
            metrics={} if judged is None else judged.numbers(),
            params=_params(bundle, lineage),
        )
        if stage:
            registry.set_alias(found, stage)
        _record(engine, AuditCode.MODEL_REGISTERED, found, by, {"to": stage} if stage else {})
    except BaseException:
        # What has no audit record was not done; files without a row would block the number for good.
        try:
            registry.discard(called, number)
        finally:
            shutil.rmtree(place, ignore_errors=True)
        raise
    return registry.find(parse_reference(f"{called}@{number}"))


def set_alias(engine: Engine, reference: str, alias: str, *, by: str = "") -> RegisteredVersion:
    """Let an alias point to a registered version.

    Parameters
    ----------
    reference : str
        ``NAME@X.Y.Z`` or ``NAME@ALIAS``.
    by : str
        The person who decides, where the alias is ``production``.

    Raises
    ------
    InputError
        ``registry.unknown``, ``registry.alias``, ``registry.no_name``.
    SafetyError
        ``registry.gates`` for production without passed gates, ``registry.changed``.
    """
    registry = ModelRegistry(engine.paths.registry)
    found = registry.find(parse_reference(reference))
    verified(found)
    if check_alias(alias) == PRODUCTION:
        evaluated = found.lineage().get("evaluation", {})
        candidate = found.lineage().get("candidate", {})
        _require_passed(found.name, by, evaluated.get("passed"), candidate.get("gates_passed"))
    before = next((one for one in registry.versions(found.name) if alias in one.aliases), None)
    registry.set_alias(found, alias)
    try:
        _record(engine, AuditCode.MODEL_ALIAS, found, by, {"alias": alias})
    except BaseException:
        if before is None:
            registry.remove_alias(found.name, alias)
        else:
            registry.set_alias(before, alias)
        raise
    return registry.find(parse_reference(f"{found.name}@{found.version}"))


def remove_alias(engine: Engine, reference: str) -> None:
    """Remove the alias of ``NAME@ALIAS``; raises InputError (``registry.unknown``) when there is none."""
    registry = ModelRegistry(engine.paths.registry)
    asked = parse_reference(reference)
    found = registry.find(asked)
    if not asked.alias:
        raise InputError("registry.alias", f"“{reference}” names no alias.", "Give NAME@ALIAS.")
    _record(engine, AuditCode.MODEL_ALIAS, found, "", {"from": asked.alias})
    registry.remove_alias(asked.name, asked.alias)


def set_tag(engine: Engine, reference: str, key: str, value: str) -> RegisteredVersion:
    """Set a tag of a registered version.

    Raises
    ------
    InputError
        ``registry.unknown``, ``registry.tag``.
    """
    registry = ModelRegistry(engine.paths.registry)
    found = registry.find(parse_reference(reference))
    registry.set_tag(found, key, value)
    return registry.find(parse_reference(f"{found.name}@{found.version}"))


def _opened(engine: Engine, model: str | Path) -> tuple[Bundle, Path | None]:
    """Return the bundle, and the run's folder where it is one's."""
    path = Path(model)
    if not path.exists():
        known = registered_bundle(engine.paths, str(model))
        return known or catalogue(engine).get(str(model)), None
    folders = [path, *path.resolve().parents[:2]] if path.is_file() else [path]
    for folder in folders:
        if (folder / RUN_FILE).is_file() and (folder / _BUNDLE / MANIFEST_FILE).is_file():
            return read_bundle(folder / _BUNDLE), folder
    parent = path.resolve().parent
    run = parent if path.resolve().name == _BUNDLE and (parent / RUN_FILE).is_file() else None
    return read_bundle(path), run


def _check_stage(engine: Engine, bundle: Bundle, stage: str, by: str, judged: Judged | None) -> None:
    if not stage:
        return
    if stage not in STAGES:
        raise InputError(
            "registry.stage", f"There is no stage “{stage}”.", f"Give one of {', '.join(STAGES)}."
        )
    if stage == PRODUCTION:
        digest = bundle_digest(bundle)
        with engine.unit_of_work(writes=False) as uow:
            candidates = [c.passed for c in uow.candidates.all(bundle.id) if c.bundle_sha256 == digest]
        _require_passed(bundle.id, by, None if judged is None else judged.passed, any(candidates))


def _require_passed(name: str, by: str, evaluated: bool | None, compared: bool | None) -> None:
    """Refuse production unless a person decides on a model whose every gate passed."""
    if evaluated is False or not (evaluated or compared):
        what = "did not pass every gate" if evaluated is False else "was not evaluated with gates"
        raise SafetyError(
            "registry.gates",
            f"“{name}” {what}: it can't be registered for production.",
            "Evaluate it with --gates and register it when every gate passes; staging needs no evaluation.",
        )
    if not by.strip():
        raise InputError(
            "registry.no_name", "Nobody is named who decides on production.", "Give a name with --by."
        )


def _copy(bundle: Bundle, target: Path, digest: str) -> None:
    for name in bundle.source.names():
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bundle.source.read(name))
    if bundle_digest(read_bundle(target)) != digest:
        raise SafetyError(
            "registry.changed", f"The files of “{bundle.id}” changed while they were copied.", "Try again."
        )


def _params(bundle: Bundle, lineage: Mapping[str, object]) -> dict[str, str]:
    run = lineage.get("run")
    facts = dict(run) if isinstance(run, Mapping) else {}
    keys = ("run_id", "name", "data_fingerprint", "split_sha256")
    named = {f"run.{key}" if key == "name" else key: str(facts[key]) for key in keys if key in facts}
    return {
        "bundle": bundle.id,
        "bundle_version": bundle.manifest.version,
        "task": bundle.manifest.task,
        "verified": bundle.verification,
        **named,
    }


def _record(
    engine: Engine, code: AuditCode, found: RegisteredVersion, by: str, more: Mapping[str, str]
) -> None:
    detail = {"model_id": found.name, "model_version": found.version, "model_sha256": found.sha256, **more}
    if by.strip():
        detail["by"] = plain_name(by.strip())
    engine.record(code, object_kind="model", object_ref=found.name, n_objects=1, detail=detail)
