"""Trained weights as files of a bundle: safetensors and ONNX, checked against the network."""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from safetensors.torch import save
from torch import Tensor, nn

from core.domain.errors import BugError

SAFETENSORS_FILE = "weights/model.safetensors"
ONNX_FILE = "weights/model.onnx"
_TOLERANCE = 2e-4


def safetensors_of(network: nn.Module) -> bytes:
    """Return the state of a network as safetensors, float32 and contiguous."""
    return save({key: value.detach().contiguous().clone() for key, value in network.state_dict().items()})


def onnx_of(network: nn.Module, example: Tensor, *, dynamic: tuple[int, ...]) -> bytes:
    """Export a network to ONNX (opset 18, fp32) with the given axes of input ``image`` dynamic.

    Batch normalisation is folded by the exporter's optimiser. The graph is run and compared with the network.

    Raises
    ------
    BugError
        ``training.export`` when ONNX Runtime answers otherwise than the network.
    """
    model = copy.deepcopy(network).to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    shapes = dict.fromkeys(dynamic, torch.export.Dim.DYNAMIC)
    # The exporter reports operators of packages that are not installed and that no network here uses.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (example.contiguous(),),
            dynamo=True,
            opset_version=18,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=(shapes,),
            verbose=False,
        )
    if program is None:
        raise BugError("training.export", "The network could not be exported to ONNX.", "Report this.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        program.save(path)
        data = without_traces(path.read_bytes())
    _compare(model, data, example)
    return data


def without_traces(data: bytes) -> bytes:
    """Drop the exporter's notes from an ONNX file: they quote source lines and paths of the exporting machine."""
    model = onnx.load_model_from_string(data)
    graph = model.graph
    noted = [model, graph, *graph.node, *graph.value_info, *graph.initializer, *graph.input, *graph.output]
    for part in noted:
        part.doc_string = ""
        del part.metadata_props[:]
    return model.SerializeToString()


def _compare(model: nn.Module, data: bytes, example: Tensor) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {session.get_inputs()[0].name: example.numpy()})
    with torch.no_grad():
        wanted = model(example).numpy()
    gap = float(np.abs(answer - wanted).max() / max(1.0, float(np.abs(wanted).max())))
    if gap > _TOLERANCE:
        raise BugError(
            "training.export", f"The ONNX graph differs from the network by {gap:.1e}.", "Report this."
        )
