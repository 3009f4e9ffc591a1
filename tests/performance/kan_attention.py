"""A Kolmogorov-Arnold layer against two other designs, and windowed attention against full attention.

``efficient-kan design`` is written here from its published formulas: the Cox-de Boor recursion over all
bases, then one linear layer over the flattened bases. ``pykan`` is used when it is importable.
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

INPUTS, OUTPUTS, BATCH, GRID, ORDER = 256, 128, 512, 5, 3
OURS = ("ours", "learnable knots")
TOKENS, WINDOW, HEADS, HEAD_WIDTH = 4096, 256, 8, 32


def dense_recursion_layer() -> Any:
    """Return a KAN layer that works out every basis by the recursion and records it for autograd."""
    import torch
    from torch import nn
    from torch.nn import functional

    class DenseRecursionLayer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            step = 2.0 / GRID
            knots = torch.arange(-ORDER, GRID + ORDER + 1) * step - 1.0
            self.register_buffer("knots", knots.expand(INPUTS, -1).contiguous())
            self.base_weight = nn.Parameter(torch.empty(OUTPUTS, INPUTS))
            self.spline_weight = nn.Parameter(torch.randn(OUTPUTS, INPUTS, GRID + ORDER) * 0.05)
            nn.init.kaiming_uniform_(self.base_weight, a=5**0.5)

        def bases(self, x: Any) -> Any:
            knots, place = self.knots, x.unsqueeze(-1)
            found = ((place >= knots[:, :-1]) & (place < knots[:, 1:])).to(x.dtype)
            for degree in range(1, ORDER + 1):
                rising = (place - knots[:, : -(degree + 1)]) / (
                    knots[:, degree:-1] - knots[:, : -(degree + 1)]
                )
                falling = (knots[:, degree + 1 :] - place) / (knots[:, degree + 1 :] - knots[:, 1:-degree])
                found = rising * found[..., :-1] + falling * found[..., 1:]
            return found.contiguous()

        def forward(self, x: Any) -> Any:
            base = functional.linear(functional.silu(x), self.base_weight)
            flat = self.bases(x).view(x.shape[0], -1)
            return base + functional.linear(flat, self.spline_weight.view(OUTPUTS, -1))

    return DenseRecursionLayer()


def pykan_layer() -> Any | None:
    """Return pykan's layer, or None after saying how to install it."""
    try:
        from kan.KANLayer import KANLayer
    except ImportError as problem:
        sys.stderr.write(f"pykan isn't compared ({problem}); install it with: pip install pykan\n")
        return None
    return KANLayer(in_dim=INPUTS, out_dim=OUTPUTS, num=GRID, k=ORDER)


def kan_cases() -> tuple[dict[str, Any], Any]:
    """Return the layers, all with the same curves, and their input."""
    import torch

    from models.networks.mri_multitask.kan import KANLayer

    torch.manual_seed(0)
    peer, ours = dense_recursion_layer(), KANLayer(INPUTS, OUTPUTS, grid=GRID, order=ORDER)
    layers: dict[str, Any] = {"ours": ours, "efficient-kan design": peer}
    pykan = pykan_layer()
    with torch.no_grad():
        ours.base_weight.copy_(peer.base_weight)
        ours.coefficients.copy_(peer.spline_weight.permute(0, 2, 1))
        if pykan is not None:
            layers["pykan"] = pykan
            pykan.coef.copy_(peer.spline_weight.permute(1, 0, 2))
            pykan.scale_base.copy_(peer.base_weight.t())
            pykan.scale_sp.fill_(1.0)
            pykan.mask.fill_(1.0)
    layers["learnable knots"] = KANLayer(INPUTS, OUTPUTS, grid=GRID, order=ORDER, learnable_knots=True)
    with torch.no_grad():
        layers["learnable knots"].base_weight.copy_(ours.base_weight)
        layers["learnable knots"].coefficients.copy_(ours.coefficients)
    layers["linear"] = torch.nn.Linear(INPUTS, OUTPUTS)
    return layers, torch.rand(BATCH, INPUTS) * 2.0 - 1.0


def interleaved(ways: dict[str, Callable[[], Any]], rounds: dict[str, int]) -> dict[str, float]:
    """Return the median seconds of each way; one turn of each before, and all in turn."""
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(max(rounds.values())):
        for name, way in ways.items():
            if turn >= rounds[name]:
                continue
            started = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def compare_kan(rounds: int) -> dict[str, Any]:
    """Seconds forward and backward of each layer, and how far each lies from ours."""
    layers, x = kan_cases()

    def output(layer: Any, source: Any) -> Any:
        found = layer(source)
        return found[0] if isinstance(found, tuple) else found

    def step(layer: Any) -> Callable[[], Any]:
        def run() -> Any:
            layer.zero_grad(set_to_none=True)
            source = x.clone().requires_grad_(True)
            found = output(layer, source)
            found.square().mean().backward()
            return found.detach(), source.grad

        return run

    ways = {name: step(layer) for name, layer in layers.items()}
    answers = {name: way() for name, way in ways.items()}
    differences = {
        name: {
            "output": float((answer[0] - answers["ours"][0]).abs().max()),
            "input_gradient": float((answer[1] - answers["ours"][1]).abs().max()),
        }
        for name, answer in answers.items()
        if name not in ("ours", "linear")
    }
    counts = {name: min(rounds, 5) if name == "pykan" else rounds for name in ways}
    return {"seconds": interleaved(ways, counts), "differences": differences}


def compare_attention(rounds: int) -> dict[str, Any]:
    """Seconds forward of windowed and full attention, and how far ours lies from the masked full one."""
    import torch
    from torch.nn import functional

    from models.networks.mri_multitask.windowed import WindowedAttention1d

    torch.manual_seed(0)
    width = HEADS * HEAD_WIDTH
    ours = WindowedAttention1d(width, HEADS, WINDOW, bias="dense").eval()
    tokens = torch.randn(1, TOKENS, width)

    def full(mask: Any = None) -> Any:
        split = ours.qkv(tokens).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(*split.unbind(0), attn_mask=mask)
        return ours.projection(attended.transpose(1, 2).flatten(2))

    with torch.no_grad():
        block = ours.bias().repeat(1, TOKENS // WINDOW, TOKENS // WINDOW)
        window = torch.arange(TOKENS) // WINDOW
        block = block.masked_fill(window[:, None] != window[None], float("-inf"))
        difference = float((full(block[None]) - ours(tokens)).abs().max())
        del block
        ways = {"windowed": lambda: ours(tokens), "full SDPA": full}
        seconds = interleaved(ways, dict.fromkeys(ways, rounds))
    return {"seconds": seconds, "difference": difference}


def main() -> None:
    """Print the document of the bench contract."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="one: waiting for a second isn't measured")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    kan, attention = compare_kan(options.rounds), compare_attention(options.rounds)
    kan_seconds, attention_seconds = kan["seconds"], attention["seconds"]
    others = [name for name in kan_seconds if name not in OURS]
    ratios = {f"KAN layer: ours/{name}": kan_seconds["ours"] / kan_seconds[name] for name in others}
    ratios["windowed attention with bias: ours/full SDPA"] = (
        attention_seconds["windowed"] / attention_seconds["full SDPA"]
    )
    peers: dict[str, Any] = {
        name: {"seconds": kan_seconds[name]} | kan["differences"].get(name, {}) for name in others
    }
    peers["full SDPA"] = {"seconds": attention_seconds["full SDPA"]}
    document = {
        "name": "kan_attention",
        "ratios": ratios,
        "ours": {
            "KAN layer": {"seconds": kan_seconds["ours"]},
            "KAN layer, learnable knots": {"seconds": kan_seconds["learnable knots"]}
            | kan["differences"]["learnable knots"],
            "windowed attention": {
                "seconds": attention_seconds["windowed"],
                "difference_from_masked_full_attention": attention["difference"],
            },
        },
        "peers": peers,
        "rounds": options.rounds,
        "machine": {"processor": platform.machine(), "threads": options.threads},
    }
    sys.stdout.write(json.dumps(document, indent=None if options.json else 2) + "\n")


if __name__ == "__main__":
    main()
