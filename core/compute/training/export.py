"""Trained weights as files of a bundle: safetensors (in full, in halves, in eight bits) and ONNX, checked against
the network.
"""

from __future__ import annotations

import copy
import logging
import tempfile
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime
import safetensors.numpy
import torch
from safetensors.torch import save
from torch import Tensor, nn

from core.bundles.small_weights import encode_int8
from core.domain.errors import BugError

SAFETENSORS_FILE = "weights/model.safetensors"
ONNX_FILE = "weights/model.onnx"
_TOLERANCE = 2e-4
Encoding = Literal["float", "float16", "int8"]


def safetensors_of(network: nn.Module, encoding: Encoding = "float") -> bytes:
    """Return the state of a network as safetensors, contiguous.

    Parameters
    ----------
    encoding : str
        ``"float"`` keeps the types, ``"float16"`` halves what is float32, ``"int8"`` is ``core.bundles.small_weights``.

    Raises
    ------
    BugError
        ``training.export`` when a weight is too large for float16, or no number.
    """
    state = {key: value.detach().cpu().contiguous().clone() for key, value in network.state_dict().items()}
    if encoding == "float":
        return save(state)
    if encoding == "int8":
        try:
            return safetensors.numpy.save(encode_int8({key: value.numpy() for key, value in state.items()}))
        except ValueError as error:
            raise BugError(
                "training.export", f"The weights can't be written: {error}.", "Report this."
            ) from error
    halved = {key: value.half() if value.dtype == torch.float32 else value for key, value in state.items()}
    wrong = [key for key, value in halved.items() if value.is_floating_point() and not value.isfinite().all()]
    if wrong:
        raise BugError(
            "training.export",
            f"The weights {wrong[0]} don't fit into float16.",
            "Set bundle.weights to float.",
        )
    return save(halved)


def onnx_of(
    network: nn.Module, example: Tensor, *, dynamic: tuple[int, ...], text: Tensor | None = None
) -> bytes:
    """Export a network to ONNX (opset 18, fp32) with the given axes of input ``image`` dynamic.

    A network that answers with a dictionary gets an output of each name. Batch normalisation is folded by the
    exporter's optimiser. The graph is run and compared with the network.

    Parameters
    ----------
    text : torch.Tensor, optional
        ``(N, L)`` int64, for a network that takes a text; its batch is dynamic.

    Raises
    ------
    BugError
        ``training.export`` when ONNX Runtime answers otherwise than the network.
    """
    model = copy.deepcopy(network).to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]
    given = {"image": example.contiguous()} | ({} if text is None else {"text": text})
    free = torch.export.Dim.DYNAMIC
    shapes = [dict.fromkeys(dynamic, free), {0: free}][: len(given)]
    wanted = _answers(model, given)
    # The exporter reports operators of packages that are not installed and that no network here uses.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            tuple(given.values()),
            dynamo=True,
            opset_version=18,
            input_names=list(given),
            output_names=list(wanted),
            dynamic_shapes=tuple(shapes),
            verbose=False,
        )
    if program is None:
        raise BugError("training.export", "The network could not be exported to ONNX.", "Report this.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        program.save(path)
        data = without_traces(path.read_bytes())
    _compare(wanted, data, given)
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


def _answers(model: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the network's outputs by name."""
    with torch.no_grad():
        answer = model(*given.values())
    return dict(answer) if isinstance(answer, dict) else {"logits": answer}


def _compare(wanted: dict[str, Tensor], data: bytes, given: dict[str, Tensor]) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    used = {item.name for item in session.get_inputs()}
    answers = session.run(
        list(wanted), {name: value.numpy() for name, value in given.items() if name in used}
    )
    for (name, expected), answer in zip(wanted.items(), answers, strict=True):
        truth = expected.numpy()
        gap = float(np.abs(answer - truth).max() / max(1.0, float(np.abs(truth).max())))
        if gap > _TOLERANCE:
            raise BugError(
                "training.export",
                f"The ONNX graph's {name} differ from the network's by {gap:.1e}.",
                "Report this.",
            )
