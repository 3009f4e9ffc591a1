"""ONNX files are looked through before a runtime sees them, and their cards are understood or refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from core.bundles.manifest import Percentile, Round
from core.bundles.onnx_card import card_id, manifest_from_card
from core.bundles.onnx_check import OnnxFacts, check_onnx
from core.domain.errors import AppError, InputError, SafetyError
from tests.fakes.bundles import brightness_onnx, threshold_onnx

FACTS = OnnxFacts(
    17, {"image": (None, 1, None, None, None)}, {"logits": (None, 3, None, None, None)}, frozenset()
)


def card(**changes: Any) -> bytes:
    document = {
        "name": "net",
        "title": "A network",
        "task": "segmentation",
        "dimension": 3,
        "preprocessing": [
            "conform as FreeSurfer mri_convert --conform: 256x256x256, 1 mm, orientation LIA, linear interpolation",
            "scale to 0..255 uint8 (min .. 99.9 % quantile)",
            "normalise: quantile 5..95 % (not clipped)",
        ],
        "labels": ["background", "White Matter", "Grey Matter"],
        "colors_rgb": [[0, 0, 0], [255, 255, 255], [205, 62, 78]],
        "license": "MIT",
        "expected": {"t1": {"peak_rss_GB": 2.8}},
    }
    return json.dumps({**document, **changes}).encode()


def test_facts_are_read_without_the_onnx_package() -> None:
    facts = check_onnx(threshold_onnx())
    assert facts.opset == 17
    assert facts.inputs == {"image": (None, 1, None, None, None)}
    assert facts.outputs["logits"][1] == 3
    assert facts.operators == {"Conv"}
    assert check_onnx(brightness_onnx()).operators == {"GlobalAveragePool", "Flatten", "Gemm"}


def _changed(change: Any) -> bytes:
    model = onnx.load_from_string(threshold_onnx())
    change(model)
    return bytes(model.SerializeToString())


def _external(model: Any) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"


def _external_in_attribute(model: Any) -> None:
    tensor = numpy_helper.from_array(np.zeros(2, np.float32), "t")
    tensor.data_location = TensorProto.EXTERNAL
    model.graph.node.append(helper.make_node("Constant", [], ["c"], value=tensor))


def _custom_node(model: Any) -> None:
    model.graph.node[0].domain = "evil.ops"


def _custom_import(model: Any) -> None:
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def _custom_in_subgraph(model: Any) -> None:
    inner = helper.make_graph([helper.make_node("Bad", [], ["x"], domain="evil")], "inner", [], [])
    model.graph.node.append(helper.make_node("If", ["image"], ["y"], then_branch=inner, else_branch=inner))


@pytest.mark.parametrize(
    "change", [_external, _external_in_attribute, _custom_node, _custom_import, _custom_in_subgraph]
)
def test_external_data_and_custom_operators_are_refused(change: Any) -> None:
    with pytest.raises(SafetyError):
        check_onnx(_changed(change))


def test_unknown_opsets_and_several_inputs_are_refused() -> None:
    def old(model: Any) -> None:
        model.opset_import[0].version = 3

    def two(model: Any) -> None:
        model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))

    for change in (old, two):
        with pytest.raises(InputError):
            check_onnx(_changed(change))


def test_damaged_files_raise_only_app_errors() -> None:
    data = threshold_onnx()
    rng = np.random.default_rng(0)
    for cut in range(0, len(data), 7):
        try:
            check_onnx(data[:cut])
        except AppError:
            continue
    for _ in range(300):
        flipped = bytearray(data)
        flipped[rng.integers(0, len(data))] = int(rng.integers(0, 256))
        try:
            check_onnx(bytes(flipped))
        except AppError:
            continue
    for rubbish in (b"", b"\0" * 100, b"\xff" * 100):
        with pytest.raises(InputError):
            check_onnx(rubbish)


def test_a_described_card_becomes_a_manifest() -> None:
    manifest, model_card = manifest_from_card(card(), FACTS, "net")
    steps = manifest.preprocessing
    assert steps.orientation == "AIL" and steps.conform is not None and steps.conform.size == 256
    assert steps.intensity == (
        Percentile(op="percentile", low=0.0, high=99.9, to_high=255.0, unless_8bit=True),
        Round(op="round"),
        Percentile(op="percentile", low=5.0, high=95.0, clip=False),
    )
    assert [(label.value, label.name) for label in manifest.labels] == [
        (1, "White Matter"),
        (2, "Grey Matter"),
    ]
    assert manifest.labels[0].code is not None and manifest.labels[0].code.value == "389080008"
    assert manifest.inference.memory_bytes_per_voxel == int(2.8e9 / 256**3)
    assert manifest.requirements.modalities == ("MR",)
    assert "not evaluated" in model_card


def test_a_card_of_manifest_fields_is_taken_as_it_is() -> None:
    fields = {
        "title": "Threshold",
        "labels": [{"value": 1, "name": "One"}, {"value": 2, "name": "Two"}],
        "preprocessing": {"spacing_ijk_mm": [2.0, 2.0, 2.0]},
        "licence": "MIT",
    }
    manifest, _ = manifest_from_card(json.dumps(fields).encode(), FACTS, "threshold")
    assert manifest.preprocessing.spacing_ijk_mm == (2.0, 2.0, 2.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"preprocessing": ["normalise: minmax"]},
        {"preprocessing": ["do something clever"]},
        {"preprocessing": "minmax"},
        {"preprocessing": {"unknown": 1}},
        {"labels": ["background"]},
        {"labels": ["background", "only one"]},
        {"labels": [1, 2, 3]},
        {"task": "classification"},
    ],
)
def test_a_card_that_is_not_understood_is_refused(changes: dict) -> None:
    with pytest.raises(InputError):
        manifest_from_card(card(**changes), FACTS, "net")


def test_identifiers_come_from_file_names() -> None:
    assert card_id("model5_gw_ae.onnx") == "model5-gw-ae"
    assert card_id("X.onnx") == "model-x"
