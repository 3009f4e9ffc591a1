"""All bundles of some folders: those shipped with the program, those that the user added, and promoted versions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.bundles.bundle import Bundle, read_bundle
from core.bundles.digest import bundle_digest
from core.bundles.manifest import MANIFEST_FILE
from core.config.atomic import atomic_path
from core.domain.errors import AppError, InputError, SafetyError


@dataclass(frozen=True)
class Problem:
    """A bundle that was refused: its folder's name, and the error's code and message."""

    name: str
    code: str
    message: str


@dataclass(frozen=True)
class Version:
    """The promoted version of a model that is in use: its folder, and the digest of all its files."""

    folder: Path
    sha256: str


class Catalogue:
    """Bundles by id. Folders are searched in order; the first bundle of an id wins.

    Reading verifies every hash, so build one catalogue and keep it; it does not watch the folders.

    Parameters
    ----------
    folders : sequence of pathlib.Path
        Where bundles lie.
    promoted : mapping of str to Version
        Versions that stand in for the bundle of their id. One that is missing or altered makes the model unusable:
        an older version is never used in its place unasked.
    """

    def __init__(self, folders: Sequence[Path], promoted: Mapping[str, Version] | None = None) -> None:
        self._bundles: dict[str, Bundle] = {}
        problems: list[Problem] = []
        for folder in folders:
            for path in _candidates(folder):
                try:
                    bundle = read_bundle(path)
                except AppError as error:
                    problems.append(Problem(path.name, error.code, error.user_message))
                    continue
                self._bundles.setdefault(bundle.id, bundle)
        for model_id, version in (promoted or {}).items():
            self._bundles.pop(model_id, None)
            try:
                self._bundles[model_id] = _promoted(model_id, version)
            except AppError as error:
                problems.append(Problem(model_id, error.code, error.user_message))
        self.problems: tuple[Problem, ...] = tuple(problems)

    def list(self) -> tuple[Bundle, ...]:
        """Return all usable bundles, sorted by title."""
        return tuple(sorted(self._bundles.values(), key=lambda bundle: (bundle.manifest.title, bundle.id)))

    def get(self, model_id: str) -> Bundle:
        """Return the bundle of that id.

        Raises
        ------
        InputError
            ``model.unknown``, or the reason why the bundle of that name was refused.
        """
        if model_id in self._bundles:
            return self._bundles[model_id]
        for problem in self.problems:
            if problem.name.removesuffix(".zip") == model_id:
                raise InputError(problem.code, problem.message, "Get the bundle again.")
        known = ", ".join(sorted(self._bundles)) or "none"
        raise InputError("model.unknown", f"There is no model “{model_id}”.", f"Installed models: {known}.")


def _promoted(model_id: str, version: Version) -> Bundle:
    bundle = read_bundle(version.folder)
    if bundle.id != model_id or bundle_digest(bundle) != version.sha256:
        raise SafetyError(
            "bundle.not_the_promoted",
            f"The files of “{model_id}” aren't those that were promoted.",
            "Roll the model back, or restore the folder of its version from a backup.",
        )
    return bundle


def read_pointers(file: Path) -> dict[str, Version]:
    """Return the promoted versions that a pointer file names; folders are relative to its own.

    Raises
    ------
    SafetyError
        ``bundle.pointers`` when it can't be understood: which version is in use is never guessed.
    """
    if not file.is_file():
        return {}
    try:
        document = json.loads(file.read_text("utf-8"))
        return {
            str(model_id): Version(_below(file.parent, str(row["folder"])), str(row["sha256"]))
            for model_id, row in document.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SafetyError(
            "bundle.pointers",
            f"{file.name}, which names the models in use, can't be read.",
            "Open the window once: the file is written anew from the library.",
        ) from error


def write_pointers(file: Path, promoted: Mapping[str, Version]) -> None:
    """Write the pointer file, atomically."""
    document = {
        model_id: {"folder": version.folder.relative_to(file.parent).as_posix(), "sha256": version.sha256}
        for model_id, version in sorted(promoted.items())
    }
    with atomic_path(file) as part:
        part.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def _below(folder: Path, relative: str) -> Path:
    path = (folder / relative).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ValueError("a version outside its folder")
    return path


def _candidates(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir()):
        is_bundle = path.is_dir() and (path / MANIFEST_FILE).is_file() and not path.name.startswith(".")
        if is_bundle or (path.is_file() and path.suffix.lower() == ".zip"):
            found.append(path)
    return found
