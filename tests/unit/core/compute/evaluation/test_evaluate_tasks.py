"""Numbers against their truth, and models of several tasks on data with some of the answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

from core.bundles.bundle import Bundle
from core.bundles.manifest import Label, Manifest, Measurement, TextInput, Weights
from core.compute.evaluation.asking import Asked
from core.compute.evaluation.assess import assess
from core.compute.evaluation.evaluation_set import EvaluationSet, read_evaluation_set
from core.compute.evaluation.numbers import evaluate_numbers, slug
from core.compute.evaluation.predicting import Predictions, case_numbers
from core.compute.evaluation.report_content import content_of
from core.compute.evaluation.structures import score_case
from core.domain.errors import InputError
from core.recipes.cases import Case
from core.recipes.gates import parse_gates
from core.recipes.schema import Data
from core.recipes.sources_schema import CsvManifest
from tests.fakes.multitask_training import write_lesions
from tests.fakes.recipes import cube, save_volume

VOLUME, DEPTH = Measurement(name="Tumour volume", unit="mL", std=2.0), Measurement(name="depth", unit="mm")
MANIFEST = Manifest(
    id="three-tasks", version="1.0.0", task="multitask", title="Three tasks", intended_use="Tests.", licence="MIT",
    weights=(Weights(file="model.onnx", format="onnx"),), labels=(Label(value=1, name="Lesion"),),
    classes=(Label(value=0, name="ball"), Label(value=1, name="cube")),
    measurements=(Measurement(name="volume", unit="mL"),),
)  # fmt: skip


def bundle_of(manifest: Manifest) -> Bundle:
    identity = SimpleNamespace(id=manifest.id, version=manifest.version, sha256="0" * 64)
    return cast(Bundle, SimpleNamespace(manifest=manifest, identity=identity))


def test_errors_agreement_and_share_explained_are_those_of_sklearn_and_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(10, 3, (40, 2))
    predicted = truth + rng.normal(0.4, 1, (40, 2))
    truth[3, 0] = truth[7] = np.nan
    found = evaluate_numbers(truth, predicted, (VOLUME, DEPTH), resamples=500)
    for k, name in enumerate(("Tumour volume", "depth")):
        seen = np.isfinite(truth[:, k])
        t, p, row = truth[seen, k], predicted[seen, k], found.per_number[name]
        errors = p - t
        expected = {
            "mae": mean_absolute_error(t, p),
            "rmse": root_mean_squared_error(t, p),
            "bias": errors.mean(),
            "loa_low": errors.mean() - 1.96 * errors.std(ddof=1),
            "loa_high": errors.mean() + 1.96 * errors.std(ddof=1),
            "r2": r2_score(t, p),
        }
        assert {key: m.value for key, m in row.items()} == pytest.approx(expected)
        assert all(m.low < m.value < m.high and m.n == seen.sum() for m in row.values())
        assert found.metrics[f"mae_{slug(name)}"] == row["mae"]
    mean = np.mean([row["r2"].value for row in found.per_number.values()])
    assert found.metrics["mean_r2"].value == pytest.approx(mean)
    scaled = (found.per_number["Tumour volume"]["mae"].value / 2 + found.per_number["depth"]["mae"].value) / 2
    assert found.metrics["mean_scaled_mae"].value == pytest.approx(scaled)


def test_the_interval_of_the_mean_error_is_about_the_normal_one() -> None:
    rng = np.random.default_rng(1)
    truth = np.zeros((200, 1))
    predicted = rng.normal(0, 1, (200, 1))
    bias = evaluate_numbers(truth, predicted, (DEPTH,), resamples=2000).per_number["depth"]["bias"]
    half = 1.96 * predicted.std(ddof=1) / np.sqrt(200)
    assert (bias.high - bias.low) / 2 == pytest.approx(half, rel=0.08)


def test_cases_of_one_patient_are_drawn_together() -> None:
    rng = np.random.default_rng(2)
    own = np.repeat(rng.normal(0, 1, 20), 5)[:, None]
    patients = np.repeat(np.arange(20), 5)
    apart = evaluate_numbers(np.zeros_like(own), own, (DEPTH,), resamples=500)
    together = evaluate_numbers(np.zeros_like(own), own, (DEPTH,), patients=patients, resamples=500)
    widths = [
        m.per_number["depth"]["bias"].high - m.per_number["depth"]["bias"].low for m in (apart, together)
    ]
    assert widths[1] > 1.7 * widths[0]


def test_numbers_without_spread_or_truth_have_no_share_explained() -> None:
    same = evaluate_numbers(np.full((5, 1), 3.0), np.full((5, 1), 3.1), (DEPTH,), resamples=100)
    assert np.isnan(same.per_number["depth"]["r2"].value)
    assert same.per_number["depth"]["mae"].value == pytest.approx(0.1)
    none = evaluate_numbers(np.full((3, 1), np.nan), np.zeros((3, 1)), (DEPTH,), resamples=100)
    assert none.per_number["depth"]["mae"].n == 0 and np.isnan(none.metrics["mean_scaled_mae"].value)
    with pytest.raises(ValueError, match="don't belong"):
        evaluate_numbers(np.zeros((3, 2)), np.zeros((3, 1)), (DEPTH,))


def predictions(dataset: EvaluationSet, better: float = 0.0) -> Predictions:
    """Answers to ten cases: masks off by one slice, classes mostly right, volumes off by 1 − ``better``."""
    names = case_numbers(dataset)
    rng = np.random.default_rng(0)
    truth = np.arange(10.0)[:, None]
    truth[9] = np.nan
    labels = np.array([0, 1] * 5)
    labels[0] = -1
    right = rng.uniform(0.55, 0.9, 10) + 0.05 * better
    probabilities = np.stack(
        [np.where(labels == 0, right, 1 - right), np.where(labels == 0, 1 - right, right)], 1
    )
    rows = []
    for n in range(8):
        mask = np.zeros((8, 8, 8), np.uint8)
        mask[2:6, 2:6, 2:6] = 1
        answer = mask if better else np.roll(mask, 1, axis=0)
        rows += score_case(answer, mask, dataset.structures, (1.0, 1.0, 1.0), case=names[n])
    return Predictions(
        bundle_of(MANIFEST), names, np.ones(10, bool), probabilities, tuple(rows), np.arange(20.0), labels=labels,
        values=truth + (1 - better) * np.where(np.arange(10) % 2, 1.0, -0.5)[:, None], truth=truth,
    )  # fmt: skip


@pytest.fixture
def dataset() -> EvaluationSet:
    cases = tuple(Case(f"c{n}", f"c{n}", seed=n, attributes={"sex": "FM"[n % 2]}) for n in range(10))
    data = Data(source=CsvManifest(name="csv_manifest"))
    names = ("Lesion", "ball", "cube")
    return EvaluationSet("tasks", cases, data, names, {"Lesion": 1}, (), names[1:], MANIFEST.measurements)


def test_each_task_is_measured_on_the_cases_whose_truth_is_known(dataset: EvaluationSet) -> None:
    found = assess(dataset, predictions(dataset), resamples=100)
    assert found.structures is not None and found.classes is not None and found.numbers is not None
    assert (found.metrics["mean_dice"].n, found.classes.cases, found.metrics["mae_volume"].n) == (8, 9, 9)
    assert found.metrics["mean_dice"].value == pytest.approx(0.75)
    assert found.metrics["mae_volume"].value == pytest.approx((5 * 0.5 + 4 * 1.0) / 9)
    document = found.document()
    assert document["per_class"]["volume"]["n"] == 9 and document["per_class"]["Lesion"]["n"] == 8
    row = next(r for r in document["cases"] if r["case"] == "0002")
    assert {"mean_dice", "truth", "predicted", "measurements"} <= row.keys()
    assert row["measurements"]["volume"] == {"truth": 1.0, "predicted": 2.0}
    titles = [table.title for table in content_of(found).tables]
    assert titles == ["All cases", "Each structure", "Each class", "Each measurement"]


def test_a_gate_of_each_class_is_held_against_what_has_its_metric(dataset: EvaluationSet) -> None:
    gates = parse_gates({"schema_version": 1, "gates": [
        {"name": "Overlap", "metric": "dice", "per_class": True, "at_least": 0.7, "min_cases": 5},
        {"name": "Recall", "metric": "recall", "per_class": True, "at_least": 0.01, "min_cases": 2},
        {"name": "Error", "metric": "mae", "per_class": True, "at_most": 0.1, "min_cases": 5},
        {"name": "Bias", "metric": "bias_volume", "at_least": -1.0, "min_cases": 5},
        {"name": "Missing", "metric": "nothing", "per_class": True, "at_most": 1.0},
    ]})  # fmt: skip
    found = assess(dataset, predictions(dataset), gates=gates, resamples=100)
    passed = {verdict.name: verdict.passed for verdict in found.verdicts}
    assert {k: v for k, v in passed.items() if not k.startswith("Missing")} == {
        "Overlap: Lesion": True, "Recall: ball": True, "Recall: cube": True, "Error: volume": False, "Bias": True,
    }  # fmt: skip
    assert not any(v for k, v in passed.items() if k.startswith("Missing"))


def test_a_better_model_is_compared_task_by_task(dataset: EvaluationSet) -> None:
    found = assess(dataset, predictions(dataset, 1.0), others=(predictions(dataset),), resamples=100)
    (compared,) = found.compared
    by_name = {row.metric: row for row in compared.comparisons}
    assert {"accuracy", "mean_dice", "dice Lesion", "error volume"} <= by_name.keys()
    assert by_name["error volume"].difference < 0 < by_name["mean_dice"].difference
    assert len(compared.cases) == 9


def test_data_without_any_answer_to_a_task_say_so(dataset: EvaluationSet) -> None:
    answers = predictions(dataset)
    assert answers.truth is not None
    bare = replace(answers, rows=(), labels=np.full(10, -1), truth=np.full_like(answers.truth, np.nan))
    found = assess(dataset, bare, resamples=100)
    assert set(found.metrics) == {"latency_ms"}
    assert sum("not measured" in note for note in found.notes) == 3
    assert [table.title for table in content_of(found).tables] == ["All cases"]


def test_a_table_brings_masks_classes_numbers_and_reports(tmp_path: Path) -> None:
    write_lesions(tmp_path, 6)
    manifest = MANIFEST.model_copy(update={"text": TextInput()})
    found = read_evaluation_set(tmp_path, manifest)
    assert (
        found.kind == "tasks" and found.class_names == ("ball", "cube") and found.structures == {"Lesion": 1}
    )
    asked = Asked(bundle_of(manifest), found)
    questions = {case.id: asked.question(case) for case in found.cases}
    first, last = questions["image-0"], questions["image-5"]
    assert first.mask is None and last.mask is not None
    assert (last.facts.label, last.text) == (1, "A square lesion.")
    assert last.facts.values["volume"] == pytest.approx(int(last.mask.sum()) * 8 / 1000, abs=1e-3)
    assert Asked(bundle_of(MANIFEST), found).question(found.cases[5]).text is None


def test_patient_folders_bring_the_contrasts_that_there_are(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).normal(size=(6, 6, 6)).astype(np.float32)
    for patient, names in (("p1", ("t1", "t2")), ("p2", ("t1",))):
        for name in names:
            save_volume(tmp_path / patient / f"{name}.nii.gz", voxels, cube())
        save_volume(tmp_path / patient / "mask.nii.gz", (voxels > 1).astype(np.uint8), cube())
    manifest = MANIFEST.model_copy(update={"inputs": ("t1", "t2"), "missing_inputs": "zeros"})
    found = read_evaluation_set(tmp_path, manifest)
    asked = Asked(bundle_of(manifest), found)
    given = [asked.question(case).given for case in found.cases]
    assert [list(one) for one in given if isinstance(one, dict)] == [["t1", "t2"], ["t1"]]


def test_a_class_that_the_model_lacks_is_refused(tmp_path: Path) -> None:
    write_lesions(tmp_path, 6)
    found = read_evaluation_set(tmp_path, MANIFEST)
    wrong = replace(found.cases[5], label=7)
    with pytest.raises(InputError, match="class 7"):
        Asked(bundle_of(MANIFEST), found).question(wrong)
