"""Peak memory of a training step of the multi-task network, by size, with and without what saves memory.

Each step runs in a process of its own. The ratio is what the step takes beyond the network and its image, with
checkpoints (and chunks of slices) over without.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

EDGES = {"basic": 128, "standard": 128, "large": 64, "xl": 64}
WAYS = {
    "plain": ("never", "never"),
    "checkpoints": ("always", "never"),
    "checkpoints and chunks": ("always", "always"),
}
MB = 2**20


def step(size: str, variant: str, way: str, edge: int) -> dict[str, float]:
    """Return the memory in MB and the seconds of one step on a volume of three contrasts."""
    import psutil
    import torch

    from models.networks.registry import build

    torch.manual_seed(0)
    checkpointing, chunking = WAYS[way]
    network = build(
        "mri_multitask",
        in_channels=3,
        out_channels=9,
        classes=3,
        measurements=2,
        size=size,
        variant=variant,
        checkpointing=checkpointing,
        chunking=chunking,
    )
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    image = torch.randn(1, 3, edge, edge, edge)
    learn(network, image[..., :32, :32, :32])
    give_back()
    before = psutil.Process().memory_info().rss
    forget_peak()
    begun = time.perf_counter()
    learn(network, image)
    seconds, peak = time.perf_counter() - begun, peak_bytes()
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "peak_mb": round(peak / MB, 1),
        "step_mb": round((peak - before) / MB, 1),
        "seconds": round(seconds, 3),
    }


def learn(network: Any, image: Any) -> None:
    """Run the network and its gradient."""
    outputs = network(image)
    loss = sum(output.square().mean() for output in outputs.values()) + network.auxiliary_loss()
    loss.backward()


def give_back() -> None:
    """Let the allocator give back what the first step freed: kernels and libraries stay, buffers don't."""
    ctypes.CDLL(None).malloc_trim(0)


def forget_peak() -> None:
    """Let the kernel's note of the peak begin anew."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_bytes() -> int:
    """Return the highest resident memory of this process since ``forget_peak``."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel tells no peak")


def measured(size: str, variant: str, way: str, edge: int, threads: int) -> dict[str, float]:
    """Run ``step`` in a process of its own."""
    arguments = [sys.executable, __file__, "--child", size, variant, way, str(edge)]
    done = subprocess.run(
        arguments,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Print the document of the bench contract."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--variant", choices=("basic", "sota"), default="basic")
    parser.add_argument("--size", choices=sorted(EDGES), action="append")
    parser.add_argument("--child", nargs=4, metavar=("SIZE", "VARIANT", "WAY", "EDGE"))
    options = parser.parse_args()
    if options.child is not None:
        size, variant, way, edge = options.child
        sys.stdout.write(json.dumps(step(size, variant, way, int(edge))) + "\n")
        return
    ratios: dict[str, float] = {}
    ours: dict[str, Any] = {}
    for size in options.size or EDGES:
        edge = EDGES[size]
        rows = {way: measured(size, options.variant, way, edge, options.threads) for way in WAYS}
        for way in WAYS:
            if way != "plain":
                ratios[f"{size}: step memory, {way}/plain"] = rows[way]["step_mb"] / rows["plain"]["step_mb"]
        ours[f"{size}, {edge}³"] = rows
    document = {
        "name": "mri_memory",
        "ratios": ratios,
        "ours": ours,
        "peers": {},
        "rounds": 1,
        "machine": {"processor": platform.machine(), "threads": options.threads},
    }
    sys.stdout.write(json.dumps(document, indent=None if options.json else 2) + "\n")


if __name__ == "__main__":
    main()
