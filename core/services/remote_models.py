"""Models of servers beside those of this computer."""

from __future__ import annotations

from dataclasses import dataclass

from core.bundles.fit import fit
from core.bundles.manifest import Manifest
from core.config.settings import RemoteEngine
from core.domain.errors import EnvironmentFault, InputError
from core.domain.result import ModelIdentity
from core.domain.segmentation import SegmentDefinition
from core.jobs.server_address import SERVER
from core.services.engine import Engine
from core.services.list_models import ModelRow
from core.services.list_studies import get_series, get_study
from core.services.remote_engine import find_engine, known_model

_NO_MAPS = "Its model runs on another computer; where it looked can be asked of models of this computer only."


@dataclass(frozen=True, eq=False)
class RemoteModel:
    """A model that a server has, as ``core.services.job_kinds.RunnableModel``."""

    entry: RemoteEngine
    manifest: Manifest

    @property
    def id(self) -> str:
        """Identifier of the model."""
        return self.manifest.id

    @property
    def identity(self) -> ModelIdentity:
        """Identifier, version and sha256 as the server stated them when it was connected."""
        model = self.entry.model
        return ModelIdentity(model.id, model.version, model.sha256, self.manifest.title)

    @property
    def segments(self) -> tuple[SegmentDefinition, ...]:
        """What the values of the label map stand for."""
        return self.manifest.segments()


def is_remote(model_id: str) -> bool:
    """Whether an identifier is that of a server's model."""
    return model_id.startswith(SERVER)


def remote_id(name: str, model_id: str) -> str:
    """Return the identifier of a server's model."""
    return f"{SERVER}{name}/{model_id}"


def find_remote(engine: Engine, model_id: str) -> RemoteModel:
    """Return the model of ``server:NAME/MODEL`` as it was connected; the server isn't asked.

    Raises
    ------
    InputError
        ``engine.unknown``, or ``engine.no_such_model`` when the server has another one.
    EnvironmentFault
        ``engine.forgotten``.
    """
    name, _, wanted = model_id.removeprefix(SERVER).partition("/")
    entry = find_engine(engine, name)
    if wanted and wanted != entry.model.id:
        raise InputError(
            "engine.no_such_model",
            f"{name} has the model {entry.model.id}, not {wanted[:63]}.",
            "Name that one, or connect another server.",
        )
    return RemoteModel(entry, known_model(engine, entry).manifest)


def list_remote_models(engine: Engine, series_key: str | None = None) -> list[ModelRow]:
    """Return the models of the connected servers as ``list_models`` does; no server is asked.

    Raises
    ------
    InputError
        ``library.unknown_series``.
    """
    entries = engine.settings.remote_engines
    if not entries:
        return []
    summary = get_series(engine, series_key)[0] if series_key else None
    study = () if summary is None else get_study(engine, summary.study_uid).series
    rows = []
    for entry in entries:
        try:
            known = known_model(engine, entry)
        except EnvironmentFault as error:
            rows.append(_lost(entry, error, summary is not None))
            continue
        answer = None if summary is None else fit(known.manifest, summary, study)
        why = "" if answer is None else answer.why
        if answer is not None and answer.fits and not known.knows_needs:
            why = f"{entry.name} doesn't say which series its model was made for: see its card."
        manifest = known.manifest
        rows.append(
            ModelRow(
                remote_id(entry.name, manifest.id),
                manifest.version,
                manifest.task,
                manifest.title,
                tuple(label.name for label in (*manifest.labels, *manifest.classes)),
                None if answer is None else answer.fits,
                why,
                "signed" if known.verified else "unsigned",
                manifest.licence,
                known.card,
                manifest.description,
                manifest.intended_use,
                explain_why=_NO_MAPS,
                sha256=entry.model.sha256,
                inputs=manifest.inputs,
                measurements=tuple(f"{item.name} ({item.unit})" for item in manifest.measurements),
                takes_text=manifest.text is not None,
                missing_inputs=() if answer is None else answer.missing,
            )
        )
    return rows


def _lost(entry: RemoteEngine, error: EnvironmentFault, asked: bool) -> ModelRow:
    model = entry.model
    return ModelRow(
        remote_id(entry.name, model.id),
        model.version,
        "",
        model.title or model.id,
        (),
        False if asked else None,
        error.user_message,
        "unsigned",
        "",
        "",
        sha256=model.sha256,
    )
