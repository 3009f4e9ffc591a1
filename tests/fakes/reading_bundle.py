"""A small network that reads picture and report, and its bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from core.bundles.bundle import Bundle
from core.bundles.manifest import Calibration, Explain, ExplainLayer, Network, TextInput, Weights
from core.bundles.writer import write_bundle
from core.compute.text import TextEncoder
from models.networks.registry import build
from tests.fakes.bundles import CARD, LICENCE, SAFETENSORS_FILE, classification_manifest

REPORTS = ["no acute finding of the lungs", "opacity of the lungs, likely pneumonia", "normal lungs"] * 3
TEXT = TextInput(max_tokens=12)
PARAMS: dict[str, Any] = {
    "out_channels": 2,
    "image": "cnn2d",
    "image_params": {"channels": [4, 8]},
    "text_config": {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    },
    "width": 16,
    "heads": 2,
}


def make_reading_bundle(folder: Path) -> tuple[Bundle, nn.Module]:
    """Write the bundle; returns it with its network."""
    torch.manual_seed(0)
    network = build("image_text", **PARAMS).eval()
    manifest = classification_manifest(
        network=Network(name="image_text", params=PARAMS),
        weights=(Weights(file=SAFETENSORS_FILE, format="safetensors"),),
        text=TEXT,
        calibration=Calibration(),
        explain=Explain(layers=(ExplainLayer(name="image.network.features"),)),
    )
    files = {
        SAFETENSORS_FILE: save({name: value.contiguous() for name, value in network.state_dict().items()}),
        TEXT.vocabulary_file: TextEncoder.learn(REPORTS, TEXT).vocabulary_bytes(),
    }
    return write_bundle(folder, manifest, files=files, card=CARD, licence_text=LICENCE), network
