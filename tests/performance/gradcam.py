"""Class activation maps of three classes against captum's LayerGradCam, on the shipped networks or registry
ones.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def cases() -> dict[str, tuple[Any, str, Any]]:
    """Name → (network, layer, input): the classifier at 224² and the U-Net at 64³."""
    import torch

    from core.compute.inference.networks import frozen
    from models.networks.registry import build

    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    return {
        "cnn2d-224": (
            frozen(build("cnn2d")),
            "features",
            torch.rand((1, 1, 224, 224), generator=generator),
        ),
        "unet3d-64": (
            frozen(build("unet3d")),
            "decoder.0",
            torch.rand((1, 1, 64, 64, 64), generator=generator),
        ),
    }


def compare(network: Any, layer: str, image: Any, rounds: int) -> dict[str, Any]:
    """Interleaved seconds of three classes, and the largest difference after up-sampling."""
    import torch
    from captum.attr import LayerAttribution, LayerGradCam

    from core.compute.explain.cam import layer_maps, upsampled
    from core.compute.explain.targets import class_score, region_score

    size = image.shape[2:]
    volumetric = len(size) == 3
    mode = "trilinear" if volumetric else "bilinear"
    regions = _regions(network, image) if volumetric else None

    def scores() -> list[Any]:
        if regions is None:
            return [class_score(index) for index in range(3)]
        return [region_score(index, region) for index, region in enumerate(regions)]

    def ours() -> list[Any]:
        return [upsampled(heat, size) for heat in layer_maps(network, layer, image, scores())]

    def captum() -> list[Any]:
        module = network.get_submodule(layer)
        maps = []
        for score in scores():

            def forward(batch: Any, score: Any = score) -> Any:
                return torch.stack([score(network(batch))])

            heat = LayerGradCam(forward, module).attribute(image.clone().requires_grad_(True))
            maps.append(LayerAttribution.interpolate(heat, tuple(size), interpolate_mode=mode))
        return maps

    ways: dict[str, Callable[[], list[Any]]] = {"captum": captum, "ours": ours}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, list[Any]] = {}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.perf_counter()
            answers[name] = way()
            seconds[name].append(time.perf_counter() - started)
    difference = max(
        float((a - b).detach().abs().max()) / max(float(b.detach().abs().max()), 1e-12)
        for a, b in zip(answers["ours"], answers["captum"], strict=True)
    )
    return {name: statistics.median(values) for name, values in seconds.items()} | {"difference": difference}


def _regions(network: Any, image: Any) -> list[Any]:
    import torch

    with torch.no_grad():
        labels = network(image)[0].argmax(0)
    return [labels == index for index in range(3)]


def main() -> None:
    """Print the document of the bench contract."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    found = {name: compare(*case, options.rounds) for name, case in cases().items()}
    document = {
        "name": "gradcam",
        "ratios": {f"{name}: three classes/captum": f["ours"] / f["captum"] for name, f in found.items()},
        "ours": {
            name: {"seconds": f["ours"], "relative_difference": f["difference"]} for name, f in found.items()
        },
        "peers": {"captum": {name: {"seconds": f["captum"]} for name, f in found.items()}},
        "rounds": options.rounds,
        "machine": {"processor": platform.machine(), "threads": options.threads},
    }
    sys.stdout.write(json.dumps(document, indent=None if options.json else 2) + "\n")


if __name__ == "__main__":
    main()
