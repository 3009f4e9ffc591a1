"""All bundles of some folders: those shipped with the program and those that the user added."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.bundles.bundle import Bundle, read_bundle
from core.bundles.manifest import MANIFEST_FILE
from core.domain.errors import AppError, InputError


@dataclass(frozen=True)
class Problem:
    """A bundle that was refused: its folder's name, and the error's code and message."""

    name: str
    code: str
    message: str


class Catalogue:
    """Bundles by id. Folders are searched in order; the first bundle of an id wins.

    Reading verifies every hash, so build one catalogue and keep it; it does not watch the folders.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
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


def _candidates(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    found = []
    for path in sorted(folder.iterdir()):
        is_bundle = path.is_dir() and (path / MANIFEST_FILE).is_file() and not path.name.startswith(".")
        if is_bundle or (path.is_file() and path.suffix.lower() == ".zip"):
            found.append(path)
    return found
