"""The folder of a run: what was trained on what, how, and how far it came."""

from __future__ import annotations

import json
import os
import platform
import uuid
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from core.config.atomic import atomic_write_text
from core.domain.errors import InputError
from core.recipes.load import dump_recipe, load_recipe, recipe_document
from core.recipes.schema import Recipe

RUN_FILE, RECIPE_FILE, SPLIT_FILE = "run.json", "recipe.yaml", "split.json"
_PACKAGES = ("overread", "torch", "lightning", "monai", "numpy")
# What may differ when a run goes on: it changes when to stop and what is written, not a single step before that.
_MAY_CHANGE = {
    "title", "system", "evaluation", "tracking", "bundle", "training.epochs", "training.budget_minutes",
    "training.early_stopping", "training.checkpoints", "training.threads", "training.sample_predictions",
    "data.workers", "data.cache",
}  # fmt: skip


class RunFolder:
    """Reads and writes the documents of one run.

    Parameters
    ----------
    folder : pathlib.Path
        Created when missing.
    leader : bool
        Whether this process writes.
    """

    def __init__(self, folder: Path, *, leader: bool = True) -> None:
        self.folder, self.leader = folder, leader
        if leader:
            folder.mkdir(parents=True, exist_ok=True)
        self.document: dict[str, Any] = {}

    def begin(self, recipe: Recipe, *, resume: bool) -> bool:
        """Start or continue; returns whether there was a run to continue.

        Raises
        ------
        InputError
            ``training.other_recipe`` when the folder holds the run of another recipe; the fields are named.
        """
        known = self.folder / RUN_FILE
        if resume and known.is_file():
            self.document = json.loads(known.read_text(encoding="utf-8"))
            self._check_same(recipe)
            self._write_recipe(recipe)
            return True
        self.document = {
            "run_id": f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}",
            "name": recipe.name,
            "seed": recipe.seed,
            "versions": {"python": platform.python_version()} | _versions(),
            "started_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "state": "preparing",
        }
        self._write_recipe(recipe)
        self.update()
        return False

    def update(self, **fields: Any) -> None:
        """Change fields of ``run.json``."""
        self.document |= fields
        if self.leader:
            atomic_write_text(self.folder / RUN_FILE, json.dumps(self.document, indent=2) + "\n")

    def write(self, name: str, document: Any) -> None:
        """Write a JSON document beside it."""
        if self.leader:
            text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
            atomic_write_text(self.folder / name, text)

    @property
    def run_id(self) -> str:
        """Identifier of the run."""
        return str(self.document["run_id"])

    def _write_recipe(self, recipe: Recipe) -> None:
        if self.leader:
            atomic_write_text(self.folder / RECIPE_FILE, dump_recipe(recipe))

    def _check_same(self, recipe: Recipe) -> None:
        stored = self.folder / RECIPE_FILE
        if not stored.is_file():
            return
        before, now = _flat(recipe_document(load_recipe(stored))), _flat(recipe_document(recipe))
        changed = sorted(
            key
            for key in before.keys() | now.keys()
            if before.get(key) != now.get(key) and not _may_change(key)
        )
        if changed:
            raise InputError(
                "training.other_recipe",
                f"The folder holds a run with other settings: {', '.join(changed[:5])}.",
                "Resume it with its own recipe, or choose another folder.",
            )


def _may_change(key: str) -> bool:
    return any(key == field or key.startswith(field + ".") for field in _MAY_CHANGE)


def _flat(document: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(document, dict):
        return {prefix: document}
    out: dict[str, Any] = {}
    for key, value in document.items():
        out |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return out


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def processes() -> tuple[int, int]:
    """Return (rank, number of processes) as ``torch.distributed.run`` states them."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
