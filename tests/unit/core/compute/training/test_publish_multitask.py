"""What a training of several tasks, contrasts and reports leaves in its bundle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from torch import Tensor, nn

from core.bundles.manifest import Calibration
from core.bundles.small_weights import SCALE_SUFFIX
from core.compute.inference.backends import OnnxBackend
from core.compute.inference.reference import read_reference
from core.compute.inference.run import run_bundle
from core.compute.selftest import run_selftest
from core.compute.training.export import SAFETENSORS_FILE, onnx_of, safetensors_of
from core.compute.training.objective import build_network
from core.compute.training.publish import (
    Product,
    manifest_of,
    reference_crops,
    weight_files,
    write_product,
)
from core.domain.errors import BugError
from core.recipes.schema import Recipe
from tests.fakes.multitask_bundles import head_study, head_volume
from tests.fakes.recipes import tiny_recipe

TINY = {
    "embed_dim": 16,
    "num_layers": 1,
    "num_heads": 2,
    "widths": [4, 8, 12],
    "depths": [1, 1, 1, 1, 1, 1],
    "bottleneck": 16,
    "bottleneck_blocks": 1,
}


class Reader(nn.Module):
    """Two answers from an image and a text."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(8, 4, padding_idx=0)
        self.conv = nn.Conv3d(2, 3, 1)
        self.head = nn.Linear(7, 2)

    def forward(self, image: Tensor, text: Tensor) -> dict[str, Tensor]:
        volume = self.conv(image)
        pooled = torch.cat([volume.mean((2, 3, 4)), self.words(text).sum(1)], 1)
        return {"segmentation": volume, "classification": self.head(pooled)}


def recipe(**weights: Any) -> Recipe:
    document = tiny_recipe(
        name="tiny-brain",
        task="multitask",
        spatial_dims=3,
        network={"name": "mri_multitask", "params": TINY},
        tasks={"segmentation": {}, "classification": {}, "regression": {}},
        preprocessing={"intensity": [{"op": "scale", "from_low": 0, "from_high": 1000}]},
    )
    document["data"] = {
        "source": {"name": "nifti_patients", "files": {"T1": "t1", "T2": "t2"}, "mask": "m"},
        "channels": ["T1", "T2"],
        "missing": "zeros",
    }
    document["bundle"] = {
        "id": "tiny-brain",
        "title": "Tiny brain",
        "labels": [{"value": 1, "name": "Brain"}],
        "classes": [{"value": 0, "name": "Young"}, {"value": 1, "name": "Old"}],
        "measurements": [{"name": "Volume", "unit": "mL", "mean": 1400.0, "std": 100.0}],
        "requirements": {"modalities": ["MR"]},
        "weights": weights,
    }
    return Recipe.model_validate_json(json.dumps(document))


def product(made: Recipe) -> Product:
    network = build_network(made).eval()
    return Product(made, network, Calibration(temperature=1.5), {"train": 3}, "run")


def test_the_manifest_holds_structures_classes_measurements_and_contrasts() -> None:
    manifest = manifest_of(product(recipe(encoding="int8", onnx=False)), {})
    assert [label.name for label in manifest.structures] == ["Brain"]
    assert [label.name for label in manifest.image_classes] == ["Young", "Old"]
    assert [(m.name, m.unit, m.mean, m.std) for m in manifest.measurements] == [
        ("Volume", "mL", 1400.0, 100.0)
    ]
    assert manifest.inputs == ("T1", "T2") and manifest.missing_inputs == "zeros"
    assert [(w.format, w.encoding) for w in manifest.weights] == [("safetensors", "int8")]
    assert manifest.inference.divisor == 16 and manifest.explain.layers


def test_eight_bit_weights_take_about_a_quarter() -> None:
    network = build_network(recipe())
    full, half, small = (len(safetensors_of(network, kind)) for kind in ("float", "float16", "int8"))
    assert half < 0.6 * full and small < 0.5 * full
    stored = safetensors.numpy.load(safetensors_of(network, "int8"))
    assert any(name.endswith(SCALE_SUFFIX) for name in stored)


def test_a_weight_that_does_not_fit_into_sixteen_bits_is_refused() -> None:
    network = nn.Linear(2, 2)
    nn.init.constant_(network.weight, 1e6)
    with pytest.raises(BugError, match="weight don't fit into float16"):
        safetensors_of(network, "float16")


def test_a_bundle_of_eight_bit_weights_answers_its_own_selftest(tmp_path: Path) -> None:
    made = product(recipe(encoding="int8", onnx=False))
    files = weight_files(made)
    assert set(files) == {SAFETENSORS_FILE}
    study = {"T1": head_volume("T1"), "T2": head_volume("T2", (23, 31, 39), 2.0)}
    reference = reference_crops(study, None)
    assert reference["T2"].geometry.same_grid_as(reference["T1"].geometry)
    assert reference["T2"].voxels.dtype == np.int16
    bundle = write_product(made, files, tmp_path / "bundle", {}, reference=reference)
    case = read_reference(bundle)
    assert list(case.volumes) == ["T1", "T2"] and case.measurements is not None
    report = run_selftest(bundle, "cpu")
    assert report.passed, report.message
    output = run_bundle(bundle, head_study(), backend="exact")
    assert output.labels is not None and len(output.classes) == 2 and output.measurements[0].unit == "mL"


def test_a_graph_of_several_answers_and_a_text_is_exported_and_read_back() -> None:
    torch.manual_seed(0)
    network = Reader().eval()
    image, text = torch.randn(2, 2, 8, 12, 16), torch.tensor([[1, 2, 0, 0], [3, 0, 0, 0]])
    engine = OnnxBackend(onnx_of(network, image, dynamic=(0, 2, 3, 4), text=text), text_tokens=4)
    other, words = torch.randn(1, 2, 4, 6, 10), torch.tensor([[4, 5, 1, 0]])
    with torch.no_grad():
        wanted, silent = network(other, words), network(other, torch.zeros(1, 4, dtype=torch.int64))
    answer = engine.outputs(other, words)
    assert list(answer) == ["segmentation", "classification"]
    for name, expected in wanted.items():
        torch.testing.assert_close(answer[name], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        engine.outputs(other)["classification"], silent["classification"], rtol=1e-4, atol=1e-5
    )
