"""The race between engines: short, interleaved, gated, remembered."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from core.bundles.manifest import Inference
from core.compute.inference import loaded, probe, run
from core.compute.inference.backends import TorchBackend
from core.compute.inference.fused import FusedConvolution, RowWiseConcatenation, can_fuse, fused
from core.compute.inference.loaded import LoadedModel, ModelCache
from core.compute.inference.networks import frozen
from core.compute.inference.probe import ProbeResult, choose_backend, race_window
from core.compute.inference.run import run_bundle
from core.domain.progress import Cancelled, CancelToken
from models.networks.registry import build
from tests.fakes.bundles import (
    expected_labels,
    make_classification_bundle,
    make_segmentation_bundle,
    make_torch_bundle,
    make_volume,
    segmentation_manifest,
)

BEST = "torch-fused" if can_fuse() else "torch-folded"


def unet_bundle(folder: Path) -> Any:
    manifest = segmentation_manifest(inference=Inference(patch_kji=(16, 16, 16)))
    return make_torch_bundle(
        folder, "unet3d", {"out_channels": 3, "channels": [4, 8]}, ("decoder.0",), manifest
    )


def test_the_engine_is_measured_once_and_remembered(tmp_path: Path) -> None:
    bundle = unet_bundle(tmp_path / "b")
    races: list[str] = []

    def choose() -> tuple[Any, ProbeResult]:
        model = LoadedModel(bundle, "cpu")
        return choose_backend(model, tmp_path / "probes", on_race=lambda: races.append("race"))

    backend, found = choose()
    assert backend.exact and BEST in found.seconds
    assert found.call_seconds > 0 and found.took_s > 0
    (file,) = (tmp_path / "probes").iterdir()
    changed = json.loads(file.read_text())
    changed["chosen"] = "torch"
    file.write_text(json.dumps(changed))
    again, _ = choose()
    assert again.name == "torch" and races == ["race"]
    file.write_text("rubbish")
    choose()
    assert json.loads(file.read_text())["key"] == found.key and len(races) == 2


def test_a_run_tells_that_it_chooses_and_how_long_it_took_only_the_first_time(tmp_path: Path) -> None:
    bundle = make_segmentation_bundle(tmp_path / "b")

    def phases() -> tuple[list[str], float]:
        seen: list[str] = []
        output = run_bundle(
            bundle,
            make_volume(),
            progress=lambda phase, part: seen.append(phase),
            cache=ModelCache(),
            probe_folder=tmp_path / "probes",
        )
        return seen, output.seconds["choose_engine"]

    first, seconds = phases()
    assert run.CHOOSING in first and seconds > 0
    second, seconds = phases()
    assert run.CHOOSING not in second and seconds == 0


class Paced:
    """An engine whose clock is ``table`` (seconds per call), not the machine's."""

    device = "cpu"

    def __init__(self, name: str, error: float = 0.0) -> None:
        self.name = name
        self.exact = not name.endswith("-bf16")
        self.calls = 0
        self._error = error

    def __call__(self, batch: torch.Tensor, cancel: CancelToken | None = None) -> torch.Tensor:
        x = batch[:, 0] + self._error
        return torch.stack([torch.zeros_like(x), 10 * x - 2, 30 * x - 16], dim=1)


@pytest.fixture
def paced(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install engines with given seconds per call: ``paced({"a": 1.0}, error=0.0)`` → clock and call log."""

    def install(table: dict[str, float], error: float = 0.0) -> tuple[list[float], list[str]]:
        clock, calls = [0.0], []

        def timed(backend: Any, sample: torch.Tensor) -> float:
            calls.append(backend.name)
            clock[0] += table[backend.name]
            return table[backend.name]

        monkeypatch.setattr(probe, "_timed", timed)
        monkeypatch.setattr(probe.time, "perf_counter", lambda: clock[0])
        monkeypatch.setattr(loaded.LoadedModel, "candidates", lambda self: tuple(table))
        monkeypatch.setattr(
            loaded.LoadedModel,
            "_make",
            lambda self, name: Paced(name, error if name.endswith("-bf16") else 0.0),
        )
        return clock, calls

    return install


def test_what_is_clearly_slower_leaves_after_its_first_call(tmp_path: Path, paced: Any) -> None:
    _, calls = paced({"quick": 0.1, "near": 0.12, "slow": 1.0})
    _, found = choose_backend(LoadedModel(make_segmentation_bundle(tmp_path / "b"), "cpu"))
    assert found.chosen == "quick" and calls.count("slow") == 1
    assert calls.count("quick") >= 4 and calls.count("near") == 4


def test_no_engine_starts_after_the_time_is_up(tmp_path: Path, paced: Any) -> None:
    clock, calls = paced({"first": 2.0, "second": 1.9, "third": 0.1})
    _, found = choose_backend(LoadedModel(make_segmentation_bundle(tmp_path / "b"), "cpu"))
    assert found.chosen == "second" and "third" not in calls
    assert "time" in found.refused["third"] and clock[0] <= probe.BUDGET_S + 2 * 2.0


def test_one_exact_engine_is_measured_however_late_it_is(tmp_path: Path, paced: Any) -> None:
    _, calls = paced({"slow-bf16": 6.0, "late": 1.0, "later": 0.5})
    _, found = choose_backend(LoadedModel(make_segmentation_bundle(tmp_path / "b"), "cpu"))
    assert found.chosen == "late" and "later" not in calls


@pytest.mark.parametrize(
    ("error", "seconds", "chosen"),
    [(1e-4, 0.1, "rounded-bf16"), (0.2, 0.1, "exact"), (1e-4, 0.95, "exact")],
)
def test_an_inexact_engine_must_be_right_and_worth_it(
    tmp_path: Path, paced: Any, error: float, seconds: float, chosen: str
) -> None:
    paced({"exact": 1.0, "rounded-bf16": seconds}, error)
    backend, found = choose_backend(LoadedModel(make_segmentation_bundle(tmp_path / "b"), "cpu"))
    assert backend.name == found.chosen == chosen
    assert ("rounded-bf16" in found.refused) == (chosen == "exact")


def test_an_inexact_engine_that_takes_too_long_to_check_is_not_used(tmp_path: Path, paced: Any) -> None:
    paced({"rounded-bf16": 1.0, "exact": 2.0})
    _, found = choose_backend(LoadedModel(make_segmentation_bundle(tmp_path / "b"), "cpu"))
    assert found.chosen == "exact" and "would take" in found.refused["rounded-bf16"]


def test_a_race_that_lacked_time_is_run_again_but_not_for_ever(tmp_path: Path, paced: Any) -> None:
    bundle = make_segmentation_bundle(tmp_path / "b")
    folder = tmp_path / "probes"
    found = []
    for first in (2.0, 2.0, 2.0, 0.1):
        paced({"first": first, "second": 1.9, "third": 0.2})
        found.append(choose_backend(LoadedModel(bundle, "cpu"), folder)[1])
    assert [result.attempts for result in found] == [1, 2, 3, 3]
    assert not found[0].settled and found[3].chosen == "second"
    for file in folder.iterdir():
        file.unlink()
    for first in (2.0, 0.3, 0.3):
        paced({"first": first, "second": 1.9, "third": 0.2})
        found.append(choose_backend(LoadedModel(bundle, "cpu"), folder)[1])
    assert [(result.chosen, result.settled) for result in found[4:]] == [
        ("second", False),
        ("third", True),
        ("third", True),
    ]
    assert found[-1].attempts == 2


def test_without_a_reference_input_no_inexact_engine_is_used(tmp_path: Path) -> None:
    backend, _ = choose_backend(LoadedModel(unet_bundle(tmp_path / "b"), "cpu"))
    assert backend.exact


def test_when_no_engine_can_run_the_reference_engine_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded.LoadedModel, "candidates", lambda self: ("openvino",))

    def refuse(*given: Any) -> None:
        raise ImportError("no openvino")

    monkeypatch.setattr(loaded, "OpenVinoBackend", refuse)
    _, found = choose_backend(LoadedModel(make_segmentation_bundle(tmp_path / "b"), "cpu"))
    assert found.chosen == "onnxruntime" and "ImportError" in found.refused["openvino"]


def test_choosing_can_be_cancelled(tmp_path: Path) -> None:
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        choose_backend(LoadedModel(unet_bundle(tmp_path / "b"), "cpu"), cancel=token)


def test_a_classifier_is_gated_by_its_expected_probabilities(tmp_path: Path, paced: Any) -> None:
    bundle = make_classification_bundle(tmp_path / "b")
    gate = probe.Gate(LoadedModel(bundle, "cpu"), 1.0)
    assert gate.judge("onnxruntime", 1e-9).why == ""

    class Wrong(Paced):
        def __call__(self, batch: torch.Tensor, cancel: CancelToken | None = None) -> torch.Tensor:
            return torch.tensor([[3.0, -3.0]]) * (1 if batch.mean() > 0.5 else -1)

    model = LoadedModel(bundle, "cpu")
    model._backends["wrong"] = Wrong("wrong")
    assert "differ" in probe.Gate(model, 1.0).judge("wrong", 1e-9).why


@pytest.mark.parametrize("patch", [(80, 96, 128), (64, 64, 64), (16, 200, 200), (300, 8, 8)])
def test_the_race_window_is_small_and_fits_the_network(patch: tuple[int, int, int]) -> None:
    manifest = segmentation_manifest(inference=Inference(patch_kji=patch, divisor=8))
    window = race_window(manifest)
    assert math.prod(window) <= 64**3 and all(
        n % 8 == 0 or n == p for n, p in zip(window, patch, strict=True)
    )
    assert math.prod(window) > 64**3 / 4 or window == patch


def test_a_run_with_the_chosen_engine_gives_the_same_labels(tmp_path: Path) -> None:
    volume = make_volume()
    output = run_bundle(make_segmentation_bundle(tmp_path / "b"), volume)
    assert np.array_equal(output.labels, expected_labels(volume.voxels))


needs_fusing = pytest.mark.skipif(not can_fuse(), reason="this build of torch has no fused convolution")


@needs_fusing
@pytest.mark.parametrize(("name", "shape"), [("unet3d", (2, 1, 16, 16, 32)), ("cnn2d", (3, 1, 32, 48))])
def test_fusing_changes_nothing(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = build(name)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2)
    image = torch.rand(shape)
    with torch.no_grad():
        expected = frozen(network)(image)
    dims = len(shape) - 2
    answer = TorchBackend(network, "torch-fused", dims=dims)(image)
    assert torch.allclose(answer, expected, atol=1e-5) and answer.is_contiguous()
    low = TorchBackend(network, "torch-bf16", dims=dims)(image)
    assert low.dtype == torch.float32 and torch.allclose(
        low, expected, atol=0.05 * float(expected.abs().max())
    )
    rewritten = fused(network)
    assert any(isinstance(module, FusedConvolution) for module in rewritten.modules())
    assert not any(isinstance(module, FusedConvolution) for module in network.modules())


@needs_fusing
def test_convolutions_with_other_padding_stay_as_they_are() -> None:
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect"),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 4, 3, padding="same"),
        torch.nn.ReLU(),
        torch.nn.Conv2d(4, 2, 3, stride=2, dilation=2, padding=2, groups=2),
    ).eval()
    rewritten = fused(network)
    assert [type(module).__name__ for module in rewritten] == [
        "Conv2d",
        "ReLU",
        "Conv2d",
        "ReLU",
        "FusedConvolution",
    ]
    image = torch.rand(2, 1, 20, 22)
    with torch.no_grad():
        assert torch.allclose(rewritten(image), network(image), atol=1e-6)


def test_concatenation_by_rows_equals_torchs() -> None:
    first, second = (
        torch.rand(2, c, 4, 5, 6).contiguous(memory_format=torch.channels_last_3d) for c in (3, 5)
    )
    plain = torch.cat([first, second], dim=1)
    with RowWiseConcatenation():
        rows = torch.cat([first, second], dim=1)
        other = torch.cat([first, first], 2)
        mixed = torch.cat((torch.ones(1, 2, 3, 3), torch.ones(1, 1, 3, 3)), 1)
    assert torch.equal(rows, plain) and rows.is_contiguous(memory_format=torch.channels_last_3d)
    assert other.shape == (2, 3, 8, 5, 6) and mixed.shape == (1, 3, 3, 3)
