"""A served model that reads: pictures and reports go through the network together, each with its own."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import save

from core.bundles.manifest import Calibration, Network, TextInput, Weights
from core.bundles.writer import write_bundle
from core.compute.inference.run import run_bundle
from core.compute.text import TextEncoder
from core.formats.images import read_image_bytes
from core.server.answering import Answerer
from core.server.item import Item, Upload
from core.server.limits import Limits
from models.networks.registry import build
from tests.fakes.bundles import CARD, LICENCE, SAFETENSORS_FILE, classification_manifest
from tests.fakes.served_app import png

TEXT = TextInput(max_tokens=12)
REPORTS = ["no acute finding of the lungs", "opacity of the lungs, likely pneumonia", "normal lungs"] * 3
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


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Answerer:
    torch.manual_seed(0)
    network = build("image_text", **PARAMS).eval()
    manifest = classification_manifest(
        network=Network(name="image_text", params=PARAMS),
        weights=(Weights(file=SAFETENSORS_FILE, format="safetensors"),),
        text=TEXT,
        calibration=Calibration(),
    )
    files = {
        SAFETENSORS_FILE: save({name: value.contiguous() for name, value in network.state_dict().items()}),
        TEXT.vocabulary_file: TextEncoder.learn(REPORTS, TEXT).vocabulary_bytes(),
    }
    folder = tmp_path_factory.mktemp("reading")
    bundle = write_bundle(folder / "b", manifest, files=files, card=CARD, licence_text=LICENCE)
    return Answerer(bundle, "cpu", Limits(), folder / "probes", folder)


def test_each_picture_is_answered_with_its_own_report(reading: Answerer) -> None:
    texts = [REPORTS[0], None, REPORTS[1], " "]
    items = [Item((Upload("picture", png(120)),), text) for text in texts]
    answers = reading.answer([reading.prepare(item) for item in items])
    assert [answer.batch for answer in answers] == [4, 4, 4, 4]
    found = [json.loads(answer.body)["probabilities"] for answer in answers]
    for text, probabilities in zip(texts, found, strict=True):
        alone = run_bundle(
            reading.bundle, read_image_bytes(png(120)), text=text, device="cpu", backend="exact"
        )
        expected = {each.label: each.probability for each in alone.classes}
        assert probabilities == pytest.approx(expected, abs=1e-5)
    assert found[0] != pytest.approx(found[2], abs=1e-5)
    assert found[1] == pytest.approx(found[3], abs=1e-6)
