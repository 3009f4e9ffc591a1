"""The ONNX graph of a bundle, checked on what the network is really given; OpenVINO's form of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from core.bundles.bundle import Bundle
from core.bundles.manifest import Manifest
from core.compute.deploy.engines import Inputs, answers_of, flat, largest_difference, scale_of
from core.compute.deploy.silence import silence
from core.compute.inference.backends import Engine, OnnxBackend
from core.compute.inference.loaded import has_openvino
from core.compute.training.export import onnx_of
from core.domain.errors import AppError, BugError, EnvironmentFault, InputError
from models.networks.parts import parts_of

TOLERANCE = 1e-4


def onnx_graph(bundle: Bundle, network: nn.Module | None, given: Inputs) -> bytes:
    """Return the bundle's float32 graph, or export one when it holds none; raises as ``export_onnx``."""
    weights = bundle.weights("onnx")
    if weights is not None:
        return bundle.read(weights.file)
    assert network is not None
    return export_onnx(bundle.manifest, network, given)


def export_onnx(manifest: Manifest, network: nn.Module, given: Inputs) -> bytes:
    """Export a network; its batch is of any size, and so are its images unless the model works at one size.

    Raises
    ------
    InputError
        ``deploy.onnx`` when the network can't be exported.
    """
    fixed = manifest.preprocessing.resize_hw is not None or manifest.preprocessing.conform is not None
    spatial = () if fixed else tuple(range(2, given.image.ndim))
    example = given.repeated(2)
    image = _unequal(example.image, parts_of(network).divisor) if spatial else example.image
    try:
        with silence():
            return onnx_of(network, image, dynamic=(0, *spatial), text=example.text)
    except AppError:
        raise
    except Exception as error:
        raise InputError(
            "deploy.onnx",
            f"This network can't be exported to ONNX ({type(error).__name__}).",
            "Deploy it as torchscript.",
        ) from error


def _unequal(image: torch.Tensor, divisor: int) -> torch.Tensor:
    """Return a small part of images with sides of unequal length, lest the exporter takes two axes for one."""
    step = max(divisor, 8)
    sides = [step * max(1, min(side // step, 2 + axis)) for axis, side in enumerate(image.shape[2:])]
    for axis, side in enumerate(sides, start=2):
        image = image.narrow(axis, 0, side) if side <= image.shape[axis] else image
    return image.contiguous()


def check_graph(
    model: bytes, network: nn.Module | None, inputs: Sequence[Inputs], text_tokens: int = 0
) -> float:
    """Check a graph formally and on real inputs; return its largest absolute difference from the network.

    Raises
    ------
    BugError
        ``deploy.onnx``: an invalid graph, or a difference above 1e-4 (of the largest logit, where that exceeds 1).
    """
    try:
        onnx.checker.check_model(onnx.load_model_from_string(model), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise BugError("deploy.onnx", "The ONNX graph is not valid.", "Report this.") from error
    engine = OnnxBackend(model, "cpu", text_tokens=text_tokens)
    worst = 0.0
    for given in inputs if network is not None else ():
        with torch.no_grad():
            wanted = flat(network(*given.tensors))  # type: ignore[misc]
        gap = largest_difference(answers_of(engine, given), wanted)
        if gap > TOLERANCE * scale_of(wanted):
            raise BugError(
                "deploy.onnx", f"The ONNX graph differs from the network by {gap:.1e}.", "Report this."
            )
        worst = max(worst, gap)
    return worst


def opset_of(model: bytes) -> int:
    """Return the version of the standard operators that a graph needs."""
    imports = onnx.load_model_from_string(model).opset_import
    return next(int(item.version) for item in imports if item.domain in ("", "ai.onnx"))


def input_shapes(model: bytes) -> dict[str, list[int]]:
    """Return the shape of each input by name; -1 for an axis of any size."""
    graph = onnx.load_model_from_string(model).graph
    return {item.name: _shape(item) for item in graph.input}


def output_shapes(model: bytes) -> dict[str, list[int]]:
    """Return the shape of each output by name; -1 for an axis of any size."""
    return {item.name: _shape(item) for item in onnx.load_model_from_string(model).graph.output}


def _shape(item: onnx.ValueInfoProto) -> list[int]:
    return [axis.dim_value if axis.HasField("dim_value") else -1 for axis in item.type.tensor_type.shape.dim]


def require_openvino() -> None:
    """Refuse when the optional package is absent: EnvironmentFault ``deploy.openvino``."""
    if not has_openvino():
        raise EnvironmentFault(
            "deploy.openvino", "OpenVINO is not installed here.", "Install overread[fast] and try again."
        )


def write_openvino(model: bytes, folder: Path) -> tuple[Path, Path]:
    """Write OpenVINO's form of a graph in float32, ``model.xml`` and ``model.bin``.

    Raises
    ------
    EnvironmentFault
        ``deploy.openvino`` when the package is absent.
    """
    require_openvino()
    import openvino

    folder.mkdir(parents=True, exist_ok=True)
    converted = openvino.Core().read_model(model)
    openvino.save_model(converted, folder / "model.xml", compress_to_fp16=False)
    return folder / "model.xml", folder / "model.bin"


def check_openvino(xml: Path, exact: Engine, inputs: Sequence[Inputs]) -> float:
    """Run the written files in float32 on real inputs; return their largest difference from the exact engine.

    Raises
    ------
    BugError
        ``deploy.openvino`` when they differ by more than 1e-4 (of the largest logit, where that exceeds 1).
    """
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(xml), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    worst = 0.0
    for given in inputs:
        found = compiled([np.ascontiguousarray(tensor.numpy()) for tensor in given.tensors])
        wanted = answers_of(exact, given)
        answers = tuple(np.array(found[port], dtype=np.float32) for port in compiled.outputs)
        worst = max(worst, largest_difference(answers, wanted) / scale_of(wanted))
    if worst > TOLERANCE:
        raise BugError(
            "deploy.openvino", f"OpenVINO's files differ from the network by {worst:.1e}.", "Report this."
        )
    return worst
