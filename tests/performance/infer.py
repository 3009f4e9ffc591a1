"""Sliding-window inference against MONAI, and the memory of going from logits to labels.

``python tests/performance/infer.py --json`` prints, interleaved in one run on the same network, the same
prepared volume (a thorax phantom with air and table around it) and the same list of windows: our fastest exact
engine over MONAI's eager float32 ``SlidingWindowInferer``, the engine that the race chose over the same, and
the extra peak memory of streamed labels over MONAI-style interpolation of all logits (25 classes).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

SHIPPED = ROOT / "models" / "bundles" / "thorax-ct"
CLASSES, MODEL_SHAPE, SERIES_SHAPE = 25, (96, 128, 128), (192, 256, 256)
FIELD_OF_VIEW_MM = 420.0


def thorax_ct(depth: int, spacing_ijk: tuple[float, float, float]) -> Any:
    """A phantom of ``depth`` slices on the model's own grid: body, air around it, table."""
    from core.domain.volume import Volume
    from core.phantom.spec import ThoraxSpec
    from core.phantom.thorax import make_thorax

    i, j, k = spacing_ijk
    shape = (depth, round(FIELD_OF_VIEW_MM / j), round(FIELD_OF_VIEW_MM / i))
    phantom = make_thorax(ThoraxSpec(seed=3, shape_kji=shape, spacing_kji_mm=(k, j, i)))
    return Volume(phantom.geometry, phantom.hu, "CT", "bench", units="HU")


def bench_bundle(path: Path, folder: Path) -> Any:
    """The bundle at ``path``, else a registry U-Net with random weights, which no gate can admit."""
    from core.bundles.bundle import read_bundle

    if path.exists():
        return read_bundle(path)
    from core.bundles.manifest import Inference
    from tests.fakes.bundles import make_torch_bundle, segmentation_manifest

    sys.stderr.write(f"there is no bundle {path.name}: a U-Net with random weights stands in\n")
    manifest = segmentation_manifest(inference=Inference(patch_kji=(96, 96, 96), overlap=0.5))
    return make_torch_bundle(folder / "unet", "unet3d", {"out_channels": 3}, (), manifest)


def speed(options: argparse.Namespace) -> dict[str, Any]:
    """Interleaved seconds of MONAI, our exact path and the chosen engine on one volume."""
    import torch

    from core.compute.inference.loaded import LoadedModel
    from core.compute.inference.prepare import prepare_volume
    from core.compute.inference.probe import choose_backend
    from core.compute.inference.sliding import full_logits, sliding_slabs
    from core.compute.inference.windows import plan_windows

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        bundle = bench_bundle(options.bundle, Path(folder))
        manifest = bundle.manifest
        settings = manifest.inference
        spacing = manifest.preprocessing.spacing_ijk_mm or (2.0, 2.0, 2.0)
        image = prepare_volume(thorax_ct(options.depth, spacing), manifest).tensor
        chosen, race = choose_backend(LoadedModel(bundle, "cpu"))
        model = LoadedModel(bundle, "cpu")
        names = {"exact": _fastest_exact(model, race.seconds), "probed": chosen.name}
        if options.all_engines:
            names |= {name: name for name in model.candidates()}

        def ours(name: str) -> torch.Tensor:
            return full_logits(sliding_slabs(image, model.backend(name), settings))

        runs: dict[str, Callable[[], torch.Tensor]] = {"monai": _monai(model.network(), image, settings)}
        runs |= {way: partial(ours, name) for way, name in names.items()}
        for run in runs.values():
            run()
        seconds, answers = _interleaved(runs, options.rounds)
        k, j, i = image.shape[1:]
        size = settings.patch_kji or (k, j, i)
        windows = len(plan_windows((k, j, i), size, settings.overlap).starts)
    truth = answers["monai"]
    compared = {
        way: {
            "engine": names[way],
            "max_difference_of_logits": float((answers[way] - truth).abs().max()),
            "max_difference_over_largest_logit": float(
                (answers[way] - truth).abs().max() / truth.abs().max()
            ),
            "label_agreement": float((answers[way].argmax(0) == truth.argmax(0)).float().mean()),
        }
        for way in names
    }
    return {
        "seconds": seconds,
        "compared": compared,
        "largest_logit": float(truth.abs().max()),
        "model": f"{manifest.id} {manifest.version}",
        "grid_kji": list(image.shape[1:]),
        "window_kji": list(size),
        "windows": windows,
        "choice": {
            "engine": race.chosen,
            "took_s": race.took_s,
            "race_seconds": race.seconds,
            "agreement_on_reference": race.agreement,
            "refused": race.refused,
        },
    }


def _monai(network: Any, image: Any, settings: Any) -> Callable[[], Any]:
    """MONAI's inferer with the manifest's windows, eager float32, one window at a time."""
    import torch
    from monai.inferers import SlidingWindowInferer

    peer = SlidingWindowInferer(
        settings.patch_kji,
        sw_batch_size=1,
        overlap=settings.overlap,
        mode=settings.mode,
        sigma_scale=settings.sigma_scale,
        cval=settings.pad_value,
    )

    def run() -> torch.Tensor:
        with torch.inference_mode():
            answer: torch.Tensor = peer(image[None], network)
            return answer[0]

    return run


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
        return float(self._peak - self._start) / 1e6


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
    parser.add_argument("--depth", type=int, default=110, help="slices of the phantom")
    parser.add_argument("--bundle", type=Path, default=SHIPPED, help="folder or zip of a segmentation model")
    parser.add_argument("--all-engines", action="store_true", help="time every engine, not the chosen only")
    parser.add_argument("--skip-memory", action="store_true")
    parser.add_argument("--child", default="")
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    if options.child:
        memory_child(options.child, options.out)
        return
    timed = speed(options)
    medians = {name: statistics.median(values) for name, values in timed["seconds"].items()}
    ratios = {
        f"{way}/monai": seconds / medians["monai"] for way, seconds in medians.items() if way != "monai"
    }
    peers: dict[str, Any] = {"monai": {"seconds": medians["monai"], "all_seconds": timed["seconds"]["monai"]}}
    ours: dict[str, Any] = {
        "what": "sliding-window logits of the same network, prepared volume and windows; medians of the rounds; "
        "MONAI: eager float32, sw_batch_size 1; exact: our fastest float32 engine; probed: the chosen engine",
        "seconds": {way: seconds for way, seconds in medians.items() if way != "monai"},
        "all_seconds": {way: values for way, values in timed["seconds"].items() if way != "monai"},
    }
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
        "machine": {
            "processor": platform.machine(),
            "threads": options.threads,
            "load_average": os.getloadavg() if hasattr(os, "getloadavg") else None,
        },
    }
    sys.stdout.write(json.dumps(document, indent=None if options.json else 2) + "\n")


if __name__ == "__main__":
    main()
