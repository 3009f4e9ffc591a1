"""A model is registered by command, found by name and alias by others, and opened by MLflow's own reader."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from core.cli.main import app
from core.config.paths import Paths
from core.registry.store import ModelRegistry
from core.services.registered_models import registered_bundle
from tests.fakes.bundles import make_classification_bundle

pytest.importorskip("mlflow")
pytestmark = [
    pytest.mark.expects_logs,  # without a keyring the engine says where its key lies; MLflow names absent GPUs
    pytest.mark.filterwarnings("ignore"),  # MLflow's own
]


def overread(*words: str) -> dict:
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_register_alias_tag_and_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("OVERREAD_HOME", str(home))
    model = make_classification_bundle(tmp_path / "model")
    made = overread(
        "register", str(model.path), "--version", "1.0.0", "--name", "bright", "--tag", "site=north"
    )
    assert made["version"] == "1.0.0" and made["tags"] == {"site": "north"}
    assert overread("registry", "alias", "bright@1.0.0", "champion")["aliases"] == ["champion"]
    assert overread("registry", "tag", "bright@champion", "research=experimental")["tags"]["site"] == "north"
    shown = overread("registry", "show", "bright@champion")
    assert shown["card"].startswith("# Fake") and shown["lineage"]["bundle"]["id"] == model.id
    assert [row["version"] for row in overread("registry", "list")["versions"]] == ["1.0.0"]
    found = registered_bundle(Paths(home), "bright@champion")
    assert found is not None and found.identity == model.identity

    import mlflow

    registry = ModelRegistry(home / "registry")
    mlflow.set_tracking_uri(registry.uri)
    mlflow.set_registry_uri(registry.uri)
    loaded = mlflow.pyfunc.load_model("models:/bright@champion")
    assert loaded.metadata.metadata["sha256"] == model.identity.sha256
    assert np.isfinite(next(iter(loaded.predict(loaded.input_example).values()))).all()
    assert overread("registry", "unalias", "bright@champion") == {"removed": "bright@champion"}
