"""Sliding-window inference against MONAI, and the memory of going from logits to labels.

``python tests/performance/infer.py --json`` prints, interleaved in one run: our exact path over MONAI's eager
float32 ``SlidingWindowInferer`` on the same network and volume, the engine that the probe chose over the
same, and the extra peak memory of streamed labels over MONAI-style interpolation of all logits (25 classes).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

SHIPPED = "thorax-ct"
CLASSES, MODEL_SHAPE, SERIES_SHAPE = 25, (96, 128, 128), (192, 256, 256)


def synthetic_ct(shape: tuple[int, int, int], spacing: tuple[float, float, float], seed: int = 0) -> Any:
    """An elliptic body with lungs in noisy air, as a CT volume."""
    from core.domain.geometry import VolumeGeometry
    from core.domain.volume import Volume

    rng = np.random.default_rng(seed)
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in shape), indexing="ij")
    hu = np.full(shape, -1000, np.float32)
    hu[(y / 0.6) ** 2 + (x / 0.8) ** 2 < 1] = 40
    for side in (-0.35, 0.35):
        hu[((z - 0.1) / 0.7) ** 2 + (y / 0.4) ** 2 + ((x - side) / 0.25) ** 2 < 1] = -850
    hu[((y - 0.4) / 0.1) ** 2 + (x / 0.1) ** 2 < 1] = 400
    hu += rng.normal(0, 15, shape).astype(np.float32)
    geometry = VolumeGeometry.from_axes(shape, spacing, np.eye(3), (0.0, 0.0, 0.0))
    return Volume(geometry, np.clip(hu, -1024, 3000).astype(np.int16), "CT", "bench", units="HU")


def bench_bundle(folder: Path) -> Any:
    """The shipped thorax bundle, else a registry U-Net with random weights that answers its own reference."""
    from core.bundles.bundle import read_bundle

    shipped = ROOT / "models" / "bundles" / SHIPPED
    if (shipped / "bundle.json").is_file():
        return read_bundle(shipped)
    from core.bundles.manifest import Inference
    from tests.fakes.bundles import make_torch_bundle, segmentation_manifest

    sys.stderr.write("the shipped thorax bundle is absent: a U-Net with random weights stands in\n")
    manifest = segmentation_manifest(inference=Inference(patch_kji=(96, 96, 96), overlap=0.5))
    return make_torch_bundle(folder / "unet", "unet3d", {"out_channels": 3}, (), manifest)


def speed(rounds: int, threads: int, depth: int) -> dict[str, Any]:
    """Interleaved seconds of MONAI, our exact path and the probed engine on one volume."""
    import torch
    from monai.inferers import SlidingWindowInferer

    from core.compute.inference.loaded import LoadedModel
    from core.compute.inference.prepare import prepare_volume
    from core.compute.inference.probe import choose_backend
    from core.compute.inference.sliding import full_logits, sliding_slabs

    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        bundle = bench_bundle(Path(folder))
        model = LoadedModel(bundle, "cpu")
        manifest = bundle.manifest
        settings = manifest.inference
        spacing = manifest.preprocessing.spacing_ijk_mm or (2.0, 2.0, 2.0)
        image = prepare_volume(synthetic_ct((depth, 160, 176), spacing), manifest).tensor
        network = model.network()
        peer = SlidingWindowInferer(
            settings.patch_kji,
            sw_batch_size=1,
            overlap=settings.overlap,
            mode=settings.mode,
            sigma_scale=settings.sigma_scale,
            cval=settings.pad_value,
        )
        chosen, probe = choose_backend(model)
        exact = model.backend(_fastest_exact(model, probe.seconds))

        def monai() -> torch.Tensor:
            with torch.inference_mode():
                return peer(image[None], network)[0]

        runs: dict[str, Callable[[], torch.Tensor]] = {
            "monai": monai,
            "exact": lambda: full_logits(sliding_slabs(image, exact, settings)),
            "probed": lambda: full_logits(sliding_slabs(image, chosen, settings)),
        }
        seconds, answers = _interleaved(runs, rounds)
    difference = float((answers["exact"] - answers["monai"]).abs().max())
    agreement = float((answers["probed"].argmax(0) == answers["monai"].argmax(0)).float().mean())
    return {
        "seconds": seconds,
        "exact_engine": exact.name,
        "probed_engine": chosen.name,
        "exact_max_difference": difference,
        "largest_logit": float(answers["monai"].abs().max()),
        "probed_label_agreement": agreement,
        "model": manifest.id,
        "grid_kji": list(image.shape[1:]),
        "probe": {
            "seconds_per_window": probe.seconds,
            "agreement": probe.agreement,
            "refused": probe.refused,
        },
    }


def _fastest_exact(model: Any, seconds: dict[str, float]) -> str:
    names = [name for name in seconds if model.backend(name).exact]
    return min(names, key=lambda name: seconds[name])


def _interleaved(
    runs: dict[str, Callable[[], Any]], rounds: int
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    answers: dict[str, Any] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            started = time.perf_counter()
            answers[name] = run()
            seconds[name].append(time.perf_counter() - started)
    return seconds, answers


def memory() -> dict[str, Any]:
    """Extra peak memory and seconds from logits to labels, each way in its own process."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for way in ("streamed", "monai-style"):
            out = Path(folder) / f"{way}.npy"
            command = [sys.executable, str(Path(__file__)), "--child", way, "--out", str(out)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            found[way] = json.loads(answer)
        first, second = (np.load(Path(folder) / f"{way}.npy") for way in ("streamed", "monai-style"))
    found["label_agreement"] = float((first == second).mean())
    return found


def memory_child(way: str, out: Path) -> None:
    """Turn logits of 25 classes into labels in one way; print extra peak memory (MB) and seconds."""
    import torch

    from core.bundles.manifest import Preprocessing
    from core.compute.inference.grids import model_grid
    from core.compute.inference.stream import LabelStream
    from core.domain.geometry import VolumeGeometry

    torch.set_num_threads(2)
    logits = torch.randn((CLASSES, *MODEL_SHAPE), generator=torch.Generator().manual_seed(0))
    _warm_up()
    series = VolumeGeometry(SERIES_SHAPE, np.eye(4))
    grid = model_grid(series, Preprocessing(spacing_ijk_mm=(2.0, 2.0, 2.0)))
    started = time.perf_counter()
    with _PeakMemory() as held, torch.inference_mode():
        if way == "streamed":
            stream = LabelStream(grid)
            for k in range(0, MODEL_SHAPE[0], 8):
                stream.push(logits[:, k : k + 8])
            labels = stream.finished()
        else:
            whole = torch.nn.functional.interpolate(
                logits[None], size=SERIES_SHAPE, mode="trilinear", align_corners=False
            )
            labels = torch.softmax(whole, dim=1).argmax(dim=1)[0].to(torch.uint8).numpy()
    seconds = time.perf_counter() - started
    np.save(out, labels)
    sys.stdout.write(json.dumps({"extra_peak_mb": held.extra_mb, "seconds": seconds}))


class _PeakMemory:
    """Samples this process's resident memory every two milliseconds; ``extra_mb`` is the peak beyond the start."""

    def __enter__(self) -> _PeakMemory:
        self._process = psutil.Process()
        self._start = self._peak = self._process.memory_info().rss
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.002):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def __exit__(self, *_: object) -> None:
        self._peak = max(self._peak, self._process.memory_info().rss)
        self._done.set()
        self._thread.join()

    @property
    def extra_mb(self) -> float:
        """Peak beyond the start, in MB."""
        return (self._peak - self._start) / 1e6


def _warm_up() -> None:
    """Let torch allocate its own workspaces before memory is measured."""
    import torch

    small = torch.randn(2, 8, 8, 8)
    torch.nn.functional.interpolate(small[None], scale_factor=2.0, mode="trilinear")
    torch.matmul(small, small)


def main() -> None:
    """Print the document of the bench contract."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--depth", type=int, default=128)
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--child", default="")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    if options.child:
        memory_child(options.child, options.out)
        return
    timed = speed(options.rounds, options.threads, options.depth)
    medians = {name: statistics.median(values) for name, values in timed["seconds"].items()}
    ratios = {
        "exact/monai": medians["exact"] / medians["monai"],
        "probed/monai": medians["probed"] / medians["monai"],
    }
    peers: dict[str, Any] = {"monai": {"seconds": medians["monai"]}}
    ours: dict[str, Any] = {"exact_s": medians["exact"], "probed_s": medians["probed"]}
    ours |= {key: value for key, value in timed.items() if key != "seconds"}
    if not options.skip_memory:
        held = memory()
        ratios["memory/monai-style"] = (
            held["streamed"]["extra_peak_mb"] / held["monai-style"]["extra_peak_mb"]
        )
        ratios["labels_seconds/monai-style"] = held["streamed"]["seconds"] / held["monai-style"]["seconds"]
        ours["streamed"] = {**held["streamed"], "label_agreement": held["label_agreement"]}
        peers["monai-style"] = held["monai-style"]
    document = {
        "name": "infer",
        "ratios": ratios,
        "ours": ours,
        "peers": peers,
        "rounds": options.rounds,
        "machine": {"processor": platform.machine(), "threads": options.threads},
    }
    sys.stdout.write(json.dumps(document, indent=None if options.json else 2) + "\n")


if __name__ == "__main__":
    main()
