"""Running a bundle: right labels, calibrated classes, honest fallbacks, a measured engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.bundles.manifest import (
    Calibration,
    Conform,
    Conformal,
    Inference,
    OutOfDistribution,
    Preprocessing,
    Scale,
)
from core.compute.inference import run
from core.compute.inference.backends import OnnxBackend, TorchBackend, is_out_of_memory
from core.compute.inference.classify import energy, mahalanobis, prediction_set, share_below, softmax
from core.compute.inference.folding import folded
from core.compute.inference.loaded import ModelCache
from core.compute.inference.networks import frozen
from core.compute.inference.run import run_bundle
from core.compute.inference.segment import fitting_settings
from core.compute.selftest import run_selftest
from core.domain.errors import EnvironmentFault, InputError, SafetyError
from core.domain.geometry import VolumeGeometry, apply_reorientation
from core.domain.progress import Cancelled, CancelToken
from core.domain.volume import SeriesIssue, Volume
from models.networks.registry import build
from tests.fakes.bundles import (
    classification_manifest,
    expected_labels,
    make_classification_bundle,
    make_image,
    make_segmentation_bundle,
    make_torch_bundle,
    make_volume,
    segmentation_manifest,
)


def test_a_segmentation_labels_every_voxel_rightly_and_tells_how(tmp_path: Path) -> None:
    volume = make_volume()
    seen: list[float] = []
    output = run_bundle(
        make_segmentation_bundle(tmp_path / "b"), volume, progress=lambda phase, part: seen.append(part)
    )
    assert output.labels is not None and output.labels.dtype == np.uint8
    assert np.array_equal(output.labels, expected_labels(volume.voxels))
    assert output.device == "cpu" and output.backend == "onnxruntime" and output.fallbacks == ()
    phases = {"load", "choose_engine", "preprocess", "infer", "postprocess", "total"}
    assert set(output.seconds) == phases and output.seconds["choose_engine"] > 0
    assert output.seconds["total"] > 0 and output.peak_rss_mb > 10
    assert output.uncertainty is not None and 0 <= output.uncertainty <= 1
    assert seen == sorted(seen) and seen[-1] == 1.0


@pytest.mark.parametrize("codes", ["LPS", "RAS", "SPR", "ILP", "AIL"])
def test_labels_lie_on_the_anatomy_whatever_the_storage_order(tmp_path: Path, codes: str) -> None:
    upright = make_volume()
    geometry, permutation, flips = upright.geometry.reoriented(codes)
    voxels = np.ascontiguousarray(apply_reorientation(upright.voxels, permutation, flips))
    stored = dataclasses.replace(upright, geometry=geometry, voxels=voxels)
    output = run_bundle(make_segmentation_bundle(tmp_path / "b"), stored)
    assert np.array_equal(output.labels, expected_labels(voxels))


def test_a_resampled_run_finds_the_same_centroid_and_volume(tmp_path: Path) -> None:
    rotation = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]])
    volume = make_volume((60, 70, 80), (0.8, 0.85, 1.2), direction=rotation)
    labels = run_bundle(make_segmentation_bundle(tmp_path / "b"), volume).labels
    truth = expected_labels(volume.voxels)
    for value in (1, 2):
        mine, true = np.argwhere(labels == value), np.argwhere(truth == value)
        assert abs(len(mine) / len(true) - 1) < 0.12
        assert np.abs(mine.mean(axis=0) - true.mean(axis=0)).max() < 0.5


@pytest.mark.parametrize("mean", [20, 235])
def test_an_image_is_classified_with_its_prediction_set(tmp_path: Path, mean: int) -> None:
    bundle = make_classification_bundle(tmp_path / "b")
    output = run_bundle(bundle, make_image(mean))
    best = "Dark" if mean < 128 else "Bright"
    assert output.labels is None and output.classes[0].label == best
    assert sum(item.probability for item in output.classes) == pytest.approx(1)
    assert output.prediction_set == (best,)
    assert output.out_of_distribution is not None and 0 <= output.out_of_distribution <= 1


def test_monochrome1_is_turned_around_and_colour_becomes_grey(tmp_path: Path) -> None:
    bundle = make_classification_bundle(tmp_path / "b")
    assert run_bundle(bundle, make_image(20, inverted=True)).classes[0].label == "Bright"
    deep = make_image(20, inverted=True)
    voxels = deep.voxels.astype(np.int16)
    deep = dataclasses.replace(deep, voxels=voxels)
    assert run_bundle(bundle, deep).classes[0].label == "Dark"  # 20…50 of its own range, turned around
    colour = np.repeat(make_image(230).voxels[..., None], 3, axis=-1)
    assert run_bundle(bundle, dataclasses.replace(make_image(), voxels=colour)).classes[0].label == "Bright"


def test_the_geometry_gate_refuses_what_would_mislead(tmp_path: Path) -> None:
    bundle = make_segmentation_bundle(tmp_path / "b")
    volume = make_volume()
    gap = dataclasses.replace(volume, issues=(SeriesIssue("gap", "A slice is missing.", True),))
    with pytest.raises(SafetyError, match="missing"):
        run_bundle(bundle, gap)
    matrix = volume.geometry.lps_from_ijk.copy()
    matrix[1, 2] += 0.7
    tilted = dataclasses.replace(volume, geometry=VolumeGeometry(volume.geometry.shape_kji, matrix))
    with pytest.raises(SafetyError, match="tilt"):
        run_bundle(bundle, tilted)
    holes = volume.voxels.astype(np.float32)
    holes[0, 0, 0] = np.nan
    with pytest.raises(SafetyError, match="not numbers"):
        run_bundle(bundle, dataclasses.replace(volume, voxels=holes))
    with pytest.raises(InputError, match="single images"):
        run_bundle(make_classification_bundle(tmp_path / "c"), volume)
    with pytest.raises(InputError, match="4 slices"):
        run_bundle(bundle, make_volume((2, 20, 20)))
    with pytest.raises(InputError, match="device"):
        run_bundle(bundle, volume, device="tpu")


def test_cancelling_a_run_raises_and_returns_nothing(tmp_path: Path) -> None:
    token = CancelToken()

    def progress(phase: str, fraction: float) -> None:
        if phase == "Running the model":
            token.cancel()

    with pytest.raises(Cancelled):
        run_bundle(make_segmentation_bundle(tmp_path / "b"), make_volume(), progress=progress, cancel=token)


class Hungry:
    """An engine that runs out of memory while more than ``limit`` windows or voxels come at once."""

    name, device, exact = "hungry", "cpu", True

    def __init__(self, windows: int = 99, voxels: int = 10**9) -> None:
        self.windows, self.voxels = windows, voxels

    def __call__(self, batch: torch.Tensor, cancel: CancelToken | None = None) -> torch.Tensor:
        if len(batch) > self.windows or batch[0].numel() > self.voxels:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        x = batch[:, 0]
        return torch.stack([torch.zeros_like(x), 10 * x - 2, 30 * x - 16], dim=1)


def hungry_run(bundle: Any, volume: Volume, engine: Hungry, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(run, "choose_backend", lambda model, folder, cancel, on_race: (engine, None))
    return run_bundle(bundle, volume)


def test_when_memory_runs_out_it_goes_on_smaller_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = make_volume()
    one = hungry_run(make_segmentation_bundle(tmp_path / "a"), volume, Hungry(windows=1), monkeypatch)
    assert one.fallbacks == ("memory ran out: one window at a time",)
    assert np.array_equal(one.labels, expected_labels(volume.voxels))
    whole = make_segmentation_bundle(tmp_path / "b", inference=Inference())
    long = make_volume((150, 10, 10))
    cut = hungry_run(whole, long, Hungry(voxels=128**3), monkeypatch)
    assert cut.fallbacks == () or "128×128×128" in cut.fallbacks[0]
    with pytest.raises(EnvironmentFault, match="not enough memory"):
        hungry_run(whole, volume, Hungry(voxels=1), monkeypatch)


def test_windows_shrink_beforehand_when_free_memory_is_known_to_be_too_small() -> None:
    greedy = segmentation_manifest(inference=Inference(memory_bytes_per_voxel=10**9))
    settings, notes = fitting_settings(greedy, (500, 500, 500))
    assert settings.patch_kji == (128, 128, 128) and "whole image" in notes[0]
    many = segmentation_manifest(
        inference=Inference(patch_kji=(64, 64, 64), batch=8, memory_bytes_per_voxel=10**6)
    )
    settings, notes = fitting_settings(many, (500, 500, 500))
    assert settings.batch == 1 and notes


def test_out_of_memory_is_told_from_other_errors() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))


def test_a_gpu_that_runs_out_of_memory_falls_back_to_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_segmentation_bundle(tmp_path / "b")
    volume = make_volume()
    original = run._Job._run_on

    def fail_on_cuda(self: Any, device: str) -> Any:
        if device == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, device)

    monkeypatch.setattr(run, "available_device", lambda wanted: ("cuda", None))
    monkeypatch.setattr(run._Job, "_run_on", fail_on_cuda)
    output = run_bundle(bundle, volume, device="cuda")
    assert output.device == "cpu" and output.fallbacks == ("the GPU's memory ran out: ran on the CPU",)


def test_asking_for_cuda_without_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    output = run_bundle(make_segmentation_bundle(tmp_path / "b"), make_volume(), device="cuda")
    assert output.device == "cpu" and "CUDA" in output.fallbacks[0]


def test_models_stay_warm_and_the_oldest_leaves(tmp_path: Path) -> None:
    cache = ModelCache(limit=1)
    first = make_segmentation_bundle(tmp_path / "a")
    second = make_classification_bundle(tmp_path / "b")
    held = cache.get(first, "cpu")
    assert cache.get(first, "cpu") is held
    cache.get(second, "cpu")
    assert cache.get(first, "cpu") is not held


def unet_bundle(folder: Path) -> Any:
    manifest = segmentation_manifest(inference=Inference(patch_kji=(16, 16, 16)))
    return make_torch_bundle(
        folder, "unet3d", {"out_channels": 3, "channels": [4, 8]}, ("decoder.0",), manifest
    )


@pytest.mark.parametrize(("name", "shape"), [("unet3d", (1, 1, 16, 16, 16)), ("cnn2d", (1, 1, 32, 32))])
def test_folding_changes_nothing(name: str, shape: tuple) -> None:
    torch.manual_seed(0)
    network = build(name)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2)
    image = torch.rand(shape)
    with torch.no_grad():
        before = frozen(network)(image)
        assert torch.allclose(folded(network)(image), before, atol=1e-5)
        assert torch.equal(network(image), before)
    fast = TorchBackend(network, "torch-folded", dims=len(shape) - 2)(image)
    assert torch.allclose(fast, before, atol=1e-5)
    low = TorchBackend(network, "torch-bf16", dims=len(shape) - 2)
    assert not low.exact and torch.allclose(low(image), before, atol=0.1 * float(before.abs().max()) + 0.05)


def test_onnx_runtime_refuses_rubbish_with_a_reason() -> None:
    with pytest.raises(InputError, match="ONNX"):
        OnnxBackend(b"rubbish")


def test_the_self_test_passes_and_fails_when_the_answer_differs(tmp_path: Path) -> None:
    good = run_selftest(make_segmentation_bundle(tmp_path / "a"))
    assert good.passed and good.agreement == 1.0 and good.as_dict()["model_id"] == "fake-threshold"
    assert run_selftest(make_classification_bundle(tmp_path / "b")).passed
    shifted = Preprocessing(
        spacing_ijk_mm=(2.0, 2.0, 2.0), intensity=(Scale(op="scale", from_low=-1600, from_high=400),)
    )
    bad = run_selftest(make_segmentation_bundle(tmp_path / "c", preprocessing=shifted))
    assert not bad.passed and bad.agreement < 0.99
    with pytest.raises(InputError, match="no reference"):
        run_selftest(unet_bundle(tmp_path / "d"))


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    bundle = unet_bundle(tmp_path / "b")
    wrong = bundle.manifest.network.model_copy(update={"params": {"out_channels": 4, "channels": [4, 8]}})
    mixed = dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(update={"network": wrong}))
    with pytest.raises(InputError, match="don't belong"):
        run_bundle(mixed, make_volume())
    unknown = bundle.manifest.network.model_copy(update={"name": "nothing"})
    mixed = dataclasses.replace(bundle, manifest=bundle.manifest.model_copy(update={"network": unknown}))
    with pytest.raises(InputError, match="can't build"):
        run_bundle(mixed, make_volume())


def test_a_conformed_model_leaves_the_rest_of_the_series_empty(tmp_path: Path) -> None:
    steps = Preprocessing(
        orientation="AIL",
        spacing_ijk_mm=(2.0, 2.0, 2.0),
        conform=Conform(size=16, fill=-1000.0),
        intensity=(Scale(op="scale", from_low=-1000, from_high=1000),),
    )
    volume = make_volume()
    labels = run_bundle(make_segmentation_bundle(tmp_path / "b", preprocessing=steps), volume).labels
    inside = labels > 0
    assert inside.any() and np.array_equal(labels[inside], expected_labels(volume.voxels)[inside])
    assert np.ptp(np.argwhere(inside), axis=0).max() <= 16


def test_calibration_formulas() -> None:
    logits = np.array([2.0, 0.0, -1.0])
    assert softmax(logits, 1.0) == pytest.approx(np.exp(logits) / np.exp(logits).sum())
    assert softmax(logits, 10.0).max() < softmax(logits, 1.0).max()
    assert softmax(logits, 3.0).argmax() == 0
    assert energy(logits, 1.0) == pytest.approx(-np.log(np.exp(logits).sum()))
    probabilities = np.array([0.5, 0.3, 0.2])
    assert prediction_set(probabilities, None) == []
    assert prediction_set(probabilities, Conformal(quantile=0.75, coverage=0.9)) == [0, 1]
    assert prediction_set(probabilities, Conformal(quantile=0.1, coverage=0.9)) == [0]
    means = np.array([[0.0, 0.0], [4.0, 0.0]])
    assert mahalanobis(np.array([3.0, 0.0]), means, np.diag([2.0, 1.0])) == pytest.approx(2.0)
    assert share_below(5.0, (0.0, 5.0, 10.0)) == 0.5


def test_mahalanobis_distance_uses_the_features_of_the_network(tmp_path: Path) -> None:
    from safetensors.numpy import save

    from core.bundles.bundle import read_bundle
    from core.bundles.manifest import Manifest
    from core.bundles.writer import sign_bundle

    unusual = OutOfDistribution(
        method="mahalanobis",
        quantiles=(0.0, 1e6),
        layer="features",
        statistics_file="calibration.safetensors",
    )
    manifest: Manifest = classification_manifest(calibration=Calibration(out_of_distribution=unusual))
    folder = tmp_path / "b"
    make_torch_bundle(folder, "cnn2d", {"out_channels": 2, "channels": [4, 8]}, ("features",), manifest)
    statistics = {"mean": np.zeros((2, 8), np.float32), "precision": np.eye(8, dtype=np.float32)}
    (folder / "calibration.safetensors").write_bytes(save(statistics))
    sign_bundle(folder, None)
    output = run_bundle(read_bundle(folder), make_image(220))
    assert output.out_of_distribution is not None and 0 < output.out_of_distribution < 1
