"""Eight bits, ONNX Runtime and TorchScript against torch eager float32, on the same inputs.

``python tests/performance/deploy.py --json`` prints, interleaved in one run: INT8 static and ONNX Runtime float32 over
torch eager for DenseNet121 and ResNet-18 at 224² (random weights: size and speed don't depend on them), for the shipped
MedNIST classifier with the accuracy of each form on the pictures that its training never saw, and for a 3-D U-Net on
64³, where INT8 is expected to be slower. Latency ratios are of the fastest calls: other work on the machine makes
calls slower and never faster.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

DATA = Path(os.environ.get("OVERREAD_TEST_DATA", ROOT.parent / "shared" / "data")) / "core/images2d/mednist"
NETWORKS: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "densenet121": ("densenet121", {"in_channels": 3, "out_channels": 2}, (3, 224, 224)),
    "resnet18": ("resnet18", {"in_channels": 3, "out_channels": 2}, (3, 224, 224)),
    "unet3d": ("unet3d", {"in_channels": 1, "out_channels": 8}, (1, 64, 64, 64)),
}
FLAT = ("densenet121", "resnet18", "mednist")
SIZE_GOAL, LATENCY_GOAL, LOSS_GOAL = 0.3, 0.33, 0.01


def random_network(name: str, rounds: int) -> dict[str, Any]:
    """Size and latency of every form of a registry network with random weights."""
    import torch

    from core.compute.deploy.engines import Inputs, Variant, compare, time_interleaved
    from core.compute.deploy.int8 import feed_of, quantised
    from core.compute.deploy.table import rows_of
    from core.compute.deploy.torchscript import load_torchscript, torchscript_of
    from core.compute.inference.backends import OnnxBackend, TorchBackend, cpu_has_bf16
    from core.compute.inference.networks import frozen
    from core.compute.training.export import onnx_of, safetensors_of
    from models.networks.registry import build

    key, params, shape = NETWORKS[name]
    torch.manual_seed(0)
    network = frozen(build(key, **params))
    generator = torch.Generator().manual_seed(1)
    images = torch.rand((8, *shape), generator=generator)
    dims = len(shape) - 1
    graph = onnx_of(network, images[:2], dynamic=(0,))
    script = torchscript_of(network, (images[:1],), (images[1:3],))
    small = quantised(graph, "static", [feed_of(graph, [image[None].numpy()]) for image in images])
    weights = len(safetensors_of(network))

    def torch_engine(variant: str) -> TorchBackend:
        return TorchBackend(copy.deepcopy(network), variant, "cpu", dims)

    forms = [
        Variant("eager", "torch, float32", torch_engine("torch"), weights, True),
        Variant("torchscript", "TorchScript", TorchBackend(load_torchscript(script), "torch", "cpu", dims),
                len(script), True),
        Variant("onnxruntime", "ONNX Runtime, float32", OnnxBackend(graph), len(graph), True),
        Variant("int8_static", "ONNX Runtime, INT8 static", OnnxBackend(small, name="onnxruntime-int8"),
                len(small), False),
    ]  # fmt: skip
    if cpu_has_bf16():
        low = Variant("channels_last_bf16", "torch, bfloat16", torch_engine("torch-bf16"), weights, False)
        forms.insert(1, low)
    given = Inputs(images[:1].contiguous())
    compare(forms, [given])
    time_interleaved(forms, given, rounds)
    return {"input": list(given.image.shape), "table": rows_of(forms)}


def mednist(rounds: int, folder: Path) -> dict[str, Any]:
    """The shipped classifier by the command's own code, on the pictures of its test part."""
    from core.compute.deploy.deploy import deploy
    from tests.fakes.mednist_split import read_pictures, split_pictures

    pictures = read_pictures(DATA)
    split = split_pictures(pictures)
    for part, indices in (("tested", split.test), ("calibration", split.calibration)):
        for index in indices:
            name = pictures.names[index]
            target = folder / part / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(DATA / name, target)
    document = deploy(
        ROOT / "models" / "bundles" / "mednist",
        formats="torchscript,onnx",
        int8="both",
        data=folder / "tested",
        calibration=folder / "calibration",
        out=folder / "out",
        rounds=rounds,
    )
    kept = ("table", "input", "cases", "chosen", "probe", "notes")
    return {name: document[name] for name in kept}


def ratios_of(found: dict[str, Any]) -> dict[str, float]:
    """Return INT8 over torch eager (latency) and over the float32 graph (size)."""
    ratios = {}
    for name, result in found.items():
        rows = {row["name"]: row for row in result["table"]}
        ratios[f"{name} int8/eager latency"] = rows["int8_static"]["latency_ratio"]
        ratios[f"{name} onnx/eager latency"] = rows["onnxruntime"]["latency_ratio"]
        ratios[f"{name} int8/fp32 size"] = rows["int8_static"]["size_mb"] / rows["onnxruntime"]["size_mb"]
    return ratios


def goals_of(found: dict[str, Any], ratios: dict[str, float]) -> dict[str, bool]:
    """Return which goals of two-dimensional networks are met."""
    there = [name for name in FLAT if name in found]
    goals = {f"{name} size ≤ {SIZE_GOAL}": ratios[f"{name} int8/fp32 size"] <= SIZE_GOAL for name in there}
    goals |= {
        f"{name} latency ≤ {LATENCY_GOAL}": ratios[f"{name} int8/eager latency"] <= LATENCY_GOAL
        for name in there
    }
    if "mednist" in found:
        rows = {row["name"]: row for row in found["mednist"]["table"]}
        loss = rows["eager"]["accuracy"] - rows["int8_static"]["accuracy"]
        goals["mednist loses at most a point"] = loss <= LOSS_GOAL
    return goals


def main() -> None:
    """Print the document of the bench contract."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="densenet121 resnet18 unet3d mednist")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    wanted = options.only or [*NETWORKS, "mednist"]
    found: dict[str, Any] = {
        name: random_network(name, options.rounds) for name in NETWORKS if name in wanted
    }
    if "mednist" in wanted and DATA.is_dir():
        with tempfile.TemporaryDirectory() as folder:
            found["mednist"] = mednist(options.rounds, Path(folder))
    ratios = ratios_of(found)
    document = {
        "name": "deploy",
        "ratios": ratios,
        "ours": {"goals": goals_of(found, ratios), "networks": found},
        "peers": {
            "torch": {"version": torch.__version__, "what": "eager, float32, the same weights and inputs"}
        },
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
