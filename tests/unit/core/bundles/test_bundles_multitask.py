"""What a multitask manifest may say, and weights that are stored as eight-bit whole numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from pydantic import ValidationError

from core.bundles.bundle import read_bundle
from core.bundles.manifest import Label, Measurement, Network, TextInput, Weights, parse_manifest
from core.bundles.small_weights import SCALE_SUFFIX, decode_int8, encode_int8
from core.bundles.writer import monai_metadata, write_bundle
from core.compute.inference.networks import load_network
from core.domain.errors import InputError
from models.networks.registry import build
from tests.fakes.bundles import SAFETENSORS_FILE, classification_manifest, segmentation_manifest

CLASSES = (Label(value=0, name="Young"), Label(value=1, name="Old"))
VOLUME = Measurement(name="Brain volume", unit="mL", mean=1400.0, std=120.0)


def multitask(**changes: Any) -> Any:
    fields: dict[str, Any] = {
        "task": "multitask",
        "classes": CLASSES,
        "measurements": (VOLUME,),
        "inputs": ("T1", "T2", "FLAIR"),
        "missing_inputs": "zeros",
        "inference": {},
    }
    base = json.loads(segmentation_manifest().to_json())
    plain = {
        key: [item.model_dump() for item in value] if key in ("classes", "measurements") else value
        for key, value in (fields | changes).items()
    }
    return parse_manifest(json.dumps(base | plain).encode())


def test_a_multitask_manifest_survives_json() -> None:
    manifest = multitask(task="multitask")
    assert parse_manifest(manifest.to_json()) == manifest
    assert [label.name for label in manifest.image_classes] == ["Young", "Old"]
    assert [label.name for label in manifest.structures] == ["Soft tissue", "Bone"]
    assert manifest.channels_in() == 3 and manifest.channels_out() == 3
    assert manifest.label("old").value == 1 and manifest.label("bone").value == 2


def test_a_multitask_model_may_lack_structures() -> None:
    manifest = multitask(labels=[], postprocessing={})
    assert manifest.structures == () and manifest.channels_out() == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"labels": [], "classes": (), "measurements": (), "postprocessing": {}},
            "labels, classes or measurements",
        ),
        ({"inference": {"patch_kji": [16, 16, 16]}}, "whole image at once"),
        ({"classes": CLASSES[:1]}, "two or more"),
        ({"classes": (*CLASSES[1:], Label(value=2, name="Very old"))}, "numbered 0, 1, 2"),
        ({"measurements": (VOLUME, VOLUME)}, "measurement names are unique"),
        ({"inputs": ["T1", "t1"]}, "input names are unique"),
        ({"inputs": ["T1"]}, "two or more inputs"),
        ({"inputs": ["T 1", "T2"]}, "inputs"),
        ({"task": "segmentation"}, "for the task multitask"),
    ],
)
def test_contradictions_are_named(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        multitask(**changes)


def test_unit_and_spread_of_a_measurement_are_checked() -> None:
    for wrong in ({"unit": "m L"}, {"unit": ""}, {"std": 0.0}):
        with pytest.raises(ValidationError):
            Measurement(**{"name": "Volume", "unit": "mL", **wrong})


def test_a_text_is_not_for_a_segmentation() -> None:
    assert classification_manifest(text=TextInput()).text is not None
    with pytest.raises(ValidationError, match="classification and multitask"):
        segmentation_manifest(text=TextInput())


def test_encoding_and_precision_belong_to_one_format_each() -> None:
    with pytest.raises(ValidationError, match="encoding int8 is for safetensors"):
        Weights(file="a", format="onnx", encoding="int8")
    with pytest.raises(ValidationError, match="precision int8 is for ONNX"):
        Weights(file="a", format="safetensors", precision="int8")
    only_small = (Weights(file="weights/model.int8.onnx", format="onnx", precision="int8"),)
    with pytest.raises(ValidationError, match="must be an ONNX file"):
        segmentation_manifest(weights=only_small)


def test_the_monai_document_names_the_contrasts_and_every_output() -> None:
    about = json.loads(monai_metadata(multitask()))["network_data_format"]
    assert about["inputs"]["image"]["channel_def"] == {"0": "T1", "1": "T2", "2": "FLAIR"}
    assert set(about["outputs"]) == {"segmentation", "classification", "regression"}
    assert about["outputs"]["classification"]["channel_def"] == {"0": "Young", "1": "Old"}


def test_a_bundle_needs_its_vocabulary(tmp_path: Path) -> None:
    manifest = classification_manifest(text=TextInput())
    files = {manifest.weights[0].file: b"onnx"}
    with pytest.raises(InputError, match=r"text/vocab\.txt"):
        write_bundle(tmp_path / "b", manifest, files=files, card="c", licence_text="l")
    files["text/vocab.txt"] = b"[PAD]\n[UNK]\n"
    bundle = write_bundle(tmp_path / "b", manifest, files=files, card="c", licence_text="l")
    assert bundle.read("text/vocab.txt").startswith(b"[PAD]")


def test_no_weight_moves_by_more_than_half_a_step() -> None:
    rng = np.random.default_rng(0)
    state = {
        "conv.weight": rng.normal(size=(6, 4, 3, 3, 3)).astype(np.float32),
        "linear.weight": (rng.normal(size=(5, 7)) * 100).astype(np.float32),
        "linear.bias": rng.normal(size=5).astype(np.float32),
        "norm.count": np.array(3, np.int64),
    }
    state["linear.weight"][2] = 0
    stored = encode_int8(state)
    assert stored["conv.weight"].dtype == np.int8 and stored["conv.weight" + SCALE_SUFFIX].shape == (6,)
    decoded = decode_int8(stored)
    assert set(decoded) == set(state)
    for name in ("conv.weight", "linear.weight"):
        rows = state[name].reshape(len(state[name]), -1)
        gap = np.abs(decoded[name].reshape(rows.shape) - rows).max(axis=1)
        assert (gap <= np.abs(rows).max(axis=1) / 127 / 2 * 1.0001).all()
    np.testing.assert_array_equal(decoded["linear.bias"], state["linear.bias"])
    np.testing.assert_array_equal(decoded["linear.weight"][2], 0)
    assert decoded["norm.count"] == 3


def test_scales_without_their_tensors_are_refused() -> None:
    scale = np.ones(2, np.float32)
    for wrong in (
        {"w" + SCALE_SUFFIX: scale},
        {"w": np.ones((2, 2), np.float32), "w" + SCALE_SUFFIX: scale},
        {"w": np.ones((3, 2), np.int8), "w" + SCALE_SUFFIX: scale},
    ):
        with pytest.raises(ValueError, match=r"belong"):
            decode_int8(wrong)
    with pytest.raises(ValueError, match="finite"):
        encode_int8({"w": np.full((2, 2), np.nan, np.float32)})


@pytest.mark.parametrize(("encoding", "bound"), [("int8", 0.02), ("float16", 0.001)])
def test_a_network_answers_nearly_the_same_from_small_weights(
    tmp_path: Path, encoding: str, bound: float
) -> None:
    params = {"in_channels": 1, "out_channels": 3, "channels": [8, 16]}
    torch.manual_seed(0)
    network = build("unet3d", **params).eval()
    state = {name: value.numpy() for name, value in network.state_dict().items()}
    if encoding == "int8":
        data = safetensors.numpy.save(encode_int8(state))
    else:
        data = safetensors.numpy.save(
            {n: v.astype(np.float16) if v.dtype.kind == "f" else v for n, v in state.items()}
        )
    stored = "int8" if encoding == "int8" else "float"
    manifest = segmentation_manifest(
        network=Network(name="unet3d", params=params),
        weights=(Weights(file=SAFETENSORS_FILE, format="safetensors", encoding=stored),),
    )
    write_bundle(tmp_path / "b", manifest, files={SAFETENSORS_FILE: data}, card="c", licence_text="l")
    loaded = load_network(read_bundle(tmp_path / "b"))
    assert loaded is not None
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        wanted, answer = network(image), loaded(image)
    assert answer.dtype == torch.float32
    gap = float((answer - wanted).norm() / wanted.norm())
    assert 0 < gap < bound


def test_int8_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    manifest = segmentation_manifest(
        network=Network(name="unet3d", params={"in_channels": 1, "out_channels": 3, "channels": [8, 16]}),
        weights=(Weights(file=SAFETENSORS_FILE, format="safetensors", encoding="int8"),),
    )
    data = safetensors.numpy.save({"w" + SCALE_SUFFIX: np.ones(2, np.float32)})
    bundle = write_bundle(
        tmp_path / "b", manifest, files={SAFETENSORS_FILE: data}, card="c", licence_text="l"
    )
    with pytest.raises(InputError, match="don't belong to its network"):
        load_network(bundle)
