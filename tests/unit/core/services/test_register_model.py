"""Models enter the registry once and for good, with what they came from; production needs passed gates and a name."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.bundles.bundle import Bundle
from core.bundles.digest import bundle_digest
from core.domain.errors import InputError, SafetyError
from core.domain.training import LabelOrigin, LabelSource
from core.library import documents
from core.registry.store import ModelRegistry
from core.services import register_model as registry
from core.services.engine import Engine
from core.services.registered_models import registered, registered_bundle
from core.services.verify_audit import list_events, verify
from tests.fakes.bundles import make_segmentation_bundle
from tests.fakes.engines import make_engine

pytest.importorskip("mlflow")
pytestmark = [
    pytest.mark.expects_logs,  # without a keyring the engine says where its key lies
    pytest.mark.filterwarnings("ignore"),  # MLflow's own
]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    opened = make_engine(tmp_path_factory.mktemp("home"))
    yield opened
    opened.close()


def make_run(folder: Path, *, passed: bool | None = True, weights: str = "") -> Path:
    """A run's folder as a training leaves it."""
    bundle = make_segmentation_bundle(folder / "bundle")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"weights")
    run = {"run_id": "r-1", "name": "recipe", "data_fingerprint": "f" * 64, "split_sha256": "5" * 64}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "recipe.yaml").write_text("name: recipe\n")
    if passed is not None:
        (folder / "evaluation").mkdir()
        document = {
            "model": {"sha256": weights or bundle.identity.sha256},
            "metrics": {"mean_dice": 0.91, "ci95": {"mean_dice": [0.9, 0.92]}},
            "gates": [{"name": "Dice", "passed": passed}],
            "passed": passed,
        }
        (folder / "evaluation" / "metrics.json").write_text(json.dumps(document))
    return folder


def test_a_version_is_registered_with_its_lineage_and_found_by_version_and_alias(
    engine: Engine, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run")
    found = registry.register_model(
        engine,
        run / "checkpoints" / "best.ckpt",
        "1.2.0",
        name="first",
        tags={"medical_ai": "validated"},
        stage="production",
        by="Dr. A. Muster",
    )
    assert (found.version, found.aliases, found.tags) == (
        "1.2.0",
        ("production",),
        {"medical_ai": "validated"},
    )
    lineage = found.lineage()
    assert lineage["run"]["data_fingerprint"] == "f" * 64
    assert lineage["evaluation"]["passed"] is True and len(lineage["recipe_sha256"]) == 64
    for reference in ("first@1.2.0", "first@production"):
        bundle = registered_bundle(engine.paths, reference)
        assert bundle is not None and bundle_digest(bundle) == lineage["bundle"]["sha256"]
    assert "Dr. A. Muster" in str(
        [e.detail_json for e in list_events(engine) if e.event_code == "model-registered"]
    )
    assert verify(engine).ok


def test_mlflow_itself_reads_metrics_card_and_alias(engine: Engine, tmp_path: Path) -> None:
    from mlflow import MlflowClient

    registry.register_model(engine, make_run(tmp_path / "run"), "0.1.0", name="seen")
    registry.set_alias(engine, "seen@0.1.0", "champion")
    uri = ModelRegistry(engine.paths.registry).uri
    version = MlflowClient(uri, uri).get_model_version_by_alias("seen", "champion")
    run = MlflowClient(uri, uri).get_run(version.run_id)
    assert run.data.metrics == {"mean_dice": 0.91} and run.data.params["data_fingerprint"] == "f" * 64
    assert version.description.startswith("# Fake") and Path(version.source.removeprefix("file://")).is_dir()


def test_a_version_never_changes(engine: Engine, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    registry.register_model(engine, run, "1.0.0", name="fixed")
    with pytest.raises(InputError, match="registered already") as caught:
        registry.register_model(engine, run, "1.0.0", name="fixed")
    assert caught.value.code == "registry.exists"
    found = registered(engine.paths, "fixed")[0]
    weights = next(path for path in found.bundle.rglob("*.onnx"))
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    with pytest.raises(SafetyError):
        registered_bundle(engine.paths, "fixed@1.0.0")
    with pytest.raises(SafetyError):
        registry.set_alias(engine, "fixed@1.0.0", "staging")


@pytest.mark.parametrize(
    ("passed", "by", "code"),
    [
        (False, "Dr. B", "registry.gates"),
        (None, "Dr. B", "registry.gates"),
        (True, "  ", "registry.no_name"),
    ],
)
def test_production_is_refused_without_passed_gates_or_a_name(
    engine: Engine, tmp_path: Path, passed: bool | None, by: str, code: str
) -> None:
    run = make_run(tmp_path / "run", passed=passed)
    with pytest.raises((InputError, SafetyError)) as caught:
        registry.register_model(engine, run, "1.0.0", name="gated", stage="production", by=by)
    assert caught.value.code == code
    assert registered(engine.paths, "gated") == []
    number = f"2.{len(code)}.{len(by)}-{str(passed).lower()}"
    registry.register_model(engine, run, number, name="aliased", stage="staging")
    with pytest.raises((InputError, SafetyError)) as caught:
        registry.set_alias(engine, f"aliased@{number}", "production", by=by)
    assert caught.value.code == code


def test_an_evaluation_of_other_weights_is_refused(engine: Engine, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", weights="0" * 64)
    with pytest.raises(InputError, match="other weights"):
        registry.register_model(engine, run, "1.0.0", name="other")


def test_an_alias_moves_and_leaves(engine: Engine, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for version in ("1.0.0", "1.1.0", "1.10.0", "1.10.0-rc.1"):
        registry.register_model(engine, run, version, name="moves")
    order = [one.version for one in registered(engine.paths, "moves")]
    assert order == ["1.10.0", "1.10.0-rc.1", "1.1.0", "1.0.0"]
    registry.set_alias(engine, "moves@1.0.0", "champion")
    assert registry.set_alias(engine, "moves@1.10.0", "champion").aliases == ("champion",)
    assert registered(engine.paths, "moves")[-1].aliases == ()
    registry.remove_alias(engine, "moves@champion")
    with pytest.raises(InputError) as caught:
        registered_bundle(engine.paths, "moves@champion")
    assert caught.value.remedy == "There are: 1.10.0, 1.10.0-rc.1, 1.1.0, 1.0.0."


def test_what_has_no_audit_record_was_not_done(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run")

    def fails(*args: Any, **fields: Any) -> None:
        raise SafetyError("audit.full", "The audit record can't be written.", "Free the disk.")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "record", fails)
        with pytest.raises(SafetyError, match="audit"):
            registry.register_model(engine, run, "1.0.0", name="audited", stage="staging")
    assert registered(engine.paths, "audited") == []
    assert not ModelRegistry(engine.paths.registry).place_of("audited", "1.0.0").exists()
    before = registry.register_model(engine, run, "1.0.0", name="audited", stage="staging")
    registry.register_model(engine, run, "1.1.0", name="audited")
    with monkeypatch.context() as patch:
        patch.setattr(engine, "record", fails)
        with pytest.raises(SafetyError, match="audit"):
            registry.set_alias(engine, "audited@1.1.0", "staging")
    assert registered(engine.paths, "audited")[-1].aliases == before.aliases == ("staging",)


@pytest.mark.parametrize("tag", [{"overread.sha256": "0"}, {"a b": "1"}, {"": "1"}, {"ok": "two\nlines"}])
def test_tags_that_can_not_be_kept_are_refused(engine: Engine, tmp_path: Path, tag: dict[str, str]) -> None:
    with pytest.raises(InputError) as caught:
        registry.register_model(engine, make_run(tmp_path / "run"), "1.0.0", name="tagged", tags=tag)
    assert caught.value.code == "registry.tag" and registered(engine.paths, "tagged") == []


def test_the_verdicts_that_taught_a_candidate_stand_in_its_lineage(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from core.services import model_lineage

    bundle = make_segmentation_bundle(tmp_path / "b")
    labels = tuple(
        LabelSource(n, "Bone", LabelOrigin.READER, f"d-{n}", verdict, "reader", "2026-01-01T00:00:00Z")
        for n, verdict in enumerate(("accept", "edit", "edit"))
    )
    rows = [Row(documents.labels_to_json(labels))]
    monkeypatch.setattr(engine, "unit_of_work", lambda **_: Work(bundle, rows))
    lineage = model_lineage.lineage_of(engine, bundle, None, None)
    assert lineage["candidate"]["verdicts"] == {"accept": 1, "edit": 2}
    assert lineage["candidate"]["decision_ids"] == ["d-0", "d-1", "d-2"]
    assert "reader" not in json.dumps(lineage["candidate"])


class Row:
    def __init__(self, document: str) -> None:
        self.document = document


class Work:
    """A unit of work that knows one candidate."""

    def __init__(self, bundle: Bundle, rows: list[Row]) -> None:
        from core.domain.training import Candidate

        one = Candidate("c-1", "r-1", bundle.id, "T", "1.1.0", bundle_digest(bundle), "1.0.0", "0" * 64)
        self.candidates = self.trainings = self.promotions = self
        self._one, self._rows = one, rows

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def all(self, model_id: str) -> list[Any]:
        return [self._one]

    def cases(self, run_id: str) -> list[Row]:
        return self._rows

    def of_model(self, model_id: str) -> list[Any]:
        return []
