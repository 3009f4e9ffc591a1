"""Tiny multitask bundles of two contrasts whose answers can be worked out by hand, and studies for them."""

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
    Manifest,
    Measurement,
    Network,
    Preprocessing,
    Requirements,
    Scale,
    Weights,
)
from core.bundles.writer import Reference, write_bundle
from core.domain.geometry import VolumeGeometry
from core.domain.volume import Volume
from tests.fakes.bundles import CARD, LICENCE, ONNX_FILE, SAFETENSORS_FILE

SHAPE = (12, 16, 20)
CONTRASTS = ("T1", "T2")
MEAN_ML, STD_ML = 1400.0, 100.0
TINY_NETWORK: dict[str, Any] = {
    "in_channels": 2,
    "out_channels": 3,
    "classes": 2,
    "measurements": 2,
    "embed_dim": 16,
    "num_layers": 1,
    "num_heads": 2,
    "widths": [4, 8, 12],
    "depths": [1, 1, 1, 1, 1, 1],
    "bottleneck": 16,
    "bottleneck_blocks": 1,
}


def head_volume(
    contrast: str = "T1", shape_kji: tuple[int, int, int] = SHAPE, spacing_mm: float = 4.0
) -> Volume:
    """An MR-like ellipsoid (T1: 400, T2: 200) with a cube that is bright (900) on T2 and dark (100) on T1."""
    k, j, i = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape_kji), indexing="ij")
    voxels = np.zeros(shape_kji, np.int16)
    voxels[(k**2 + j**2 + i**2) < 0.8] = 400 if contrast == "T1" else 200
    voxels[(abs(k) < 0.3) & (abs(j - 0.2) < 0.2) & (abs(i + 0.3) < 0.2)] = 100 if contrast == "T1" else 900
    geometry = VolumeGeometry.from_axes(
        shape_kji, (spacing_mm,) * 3, np.eye(3), (-31.0, -27.0, 10.0), "1.2.3"
    )
    return Volume(geometry, voxels, "MR", f"1.2.826.0.1.{10 + CONTRASTS.index(contrast)}")


def head_study(spacing_mm: float = 4.0) -> dict[str, Volume]:
    """Both contrasts on one grid."""
    return {name: head_volume(name, spacing_mm=spacing_mm) for name in CONTRASTS}


def expected_tasks(
    volumes: dict[str, Volume],
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Labels, probabilities and measurements that the fake network answers with on an undisturbed grid.

    A contrast that is not among ``volumes`` counts as zeros.
    """
    like = next(iter(volumes.values())).voxels
    t1, t2 = (
        np.clip(volumes[name].voxels / 1000.0, 0, 1) if name in volumes else np.zeros(like.shape)
        for name in CONTRASTS
    )
    logits = np.stack([np.zeros_like(t1), 10 * t1 + 10 * t2 - 2, 30 * t2 - 16])
    old = np.array([1 - 10 * t1.mean(), 10 * t1.mean() - 1])
    probabilities = np.exp(old) / np.exp(old).sum()
    values = np.array([MEAN_ML + STD_ML * 10 * t2.mean(), 2.0 + 0.5 * -(t1.mean())])
    return logits.argmax(0).astype(np.uint8), probabilities.astype(np.float32), values.astype(np.float32)


def tasks_onnx(outputs: tuple[str, ...] = ("segmentation", "classification", "regression")) -> bytes:
    """1×1×1 convolution for the structures; linear heads on the mean of each contrast for the rest."""
    from onnx import TensorProto, helper, numpy_helper

    weights = {
        "conv": np.array([[0, 0], [10, 10], [0, 30]], np.float32).reshape(3, 2, 1, 1, 1),
        "conv_bias": np.array([0, -2, -16], np.float32),
        "class": np.array([[-10, 0], [10, 0]], np.float32),
        "class_bias": np.array([1, -1], np.float32),
        "value": np.array([[0, 10], [-1, 0]], np.float32),
        "value_bias": np.zeros(2, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "conv", "conv_bias"], ["segmentation"], kernel_shape=[1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["image"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "class", "class_bias"], ["classification"], transB=1),
        helper.make_node("Gemm", ["flat", "value", "value_bias"], ["regression"], transB=1),
    ]
    shapes: dict[str, list[Any]] = {
        "segmentation": ["N", 3, "D", "H", "W"],
        "classification": ["N", 2],
        "regression": ["N", 2],
    }
    graph = helper.make_graph(
        nodes,
        "fake",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 2, "D", "H", "W"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shapes[name]) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return model.SerializeToString()


def multitask_manifest(**changes: Any) -> Manifest:
    """Two structures, two classes, two numbers of T1 and T2; ``changes`` replace fields."""
    fields: dict[str, Any] = {
        "id": "fake-brain",
        "version": "1.0.0",
        "task": "multitask",
        "title": "Fake brain",
        "intended_use": "Tests.",
        "licence": "MIT",
        "weights": (Weights(file=ONNX_FILE, format="onnx"),),
        "labels": (
            Label(
                value=1,
                name="Brain",
                code=Code(value="12738006", scheme="SCT", meaning="Brain"),
                color_rgb=(230, 170, 150),
            ),
            Label(
                value=2,
                name="Lesion",
                code=Code(value="52988006", scheme="SCT", meaning="Lesion"),
                color_rgb=(240, 220, 60),
            ),
        ),
        "classes": (Label(value=0, name="Dark"), Label(value=1, name="Bright")),
        "measurements": (
            Measurement(
                name="Brain volume",
                unit="mL",
                code=Code(value="118565006", scheme="SCT", meaning="Volume"),
                mean=MEAN_ML,
                std=STD_ML,
            ),
            Measurement(name="Contrast ratio", unit="1", mean=2.0, std=0.5),
        ),
        "inputs": CONTRASTS,
        "missing_inputs": "zeros",
        "preprocessing": Preprocessing(intensity=(Scale(op="scale", from_low=0, from_high=1000),)),
        "requirements": Requirements(modalities=("MR",), min_slices=4),
        "calibration": Calibration(temperature=1.0, conformal=Conformal(quantile=0.9, coverage=0.95)),
        "findings": Findings(per="segment"),
    }
    return Manifest(**{**fields, **changes})


def make_multitask_bundle(
    folder: Path, files: dict[str, bytes] | None = None, *, wrong: str = "", **changes: Any
) -> Bundle:
    """Write the fake brain bundle with a reference; ``wrong`` is the expectation that is spoilt."""
    study = head_study()
    labels, probabilities, measurements = expected_tasks(study)
    answers: dict[str, Any] = {"labels": labels, "probabilities": probabilities, "measurements": measurements}
    if wrong:
        answers[wrong] = answers[wrong][..., ::-1].copy()
    reference = Reference(
        study["T1"].voxels,
        study["T1"].geometry.lps_from_ijk,
        "MR",
        contrast="T1",
        others={"T2": study["T2"].voxels},
        **answers,
    )
    return write_bundle(
        folder,
        multitask_manifest(**changes),
        files={ONNX_FILE: tasks_onnx()} | (files or {}),
        card=CARD,
        licence_text=LICENCE,
        reference=reference,
    )


def write_head_study(folder: Path, descriptions: dict[str, str] | None = None) -> Path:
    """Write both contrasts as two DICOM MR series of one study; ``descriptions`` per contrast, its name by default."""
    from tests.fakes.dicom_files import write_stack

    for number, (name, volume) in enumerate(head_study().items(), start=1):
        write_stack(
            folder / name,
            volume.voxels.astype(np.float64),
            volume.geometry,
            modality="MR",
            number=number,
            intercept=0.0,
            SeriesDescription=(descriptions or {}).get(name, f"Ax {name} 3D"),
            BodyPartExamined="HEAD",
        )
    return folder


def make_network_bundle(folder: Path, seed: int = 1) -> Bundle:
    """Write a bundle of the real multi-task network, tiny and untrained."""
    import torch

    from core.compute.training.export import safetensors_of
    from models.networks.registry import build

    torch.manual_seed(seed)
    manifest = multitask_manifest(
        network=Network(name="mri_multitask", params=TINY_NETWORK),
        weights=(Weights(file=SAFETENSORS_FILE, format="safetensors"),),
        preprocessing=Preprocessing(
            orientation="RAS",
            spacing_ijk_mm=(4.0, 4.0, 4.0),
            intensity=(Scale(op="scale", from_low=0, from_high=1000),),
        ),
        explain=Explain(layers=(ExplainLayer(name="trunk"), ExplainLayer(name="decoder"))),
        inference=Inference(divisor=16),
    )
    network = build("mri_multitask", **TINY_NETWORK).eval()
    files = {SAFETENSORS_FILE: safetensors_of(network)}
    return write_bundle(folder, manifest, files=files, card=CARD, licence_text=LICENCE)
