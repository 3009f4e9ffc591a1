"""The import contracts hold, and each of them breaks when the import that it forbids is made."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
    "contracts"
]

# contract name -> file that is given a forbidden line -> the line
VIOLATIONS = {
    "The GUI process never reaches torch or what computes": [
        ("app/presenters/planted.py", "import torch"),
        ("app/views/planted.py", "def later():\n    import core.compute.inference.run"),
        ("core/services/list_studies.py", "import torch"),
    ],
    "The GUI asks services instead of reading files and tables itself": [
        ("app/views/planted.py", "import pydicom")
    ],
    "The engine and the networks know no GUI toolkit": [
        ("core/services/planted.py", "from PySide6 import QtCore"),
        ("models/networks/planted.py", "import pyqtgraph"),
    ],
    "Presenters and actions are free of Qt and of drawing libraries": [
        ("app/presenters/planted.py", "from PySide6 import QtCore"),
        ("app/actions/planted.py", "import pyqtgraph"),
    ],
    "One direction through the GUI": [("app/presenters/planted.py", "import app.views.theme")],
    "One direction through the engine": [
        ("core/domain/planted.py", "import core.config.paths"),
        ("core/dicom/planted.py", "import core.library.database"),
        ("core/library/planted.py", "import core.services.engine"),
    ],
    "The domain needs the standard library and numpy only": [("core/domain/planted.py", "import pydantic")],
    "Services never compute": [
        ("core/services/planted.py", "def f():\n    import core.compute.inference.run")
    ],
    "Networks are definitions only": [("models/networks/planted.py", "import core.domain.volume")],
    "torch, ONNX Runtime and captum live in compute": [("core/bundles/planted.py", "import onnxruntime")],
    "Feature folders of the views don't know each other": [
        ("app/views/findings/planted.py", "import app.views.worklist")
    ],
}


def test_all_feature_folders_of_the_views_are_kept_apart() -> None:
    listed = next(c["modules"] for c in CONTRACTS if c["name"].startswith("Feature folders of the views"))
    folders = {f"app.views.{init.parent.name}" for init in (ROOT / "app/views").glob("*/__init__.py")}
    assert folders - {"app.views.widgets"} == set(listed)


def copy_of_tree(folder: Path) -> Path:
    """Copy the Python sources, without weights, into a folder of the test's own."""
    for package in ("app", "core", "models"):
        shutil.copytree(
            ROOT / package,
            folder / package,
            ignore=shutil.ignore_patterns("__pycache__", "bundles_data", "*.onnx", "*.safetensors"),
        )
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def planted_name(file: str) -> str:
    """Plant under a name that can't collide with a real module."""
    return file.replace("planted.py", "planted_for_the_contract_test.py")


def lint(folder: Path) -> str:
    """Run import-linter in a folder and return what it prints."""
    code = (
        "import sys; sys.path.insert(0, '.'); "
        "from importlinter.cli import lint_imports_command; lint_imports_command()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    return done.stdout + done.stderr


def test_every_contract_has_a_violation() -> None:
    assert {c["name"] for c in CONTRACTS} == set(VIOLATIONS)


def test_all_contracts_are_kept(tmp_path: Path) -> None:
    report = lint(copy_of_tree(tmp_path))
    assert "0 broken" in report, report


@pytest.mark.slow
@pytest.mark.parametrize(
    ("contract", "file", "line"),
    [(n, file, line) for n, planted in VIOLATIONS.items() for file, line in planted],
)
def test_a_forbidden_import_breaks_its_contract(tmp_path: Path, contract: str, file: str, line: str) -> None:
    tree = copy_of_tree(tmp_path)
    planted = tree / planted_name(file)
    before = planted.read_text(encoding="utf-8") if planted.exists() else '"""Planted."""\n'
    planted.write_text(f"{before}\n{line}\n", encoding="utf-8")
    report = lint(tree)
    assert f"{contract} BROKEN" in report, report
