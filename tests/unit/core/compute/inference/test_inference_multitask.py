"""A model of several tasks and contrasts answers with structures, classes and numbers in their units."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from core.bundles.bundle import read_bundle
from core.bundles.manifest import Conform, Inference, Label, Preprocessing, Scale, TextInput, Weights
from core.compute.inference.backends import TorchBackend
from core.compute.inference.contrasts import named_contrasts, prepare_contrasts
from core.compute.inference.loaded import LoadedModel, ModelCache
from core.compute.inference.output import InferenceOutput
from core.compute.inference.prepare import prepare_volume
from core.compute.inference.probe import choose_backend
from core.compute.inference.reference import read_reference
from core.compute.inference.run import run_bundle
from core.compute.selftest import run_selftest
from core.domain.errors import EnvironmentFault, InputError, SafetyError
from core.domain.geometry import VolumeGeometry
from core.domain.progress import Cancelled, CancelToken
from tests.fakes.bundles import ONNX_FILE, make_segmentation_bundle, make_volume
from tests.fakes.multitask_bundles import (
    CONTRASTS,
    expected_tasks,
    head_study,
    head_volume,
    make_multitask_bundle,
    make_network_bundle,
    multitask_manifest,
    tasks_onnx,
)

INT8 = Weights(file="weights/model.int8.onnx", format="onnx", precision="int8")
BOTH = (Weights(file=ONNX_FILE, format="onnx"), INT8)


def check(output: InferenceOutput, expected: Any) -> None:
    labels, probabilities, measurements = expected
    np.testing.assert_array_equal(output.labels, labels)
    found = {item.label: item.probability for item in output.classes}
    np.testing.assert_allclose([found["Dark"], found["Bright"]], probabilities, rtol=1e-5)
    np.testing.assert_allclose([item.value for item in output.measurements], measurements, rtol=1e-5)


def test_all_heads_answer_on_the_series_grid_and_in_units(tmp_path: Path) -> None:
    study = head_study()
    output = run_bundle(make_multitask_bundle(tmp_path / "b"), study)
    check(output, expected_tasks(study))
    assert [(item.name, item.unit) for item in output.measurements] == [
        ("Brain volume", "mL"),
        ("Contrast ratio", "1"),
    ]
    assert output.measurements[0].code is not None and output.measurements[0].code.value == "118565006"
    assert set(output.prediction_set) <= {"Dark", "Bright"} and output.prediction_set
    assert output.uncertainty is not None and 0 < output.uncertainty < 1
    assert output.fallbacks == () and output.missing_inputs == ()


def test_a_missing_contrast_is_zeros_after_preprocessing_and_is_said(tmp_path: Path) -> None:
    only = {"T1": head_volume("T1")}
    bundle = make_multitask_bundle(tmp_path / "b")
    output = run_bundle(bundle, only)
    check(output, expected_tasks(only))
    assert output.missing_inputs == ("T2",) and "without T2" in output.fallbacks[0]
    check(run_bundle(bundle, only["T1"]), expected_tasks(only))
    later = {"T2": head_volume("T2")}
    check(run_bundle(bundle, later), expected_tasks(later))


def test_missing_stays_zero_where_the_preprocessing_would_move_zero() -> None:
    steps = Preprocessing(intensity=(Scale(op="scale", from_low=-1000, from_high=1000),))
    manifest = multitask_manifest(preprocessing=steps, inference=Inference(divisor=8, pad_value=0.5))
    contrasts = named_contrasts(manifest, {"T2": head_volume("T2")})
    prepared = prepare_contrasts(contrasts, manifest)
    assert not prepared.tensor[0].any() and float(prepared.tensor[1].min()) == 0.5


def test_every_contrast_has_its_own_intensities_and_its_own_channel() -> None:
    from core.bundles.manifest import ZScore

    manifest = multitask_manifest(preprocessing=Preprocessing(intensity=(ZScore(op="zscore", nonzero=True),)))
    study = head_study()
    backwards = {name: study[name] for name in reversed(CONTRASTS)}
    for given in (study, backwards):
        prepared = prepare_contrasts(named_contrasts(manifest, given), manifest)
        for channel, name in enumerate(CONTRASTS):
            alone = prepare_volume(study[name], manifest).tensor[0]
            torch.testing.assert_close(prepared.tensor[channel], alone, rtol=0, atol=0)


def test_other_grids_are_brought_onto_the_first_one(tmp_path: Path) -> None:
    first = head_volume("T1")
    fine = head_volume("T2", (23, 31, 39), 2.0)
    output = run_bundle(make_multitask_bundle(tmp_path / "b"), {"T1": first, "T2": fine})
    labels, _, values = expected_tasks({"T1": first, "T2": head_volume("T2")})
    assert output.labels is not None and output.labels.shape == first.geometry.shape_kji
    assert float((output.labels == labels).mean()) > 0.97
    assert output.measurements[0].value == pytest.approx(float(values[0]), abs=5.0)


def test_the_answer_comes_back_from_a_conformed_grid(tmp_path: Path) -> None:
    study = head_study()
    steps = Preprocessing(
        orientation="RAS",
        spacing_ijk_mm=(4.0, 4.0, 4.0),
        conform=Conform(size=24),
        intensity=(Scale(op="scale", from_low=0, from_high=1000),),
    )
    output = run_bundle(make_multitask_bundle(tmp_path / "b", preprocessing=steps), study, backend="exact")
    np.testing.assert_array_equal(output.labels, expected_tasks(study)[0])


@pytest.mark.parametrize(
    ("given", "kind", "sentence"),
    [
        ({"FLAIR": "T1"}, InputError, "no input “FLAIR”"),
        ({"T2": "T2"}, InputError, "T1 is missing"),
        ({"T1": "T1", "T2": "far"}, SafetyError, "lies in another place"),
        ({"T1": "T1", "T2": "other frame"}, SafetyError, "frame of reference"),
    ],
)
def test_contrasts_that_do_not_fit_are_refused(
    tmp_path: Path, given: dict[str, str], kind: type[Exception], sentence: str
) -> None:
    volumes = head_study()
    geometry = volumes["T2"].geometry
    away = VolumeGeometry.from_axes(geometry.shape_kji, (4.0,) * 3, np.eye(3), (900.0, 0.0, 0.0), "1.2.3")
    volumes["far"] = dataclasses.replace(volumes["T2"], geometry=away)
    moved = np.array(geometry.lps_from_ijk)
    moved[0, 3] += 1.0
    other = VolumeGeometry(geometry.shape_kji, moved, "9.9")
    volumes["other frame"] = dataclasses.replace(volumes["T2"], geometry=other)
    bundle = make_multitask_bundle(tmp_path / "b", missing_inputs="refuse")
    with pytest.raises(kind, match=sentence):
        run_bundle(bundle, {name: volumes[key] for name, key in given.items()})


def test_a_model_of_one_series_takes_no_second_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="takes one series"):
        run_bundle(make_segmentation_bundle(tmp_path / "b"), {"a": make_volume(), "b": make_volume()})


def test_a_network_without_a_promised_output_is_refused(tmp_path: Path) -> None:
    files = {ONNX_FILE: tasks_onnx(("segmentation", "classification"))}
    with pytest.raises(InputError, match="no output “regression”"):
        run_bundle(make_multitask_bundle(tmp_path / "b", files), head_study(), backend="exact")
    three = tuple(Label(value=n, name=str(n)) for n in range(3))
    with pytest.raises(InputError, match="instead of 3 classes"):
        run_bundle(make_multitask_bundle(tmp_path / "c", classes=three), head_study(), backend="exact")


def test_a_model_of_numbers_alone_has_no_label_map(tmp_path: Path) -> None:
    files = {ONNX_FILE: tasks_onnx(("regression",))}
    bundle = make_multitask_bundle(tmp_path / "b", files, labels=(), classes=())
    output = run_bundle(bundle, head_study(), backend="exact")
    assert output.labels is None and output.classes == () and output.uncertainty is None
    np.testing.assert_allclose(
        [item.value for item in output.measurements], expected_tasks(head_study())[2], rtol=1e-5
    )


def test_too_little_memory_is_said_in_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = make_multitask_bundle(tmp_path / "b", inference=Inference(memory_bytes_per_voxel=1_000_000))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1_000_000_000))
    with pytest.raises(EnvironmentFault, match=r"needs about 3\.8 GB of memory; 1\.0 GB are free") as refused:
        run_bundle(bundle, head_study(), backend="exact")
    assert refused.value.code == "run.memory"


def test_a_network_that_can_works_in_parts_when_memory_runs_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_network_bundle(tmp_path / "b")
    whole = run_bundle(bundle, head_study(), backend="exact")
    real = TorchBackend.outputs
    calls: list[Any] = []

    def fails_once(self: TorchBackend, *arguments: Any) -> Any:
        calls.append(self)
        if len(calls) == 1:
            raise MemoryError
        return real(self, *arguments)

    monkeypatch.setattr(TorchBackend, "outputs", fails_once)
    parts = run_bundle(bundle, head_study(), backend="exact")
    assert len(calls) == 2 and "parts of the image" in parts.fallbacks[0]
    assert float((whole.labels == parts.labels).mean()) > 0.999
    for one, other in zip(whole.measurements, parts.measurements, strict=True):
        assert one.value == pytest.approx(other.value, rel=1e-4)


def test_a_cancelled_run_keeps_nothing(tmp_path: Path) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        run_bundle(make_multitask_bundle(tmp_path / "b"), head_study(), cancel=token, backend="exact")


def test_a_text_needs_a_model_that_reads(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="takes no text"):
        run_bundle(make_multitask_bundle(tmp_path / "b"), head_study(), text="Normal.")


def test_a_model_that_reads_gets_zeros_without_a_text(tmp_path: Path) -> None:
    files = {"text/vocab.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n"}
    bundle = make_multitask_bundle(tmp_path / "b", files, text=TextInput())
    check(run_bundle(bundle, head_study(), backend="exact"), expected_tasks(head_study()))


def test_the_reference_survives_and_the_selftest_holds_every_head_to_it(tmp_path: Path) -> None:
    bundle = make_multitask_bundle(tmp_path / "b")
    case = read_reference(read_bundle(bundle.path))
    assert list(case.volumes) == ["T1", "T2"]
    np.testing.assert_array_equal(case.volumes["T2"].voxels, head_volume("T2").voxels)
    report = run_selftest(bundle, "cpu")
    assert report.passed and "voxels" in report.message and "Measurements" in report.message


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [("labels", "voxels"), ("probabilities", "Probabilities"), ("measurements", "Measurements")],
)
def test_the_selftest_fails_when_any_head_answers_otherwise(
    tmp_path: Path, wrong: str, sentence: str
) -> None:
    report = run_selftest(make_multitask_bundle(tmp_path / "b", wrong=wrong), "cpu")
    assert not report.passed and report.agreement < report.required and sentence in report.message


def small_bundle(folder: Path, *, wrong: str = "") -> Any:
    files = {INT8.file: tasks_onnx()}
    return make_multitask_bundle(folder, files, wrong=wrong, weights=BOTH)


def race(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let the small engine win every race."""
    from core.compute.inference import probe

    def timed(backend: Any, sample: torch.Tensor) -> float:
        backend(sample)
        return 0.1 if backend.name.endswith("int8") else 1.0

    monkeypatch.setattr(probe, "_timed", timed)
    return choose_backend(model)[1]


def test_an_int8_graph_is_used_only_when_every_head_passes_the_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LoadedModel, "candidates", lambda self: ("onnxruntime-int8", "onnxruntime"))
    monkeypatch.setattr("core.compute.inference.gate.Gate._too_late", lambda self, needed: None)
    model = LoadedModel(small_bundle(tmp_path / "a"), "cpu")
    assert not model.backend("onnxruntime-int8").exact
    assert race(model, monkeypatch).chosen == "onnxruntime-int8"
    for wrong in ("labels", "probabilities", "measurements"):
        result = race(LoadedModel(small_bundle(tmp_path / wrong, wrong=wrong), "cpu"), monkeypatch)
        assert result.chosen == "onnxruntime" and "onnxruntime-int8" in result.refused


def test_engines_of_a_bundle_with_an_int8_graph_include_it(tmp_path: Path) -> None:
    cache = ModelCache()
    assert "onnxruntime-int8" in cache.get(small_bundle(tmp_path / "a"), "cpu").candidates()
    assert "onnxruntime-int8" not in cache.get(make_multitask_bundle(tmp_path / "b"), "cpu").candidates()
