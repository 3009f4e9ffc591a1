"""The reader's settings: data with a schema, from which code, file and checks come.

A file of an older schema is migrated when it is read; one that can't be understood is set aside, never deleted.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core.config.atomic import atomic_write_text
from core.domain.errors import EnvironmentFault

SCHEMA_VERSION = 1


class OverlaySettings(BaseModel):
    """How results lie over the picture."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    filled: bool = False
    opacity: float = Field(default=0.4, ge=0.0, le=1.0)
    heat_opacity: float = Field(default=0.5, ge=0.0, le=1.0)
    heat_threshold: float = Field(default=0.3, ge=0.0, le=1.0)
    corner_texts: bool = True
    orientation_letters: bool = True
    scale_bar: bool = True


class ServedModel(BaseModel):
    """The model that a server had when it was connected: another one is refused until somebody looked at it."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    id: str = Field(max_length=63)
    version: str = Field(max_length=80)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    title: str = Field(default="", max_length=120)


class RemoteEngine(BaseModel):
    """A model server. Its token lies in the keyring (or sealed beside the keys), never here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,39}$")
    url: str = Field(max_length=300)
    ca_file: str = Field(default="", max_length=1000)
    allow_plain: bool = False
    model: ServedModel


class Settings(BaseModel):
    """All settings. ``reader_name`` empty means the user of the operating system.

    ``window_layout`` is the main window's state as the view encodes it (base64). ``encrypt_copies`` seals the files
    that an import copies into the library.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    reader_name: str = Field(default="", max_length=100)
    theme: str = Field(default="dark", pattern=r"^[a-z0-9_-]{1,40}$")
    key_scheme: str = Field(default="default", pattern=r"^[a-z0-9_-]{1,40}$")
    ai_hidden_until_asked: bool = False
    overlay: OverlaySettings = OverlaySettings()
    window_layout: str = Field(default="", max_length=200_000)
    reading_layout: Literal["mpr", "stack", "3d", "2x2"] = "mpr"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    watched_folders: tuple[str, ...] = Field(default=(), max_length=50)
    first_run_accepted: bool = False
    encrypt_copies: bool = True
    worklist_columns: tuple[str, ...] = Field(
        default=("date", "modality", "tags", "patient_id", "birth_date", "age_sex"), max_length=20
    )
    worklist_sort: Literal["imported", "date", "name", "modality"] = "imported"
    identity_hidden: bool = False
    remote_engines: tuple[RemoteEngine, ...] = Field(default=(), max_length=20)


MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From each older schema version, what turns its document into the next one's."""


def load_settings(path: Path) -> tuple[Settings, str]:
    """Read the settings.

    Returns
    -------
    settings : Settings
        Defaults when there is no file or it can't be understood.
    notice : str
        What a person should be told; empty when all is well. A file that can't be understood is kept beside it as
        ``settings.invalid.json``.

    Raises
    ------
    EnvironmentFault
        If a newer program wrote the file (``settings.newer``) or it can't be read (``settings.unreadable``).
    """
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        return Settings(), ""
    except (OSError, UnicodeDecodeError) as error:
        raise EnvironmentFault(
            "settings.unreadable", "The settings file can't be read.", "Check the data folder's permissions."
        ) from error
    try:
        return Settings.model_validate(_migrated(json.loads(text))), ""
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        path.replace(path.with_name("settings.invalid.json"))
        return Settings(), (
            f"The settings were reset: {_first_problem(error)}. The former file is settings.invalid.json."
        )


def save_settings(path: Path, settings: Settings) -> None:
    """Write the settings atomically.

    Raises
    ------
    ValueError
        If they aren't valid: ``model_copy`` doesn't check what it is given.
    """
    checked = Settings.model_validate(settings.model_dump())
    atomic_write_text(path, checked.model_dump_json(indent=2) + "\n", mode=0o600)


def _migrated(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ValueError("not an object")
    version = int(document.get("schema_version", SCHEMA_VERSION))
    if version > SCHEMA_VERSION:
        raise EnvironmentFault(
            "settings.newer",
            f"The settings have schema {version}; this Overread knows up to {SCHEMA_VERSION}.",
            "Install the newer Overread that wrote them, or remove settings.json.",
        )
    while version < SCHEMA_VERSION:
        document = MIGRATIONS[version](document)
        version += 1
    return document


def _first_problem(error: Exception) -> str:
    if isinstance(error, ValidationError):
        place = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        return f"“{place}” isn't valid"
    return "the file isn't JSON"
