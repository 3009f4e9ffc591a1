"""``include: other.yaml``: parts of a recipe in files of the same folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from core.domain.errors import EnvironmentFault, InputError
from core.recipes.yaml_text import MAX_BYTES, Document, Key, read_yaml

INCLUDE = "include"
MAX_FILES = 16

Lines = dict[Key, str]


def read_file(file: Path) -> tuple[dict[str, Any], Lines]:
    """Read a file and what it includes.

    Any section may say ``include: other.yaml`` (or a list of them): the other file's fields are taken over, deeply; the
    section's own fields win. A section of another ``name`` replaces the included one instead of being mixed with it.

    Returns
    -------
    document : dict
        Plain data without ``include``.
    lines : dict
        Field path → ``"line 12"``, or ``"line 3 of data.yaml"``.

    Raises
    ------
    InputError
        ``recipe.yaml`` or ``recipe.include``.
    """
    return _Including(file).run()


class _Including:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._folder = file.resolve().parent
        self._count = 0

    def run(self) -> tuple[dict[str, Any], Lines]:
        data, lines = self._section(self._read(self._file), (), (self._file.resolve(),))
        return data, lines

    def _read(self, file: Path) -> Document:
        self._count += 1
        if self._count > MAX_FILES:
            raise _refusal(f"The recipe includes more than {MAX_FILES} files.", "Join some of them.")
        what = "The recipe" if self._count == 1 else f"The included file “{file.name}”"
        return read_yaml(_text(file, what), what)

    def _section(self, document: Document, at: Key, chain: tuple[Path, ...]) -> tuple[dict[str, Any], Lines]:
        """Resolve the includes of one document; ``at`` is where it will stand."""
        own = "" if chain[-1] == self._file.resolve() else f" of {chain[-1].name}"
        lines: Lines = {(*at, *key): f"line {line}{own}" for key, line in document.lines.items()}
        return self._resolved(document.data, at, chain, lines), lines

    def _resolved(self, value: Any, at: Key, chain: tuple[Path, ...], lines: Lines) -> Any:
        if isinstance(value, list):
            return [self._resolved(item, (*at, n), chain, lines) for n, item in enumerate(value)]
        if not isinstance(value, dict):
            return value
        own = {key: self._resolved(v, (*at, key), chain, lines) for key, v in value.items() if key != INCLUDE}
        base: dict[str, Any] = {}
        stated = value.get(INCLUDE, [])
        for name in stated if isinstance(stated, list) else [stated]:
            path = self._beside(name, chain)
            data, inner = self._section(self._read(path), at, (*chain, path))
            base = merged(base, data, root=not at)
            for key, place in inner.items():
                lines.setdefault(key, place)
        return merged(base, own, root=not at) if base else own

    def _beside(self, name: Any, chain: tuple[Path, ...]) -> Path:
        plain = isinstance(name, str) and name == Path(name).name and "\\" not in name and "\0" not in name
        if not plain or not name.lower().endswith((".yaml", ".yml")):
            raise _refusal(
                f"“include: {name}” isn't the name of a YAML file in the recipe's folder.",
                "Put it beside the recipe.",
            )
        path = (self._folder / name).resolve()
        if path.parent != self._folder:
            raise _refusal(
                f"“include: {name}” leaves the recipe's folder.", "Put the file beside the recipe."
            )
        if path in chain:
            raise _refusal(f"“include: {name}” includes itself.", "Remove one of the includes.")
        if not path.is_file():
            raise _refusal(f"The included file “{name}” isn't there.", "Put it beside the recipe.")
        return path


def merged(base: dict[str, Any], over: dict[str, Any], *, root: bool = False) -> dict[str, Any]:
    """Return ``base`` with ``over`` laid on it, deeply; sections of another ``name`` or ``op`` replace."""
    if not root and any(key in base and key in over and base[key] != over[key] for key in ("name", "op")):
        return dict(over)
    out = dict(base)
    for key, value in over.items():
        known = out.get(key)
        out[key] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return out


def _text(file: Path, what: str) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        if len(data) <= MAX_BYTES:
            return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError("recipe.yaml", f"{what} isn't UTF-8 text.", "Save it as UTF-8.") from error
    except OSError as error:
        raise EnvironmentFault(
            "recipe.unreadable", f"{what} can't be read: {error.strerror}.", "Check its permissions."
        ) from error
    raise InputError(
        "recipe.yaml", f"{what} is larger than {MAX_BYTES >> 20} MiB.", "A recipe is small text."
    )


def _refusal(message: str, remedy: str) -> InputError:
    return InputError("recipe.include", message, remedy)
