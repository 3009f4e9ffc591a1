"""Tiny model bundles whose answers can be worked out by hand, and volumes for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.bundles.bundle import Bundle
from core.bundles.manifest import (
    Calibration,
    Code,
    Conformal,
    Explain,
    ExplainLayer,
    Findings,
    Inference,
    Label,
    LabelRule,
    Manifest,
    Network,
    OutOfDistribution,
    Postprocessing,
    Preprocessing,
    Requirements,
    Scale,
    Weights,
)
from core.bundles.writer import Reference, write_bundle
from core.domain.geometry import VolumeGeometry
from core.domain.volume import Volume

ONNX_FILE = "weights/model.onnx"
SAFETENSORS_FILE = "weights/model.safetensors"
CARD = "# Fake model\n\nFor tests.\n"
LICENCE = "MIT License\n"


def make_volume(
    shape_kji: tuple[int, int, int] = (24, 28, 32),
    spacing_ijk_mm: tuple[float, float, float] = (2.0, 2.0, 2.0),
    *,
    modality: str = "CT",
    direction: NDArray | None = None,
    seed: int = 0,
) -> Volume:
    """CT-like int16: air -1000, a water-like ellipsoid (0) with a bone-like cube (800) off its centre."""
    rng = np.random.default_rng(seed)
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape_kji), indexing="ij")
    voxels = np.full(shape_kji, -1000, np.int16)
    voxels[(k**2 + j**2 + i**2) < 0.7] = 0
    voxels[(abs(k - 0.2) < 0.2) & (abs(j - 0.3) < 0.2) & (abs(i + 0.2) < 0.2)] = 800
    voxels[voxels > -1000] += rng.integers(-20, 20, int((voxels > -1000).sum())).astype(np.int16)
    matrix = np.eye(3) if direction is None else np.asarray(direction, float)
    geometry = VolumeGeometry.from_axes(shape_kji, spacing_ijk_mm, matrix, (-31.0, -27.0, 100.0), "1.2.3")
    return Volume(geometry, voxels, modality, "1.2.826.0.1.1", units="HU" if modality == "CT" else "stored")


def make_image(mean: float = 200.0, size: tuple[int, int] = (48, 40), inverted: bool = False) -> Volume:
    """One 8-bit grey image of about ``mean`` with a brighter square."""
    pixels = np.full((1, *size), mean, np.uint8)
    pixels[0, 10:20, 8:16] = min(255, int(mean) + 30)
    geometry = VolumeGeometry((1, *size), np.eye(4))
    return Volume(geometry, pixels, "OT", "1.2.826.0.1.2", inverted=inverted)


def expected_labels(voxels: NDArray) -> NDArray[np.uint8]:
    """What the threshold network answers on an undisturbed grid."""
    x = np.clip((voxels.astype(np.float32) + 1000) / 2000, 0, 1)
    return np.where(x > 0.7, 2, np.where(x > 0.2, 1, 0)).astype(np.uint8)


def threshold_onnx() -> bytes:
    """1×1×1 convolution: background 0, soft 10x - 2, dense 30x - 16."""
    from onnx import helper, numpy_helper

    weight = np.array([0, 10, 30], np.float32).reshape(3, 1, 1, 1, 1)
    bias = np.array([0, -2, -16], np.float32)
    node = helper.make_node("Conv", ["image", "weight", "bias"], ["logits"], kernel_shape=[1, 1, 1])
    return _model(
        [node],
        ["N", 1, "D", "H", "W"],
        ["N", 3, "D", "H", "W"],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )


def brightness_onnx() -> bytes:
    """Mean brightness m in 0…1 → logits (5 - 10m, 10m - 5)."""
    from onnx import helper, numpy_helper

    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], transB=1),
    ]
    weight = np.array([[-10.0], [10.0]], np.float32)
    bias = np.array([5.0, -5.0], np.float32)
    return _model(
        nodes,
        ["N", 1, "H", "W"],
        ["N", 2],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )


def _model(nodes: list[Any], given: list, answer: list, initializers: list[Any]) -> bytes:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        nodes,
        "fake",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, answer)],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def segmentation_manifest(**changes: Any) -> Manifest:
    """A threshold model on 2 mm LPS; ``changes`` replace fields."""
    fields: dict[str, Any] = {
        "id": "fake-threshold",
        "version": "1.0.0",
        "task": "segmentation",
        "title": "Fake tissue thresholds",
        "intended_use": "Tests.",
        "licence": "MIT",
        "weights": (Weights(file=ONNX_FILE, format="onnx"),),
        "labels": (
            Label(
                value=1,
                name="Soft tissue",
                code=Code(value="87784001", scheme="SCT", meaning="Soft tissue"),
                color_rgb=(200, 120, 100),
            ),
            Label(
                value=2,
                name="Bone",
                code=Code(value="272673000", scheme="SCT", meaning="Bone"),
                color_rgb=(240, 230, 200),
            ),
        ),
        "preprocessing": Preprocessing(
            spacing_ijk_mm=(2.0, 2.0, 2.0), intensity=(Scale(op="scale", from_low=-1000, from_high=1000),)
        ),
        "inference": Inference(patch_kji=(16, 16, 16), batch=2),
        "postprocessing": Postprocessing(rules=(LabelRule(value=2, largest_component=True),)),
        "requirements": Requirements(modalities=("CT",), max_spacing_mm=10.0, min_slices=4),
        "findings": Findings(per="segment"),
    }
    return Manifest(**{**fields, **changes})


def classification_manifest(**changes: Any) -> Manifest:
    """Dark or bright; ``changes`` replace fields."""
    fields: dict[str, Any] = {
        "id": "fake-brightness",
        "version": "1.0.0",
        "task": "classification",
        "title": "Fake brightness",
        "intended_use": "Tests.",
        "licence": "MIT",
        "weights": (Weights(file=ONNX_FILE, format="onnx"),),
        "labels": (Label(value=0, name="Dark"), Label(value=1, name="Bright")),
        "preprocessing": Preprocessing(
            resize_hw=(32, 32), intensity=(Scale(op="scale", from_low=0, from_high=255),)
        ),
        "requirements": Requirements(kind="image", regular=False, colour="any"),
        "calibration": Calibration(
            temperature=1.0,
            conformal=Conformal(quantile=0.9, coverage=0.95),
            out_of_distribution=OutOfDistribution(
                method="energy", quantiles=tuple(float(x) for x in np.linspace(-6, 0, 21))
            ),
        ),
        "findings": Findings(per="class"),
    }
    return Manifest(**{**fields, **changes})


def make_segmentation_bundle(folder: Path, key: Path | None = None, **changes: Any) -> Bundle:
    """Write the threshold bundle to ``folder``."""
    volume = make_volume()
    reference = Reference(
        volume.voxels, volume.geometry.lps_from_ijk, "CT", "HU", labels=expected_labels(volume.voxels)
    )
    return write_bundle(
        folder,
        segmentation_manifest(**changes),
        files={ONNX_FILE: threshold_onnx()},
        card=CARD,
        licence_text=LICENCE,
        reference=reference,
        private_key_file=key,
    )


def make_classification_bundle(folder: Path, key: Path | None = None, **changes: Any) -> Bundle:
    """Write the brightness bundle to ``folder``."""
    image = np.full((1, 32, 32), 200, np.uint8)
    mean = 200 / 255
    logits = np.array([5 - 10 * mean, 10 * mean - 5])
    probabilities = np.exp(logits) / np.exp(logits).sum()
    reference = Reference(image, np.eye(4), "OT", probabilities=probabilities.astype(np.float32))
    return write_bundle(
        folder,
        classification_manifest(**changes),
        files={ONNX_FILE: brightness_onnx()},
        card=CARD,
        licence_text=LICENCE,
        reference=reference,
        private_key_file=key,
    )


def make_torch_bundle(
    folder: Path, name: str, params: dict[str, Any], layers: tuple[str, ...], base: Manifest, seed: int = 0
) -> Bundle:
    """Write a bundle of a registry network with seeded random weights; ``base`` gives everything else."""
    import torch
    from safetensors.torch import save

    from models.networks.registry import build

    torch.manual_seed(seed)
    network = build(name, **params).eval()
    manifest = base.model_copy(
        update={
            "network": Network(name=name, params=params),
            "weights": (Weights(file=SAFETENSORS_FILE, format="safetensors"),),
            "explain": Explain(layers=tuple(ExplainLayer(name=layer) for layer in layers)),
        }
    )
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    return write_bundle(
        folder, manifest, files={SAFETENSORS_FILE: save(state)}, card=CARD, licence_text=LICENCE
    )
