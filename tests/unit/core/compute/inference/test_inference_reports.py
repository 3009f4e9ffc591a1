"""A model that reads: picture and report together, the picture alone, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save

from core.bundles.manifest import Calibration, Explain, ExplainLayer, Network, TextInput, Weights
from core.bundles.writer import write_bundle
from core.compute.explain.run import explain_bundle
from core.compute.inference.prepare import prepare_image
from core.compute.inference.reports import text_ids
from core.compute.inference.run import run_bundle
from core.compute.text import TextEncoder
from core.domain.errors import InputError
from models.networks.registry import build
from tests.fakes.bundles import CARD, LICENCE, SAFETENSORS_FILE, classification_manifest, make_image

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


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the bundle and its network."""
    torch.manual_seed(0)
    network = build("image_text", **PARAMS).eval()
    manifest = classification_manifest(
        network=Network(name="image_text", params=PARAMS),
        weights=(Weights(file=SAFETENSORS_FILE, format="safetensors"),),
        text=TEXT,
        calibration=Calibration(),
        explain=Explain(layers=(ExplainLayer(name="image.network.features"),)),
    )
    state = {name: value.contiguous() for name, value in network.state_dict().items()}
    files = {
        SAFETENSORS_FILE: save(state),
        TEXT.vocabulary_file: TextEncoder.learn(REPORTS, TEXT).vocabulary_bytes(),
    }
    bundle = write_bundle(
        tmp_path_factory.mktemp("reading") / "b", manifest, files=files, card=CARD, licence_text=LICENCE
    )
    return bundle, network


@pytest.mark.parametrize("text", [None, "Opacity of the LUNGS"])
def test_the_answer_is_the_networks_own_with_and_without_a_report(reading: Any, text: str | None) -> None:
    bundle, network = reading
    ids = text_ids(bundle, text)
    assert ids is not None and ids.shape == (1, 12) and bool(ids.any()) == (text is not None)
    with torch.no_grad():
        logits = network(prepare_image(make_image(), bundle.manifest), ids)
    output = run_bundle(bundle, make_image(), text=text, device="cpu")
    found = {item.label: item.probability for item in output.classes}
    wanted = torch.softmax(logits[0].double(), 0)
    assert [found["Dark"], found["Bright"]] == pytest.approx(wanted.tolist(), rel=1e-4)


def test_a_report_changes_the_answer(reading: Any) -> None:
    bundle, _ = reading
    silent = run_bundle(bundle, make_image(), backend="exact")
    read = run_bundle(bundle, make_image(), text=REPORTS[1], backend="exact")
    assert silent.classes[0].probability != pytest.approx(read.classes[0].probability, rel=1e-6)


def test_case_does_not_matter_where_the_model_says_so(reading: Any) -> None:
    bundle, _ = reading
    assert torch.equal(text_ids(bundle, "NORMAL lungs"), text_ids(bundle, "normal lungs"))


@pytest.mark.parametrize("method", ["gradcam", "occlusion"])
def test_the_picture_is_explained_with_the_report_at_hand(reading: Any, method: str) -> None:
    bundle, _ = reading
    made = explain_bundle(
        bundle, make_image(), method=method, class_label="Bright", text=REPORTS[1], device="cpu"
    )
    assert made.heat.shape == (1, 48, 40) and made.class_label == "Bright"


def test_a_damaged_vocabulary_is_refused(tmp_path: Path, reading: Any) -> None:
    bundle, _ = reading
    files = {name: bundle.read(name) for name in (SAFETENSORS_FILE,)} | {TEXT.vocabulary_file: b"\xff\xfe"}
    broken = write_bundle(tmp_path / "b", bundle.manifest, files=files, card=CARD, licence_text=LICENCE)
    with pytest.raises(InputError, match="UTF-8"):
        run_bundle(broken, make_image(), text="normal lungs")
