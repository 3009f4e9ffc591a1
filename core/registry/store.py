"""Versions of models in MLflow's registry, in a SQLite file below the home; their files lie beside it.

MLflow numbers versions 1, 2, 3 …; the semantic version, the digest of the files and where they lie are tags of it. A
version's files are never changed: its digest is checked before it is used.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from core.config.telemetry import refuse_telemetry
from core.domain.errors import EnvironmentFault, InputError
from core.registry.versions import Reference, check_alias, check_name, parse_version

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE, MODELS, LINEAGE_FILE = "mlflow.db", "models", "lineage.json"
_OWN = "overread."
_VERSION, _FOLDER, _SHA256, _STAGE = f"{_OWN}version", f"{_OWN}folder", f"{_OWN}sha256", f"{_OWN}stage"
_MAX_TAG = 500
_EXPERIMENT = "registered models"


@dataclass(frozen=True)
class RegisteredVersion:
    """One version of a registered model.

    Attributes
    ----------
    version : str
        Semantic version.
    number : int
        MLflow's own, from 1 in the order of registration.
    folder : pathlib.Path
        Holds ``bundle``, ``lineage.json`` and, where the model has an ONNX file, ``mlflow``.
    sha256 : str
        Digest of all files of the bundle, as ``core.bundles.digest`` makes it.
    aliases : tuple of str
        Those that point here now.
    tags : mapping of str to str
        The user's.
    stage : str
        The stage that it was registered for, empty without one.
    created_utc_ms : int
        Milliseconds since 1970.
    """

    name: str
    version: str
    number: int
    folder: Path
    sha256: str
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    stage: str = ""
    description: str = ""
    created_utc_ms: int = 0

    @property
    def bundle(self) -> Path:
        """The bundle's folder."""
        return self.folder / "bundle"

    def lineage(self) -> dict[str, Any]:
        """Return the document of what this version came from; empty when it can't be read."""
        try:
            document = json.loads((self.folder / LINEAGE_FILE).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}


class ModelRegistry:
    """The registry below a folder; made when absent.

    Parameters
    ----------
    folder : pathlib.Path
        ``Paths.registry``.

    Raises
    ------
    EnvironmentFault
        ``registry.not_installed`` without MLflow, ``registry.unusable`` when its database can't be used.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._client_made: MlflowClient | None = None

    @property
    def exists(self) -> bool:
        """Whether anything was ever registered here."""
        return (self.folder / DATABASE).is_file()

    @property
    def uri(self) -> str:
        """MLflow's address of the database, for ``mlflow ui --backend-store-uri``."""
        return f"sqlite:///{(self.folder / DATABASE).as_posix()}"

    def place_of(self, name: str, version: str) -> Path:
        """Return the folder that a version's files belong in."""
        return self.folder / MODELS / check_name(name) / str(parse_version(version))

    def register(
        self,
        name: str,
        version: str,
        *,
        sha256: str,
        source: Path,
        description: str,
        tags: Mapping[str, str],
        stage: str,
        metrics: Mapping[str, float],
        params: Mapping[str, str],
    ) -> RegisteredVersion:
        """Enter a version whose files already lie in ``place_of(name, version)``.

        Parameters
        ----------
        source : pathlib.Path
            The folder that MLflow's readers open.
        metrics, params : mapping
            Shown by MLflow's window beside the version, as those of a run of its own.

        Raises
        ------
        InputError
            ``registry.exists`` when the version is there already, ``registry.tag`` for a tag that can't be kept.
        """
        checked = {check_tag(key): check_value(key, value) for key, value in tags.items()}
        if any(known.version == version for known in self.versions(name)):
            raise already(name, version)
        with self._mlflow() as client:
            if name not in {model.name for model in client.search_registered_models(max_results=1000)}:
                client.create_registered_model(name)
            run = client.create_run(self._experiment(client), run_name=f"{name} {version}")
            for key, value in params.items():
                client.log_param(run.info.run_id, key, value[:_MAX_TAG])
            for key, number in metrics.items():
                client.log_metric(run.info.run_id, key, number)
            client.set_terminated(run.info.run_id)
            own = {
                _VERSION: version,
                _FOLDER: self.place_of(name, version).relative_to(self.folder).as_posix(),
                _SHA256: sha256,
                _STAGE: stage,
            }
            made = client.create_model_version(
                name,
                source=source.as_uri(),
                run_id=run.info.run_id,
                tags={**checked, **own},
                description=description,
            )
        return self._row(made, {})

    def discard(self, name: str, version: str) -> None:
        """Take back the row of a version whose registration failed half way; nothing when there is none."""
        for found in self.versions(name):
            if found.version == version:
                with self._mlflow() as client:
                    client.delete_model_version(name, str(found.number))

    def names(self) -> tuple[str, ...]:
        """Return the names of all registered models, sorted."""
        if not self.exists:
            return ()
        with self._mlflow() as client:
            return tuple(sorted(model.name for model in client.search_registered_models(max_results=1000)))

    def versions(self, name: str) -> tuple[RegisteredVersion, ...]:
        """Return a model's versions, the highest first; empty for an unknown name."""
        if not self.exists:
            return ()
        with self._mlflow() as client:
            rows = client.search_model_versions(f"name='{check_name(name)}'", max_results=1000)
            aliases = dict(client.get_registered_model(name).aliases) if rows else {}
        found = [self._row(row, aliases) for row in rows if _VERSION in row.tags]
        return tuple(sorted(found, key=lambda one: parse_version(one.version), reverse=True))

    def find(self, reference: Reference) -> RegisteredVersion:
        """Return the version that a reference means.

        Raises
        ------
        InputError
            ``registry.unknown`` naming what there is.
        """
        versions = self.versions(reference.name)
        for one in versions:
            if one.version == reference.version or (reference.alias and reference.alias in one.aliases):
                return one
        asked = f"{reference.name}@{reference.alias or reference.version}"
        if not versions:
            known = ", ".join(self.names()) or "none"
            raise InputError(
                "registry.unknown", f"No model is registered as {asked}.", f"Registered models: {known}."
            )
        offered = [f"{one.version}{''.join(f' @{alias}' for alias in one.aliases)}" for one in versions]
        raise InputError("registry.unknown", f"There is no {asked}.", f"There are: {', '.join(offered)}.")

    def set_alias(self, found: RegisteredVersion, alias: str) -> None:
        """Let an alias point to a version; it leaves the one that it pointed to."""
        with self._mlflow() as client:
            client.set_registered_model_alias(found.name, check_alias(alias), str(found.number))

    def remove_alias(self, name: str, alias: str) -> None:
        """Remove an alias; raises InputError (``registry.unknown``) when there is none."""
        self.find(Reference(name, alias=check_alias(alias)))
        with self._mlflow() as client:
            client.delete_registered_model_alias(name, alias)

    def set_tag(self, found: RegisteredVersion, key: str, value: str) -> None:
        """Set a tag of a version; raises InputError (``registry.tag``) for one that can't be kept."""
        with self._mlflow() as client:
            client.set_model_version_tag(
                found.name, str(found.number), check_tag(key), check_value(key, value)
            )

    def _row(self, row: Any, aliases: Mapping[str, Any]) -> RegisteredVersion:
        tags = dict(row.tags)
        return RegisteredVersion(
            row.name,
            tags[_VERSION],
            int(row.version),
            self.folder / tags[_FOLDER],
            tags[_SHA256],
            tuple(sorted(alias for alias, number in aliases.items() if int(number) == int(row.version))),
            {key: value for key, value in tags.items() if not key.startswith(_OWN)},
            tags.get(_STAGE, ""),
            row.description or "",
            int(row.creation_timestamp),
        )

    def _experiment(self, client: MlflowClient) -> str:
        known = client.get_experiment_by_name(_EXPERIMENT)
        if known is not None:
            return str(known.experiment_id)
        return str(client.create_experiment(_EXPERIMENT, artifact_location=(self.folder / "runs").as_uri()))

    @contextmanager
    def _mlflow(self) -> Iterator[MlflowClient]:
        """Give the client; MLflow's own errors become ours."""
        refuse_telemetry()
        try:
            from mlflow import MlflowClient
            from mlflow.exceptions import MlflowException
        except ImportError as error:
            raise EnvironmentFault(
                "registry.not_installed",
                "The registry needs MLflow, which isn't installed.",
                "Install the extra “track”: pip install 'overread[track]'.",
            ) from error
        logging.getLogger("mlflow").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        try:
            if self._client_made is None:
                self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                self._client_made = MlflowClient(self.uri, self.uri)
            yield self._client_made
        except MlflowException as error:
            raise EnvironmentFault(
                "registry.unusable",
                f"The registry can't be used: MLflow answers {error.error_code}.",
                "Check the disk and that no other program holds the database.",
            ) from error


def already(name: str, version: str) -> InputError:
    """Return the refusal of a version that exists."""
    return InputError(
        "registry.exists",
        f"Version {version} of “{name}” is registered already.",
        "A version never changes: give a higher one.",
    )


def check_tag(key: str) -> str:
    """Return the key of a user's tag; raises InputError (``registry.tag``)."""
    plain = key.replace("_", "").replace("-", "").replace(".", "").isalnum()
    if not plain or not key.isascii() or len(key) > 64 or key.startswith((_OWN, "mlflow.")):
        raise InputError(
            "registry.tag",
            f"“{key[:64]}” can't be the key of a tag.",
            "Use letters, digits, points, hyphens and underscores; “overread.” and “mlflow.” are reserved.",
        )
    return key


def check_value(key: str, value: str) -> str:
    """Return the value of a tag; raises InputError (``registry.tag``)."""
    if len(value) > _MAX_TAG or any(not char.isprintable() for char in value):
        raise InputError("registry.tag", f"The value of the tag {key} isn't short plain text.", "Shorten it.")
    return value
