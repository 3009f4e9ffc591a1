"""The same model as other systems expect it: a MONAI bundle, an MLflow model, a Triton repository.

They are views: graph and weights are those of the bundle; nothing in them is pickled or executes.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.bundles.bundle import LICENCE_FILE, Bundle
from core.bundles.manifest import Manifest
from core.bundles.writer import METADATA_FILE, monai_metadata
from core.compute.deploy.onnx_files import input_shapes, output_shapes
from core.config.telemetry import refuse_telemetry
from core.domain.errors import EnvironmentFault

_EXAMPLE_SIDE = 32
_TRITON_BATCH, _TRITON_DELAY_US = 16, 2000
_TYPES = {"image": "TYPE_FP32", "text": "TYPE_INT64"}


def write_monai(bundle: Bundle, torchscript: bytes, folder: Path) -> Path:
    """Write a MONAI bundle: metadata, TorchScript and an inference configuration without expressions.

    The configuration names the network and the window; it runs from inside the bundle's folder.
    Source: MONAI bundle specification.
    """
    fresh(folder)
    files = {
        METADATA_FILE: monai_metadata(bundle.manifest),
        "configs/inference.json": (json.dumps(_inference(bundle.manifest), indent=2) + "\n").encode(),
        "models/model.ts": torchscript,
        "docs/README.md": (bundle.card or f"# {bundle.manifest.title}\n").encode(),
        "LICENSE": bundle.read(LICENCE_FILE),
    }
    for name, data in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def _inference(manifest: Manifest) -> dict[str, Any]:
    settings = manifest.inference
    inferer: dict[str, Any] = {"_target_": "monai.inferers.SimpleInferer"}
    if settings.patch_kji is not None and manifest.task == "segmentation":
        size = settings.patch_kji if manifest.is_3d else settings.patch_kji[1:]
        inferer = {
            "_target_": "monai.inferers.SlidingWindowInferer",
            "roi_size": list(size),
            "sw_batch_size": settings.batch,
            "overlap": settings.overlap,
            "mode": settings.mode,
            "sigma_scale": settings.sigma_scale,
            "cval": settings.pad_value,
        }
    return {
        "network": {"_target_": "torch.jit.load", "f": "models/model.ts", "map_location": "cpu"},
        "inferer": inferer,
        "preprocessing_of_overread": json.loads(manifest.preprocessing.model_dump_json()),
    }


def write_mlflow(bundle: Bundle, model: bytes, divisor: int, folder: Path) -> Path:
    """Write an MLflow model with the ONNX flavour, its signature and an input example of noise.

    The example is nobody's image: an MLflow model is passed on and its example is stored as text.

    Parameters
    ----------
    divisor : int
        What free sizes of the image must be multiples of.

    Raises
    ------
    EnvironmentFault
        ``deploy.mlflow`` when the package is absent.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise EnvironmentFault("deploy.mlflow", "MLflow is not installed here.", "Install overread[track].")
    refuse_telemetry()
    import mlflow.onnx
    import onnx
    from mlflow.models.signature import ModelSignature
    from mlflow.types import Schema, TensorSpec

    fresh(folder)
    example = {name: _noise(name, shape, divisor) for name, shape in input_shapes(model).items()}
    spec = [
        TensorSpec(example[name].dtype, (-1, *shape[1:]), name) for name, shape in input_shapes(model).items()
    ]
    answers = [
        TensorSpec(np.dtype(np.float32), (-1, *shape[1:]), name)
        for name, shape in output_shapes(model).items()
    ]
    manifest = bundle.manifest
    mlflow.onnx.save_model(
        onnx.load_model_from_string(model),
        str(folder),
        signature=ModelSignature(inputs=Schema(spec), outputs=Schema(answers)),
        input_example=example,
        pip_requirements=["mlflow", "onnx", "onnxruntime"],
        save_as_external_data=False,
        metadata={
            "overread_id": manifest.id,
            "overread_version": manifest.version,
            "overread_task": manifest.task,
            "licence": manifest.licence,
            "sha256": bundle.identity.sha256,
        },
    )
    return folder


def _noise(name: str, shape: list[int], divisor: int) -> NDArray:
    """Return one small input of a graph, with two digits per number."""
    free = max(divisor, _EXAMPLE_SIDE // divisor * divisor)
    sides = [1, *(side if side != -1 else free for side in shape[1:])]
    if name == "text":
        return np.zeros(sides, dtype=np.int64)
    return np.random.default_rng(0).random(sides).round(2).astype(np.float32)


def write_triton(bundle: Bundle, model: bytes, folder: Path) -> Path:
    """Write a Triton model repository: ``<id>/1/model.onnx`` and ``<id>/config.pbtxt`` with dynamic batching.

    Source: Triton Inference Server, "Model Configuration" and ``model_config.proto``.
    """
    fresh(folder)
    home = folder / bundle.id
    (home / "1").mkdir(parents=True)
    (home / "1" / "model.onnx").write_bytes(model)
    (home / "config.pbtxt").write_text(triton_config(bundle.id, model), encoding="utf-8")
    return folder


def triton_config(name: str, model: bytes) -> str:
    """Return ``config.pbtxt`` of an ONNX graph whose first axis is the batch; the others are stated without it."""
    given = [_tensor(key, shape, _TYPES.get(key, "TYPE_FP32")) for key, shape in input_shapes(model).items()]
    answers = [_tensor(key, shape, "TYPE_FP32") for key, shape in output_shapes(model).items()]
    batched = all(shape[0] == -1 for shape in input_shapes(model).values())
    lines = [
        f"name: {json.dumps(name)}",
        'backend: "onnxruntime"',
        f"max_batch_size: {_TRITON_BATCH if batched else 0}",
        f"input [\n{', '.join(given)}\n]",
        f"output [\n{', '.join(answers)}\n]",
        "instance_group [ { count: 1 kind: KIND_AUTO } ]",
    ]
    if batched:
        lines.append(f"dynamic_batching {{ max_queue_delay_microseconds: {_TRITON_DELAY_US} }}")
    return "\n".join(lines) + "\n"


def _tensor(name: str, shape: list[int], kind: str) -> str:
    dims = shape[1:] if shape[0] == -1 else shape
    return f"  {{ name: {json.dumps(name)} data_type: {kind} dims: {list(dims)} }}"


def fresh(folder: Path) -> None:
    """Remove what an earlier deployment wrote here."""
    if folder.exists():
        shutil.rmtree(folder)
