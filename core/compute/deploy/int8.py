"""ONNX graphs in whole numbers: static with measured ranges, or dynamic.

Static is the QDQ form with unsigned activations and signed weights per output channel, the one that processors with
VNNI multiply fastest; ranges are the extremes over the calibration inputs. Dynamic measures ranges at each call and
needs no data, but convolutions gain little or lose.

The exporter notes shapes that preprocessing (``quant_pre_process`` with symbolic shapes) must replace first, or that
must be dropped: with the old ones ``quantize_dynamic`` fails on the transposed weights of linear layers.

Source: ONNX Runtime documentation, "Quantize ONNX models"; B. Jacob et al., CVPR 2018 (affine quantisation).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from core.bundles.onnx_check import check_onnx
from core.compute.deploy.silence import silence
from core.compute.training.export import without_traces
from core.domain.errors import InputError

Kind = Literal["static", "dynamic"]
Feed = dict[str, NDArray]


class _Feeds(CalibrationDataReader):
    """Calibration inputs, one by one."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._left = iter(feeds)

    def get_next(self) -> Feed | None:
        """Return the next input, or None after the last."""
        return next(self._left, None)


def quantised(model: bytes, kind: Kind, feeds: Sequence[Feed] = ()) -> bytes:
    """Return an ONNX graph with eight-bit weights and, for static, eight-bit activations.

    Parameters
    ----------
    model : bytes
        Float32 ONNX graph.
    feeds : sequence of dict
        Input name → array: what the network is given in real use (static only).

    Raises
    ------
    InputError
        ``deploy.calibration`` for static without inputs, ``deploy.int8`` for a graph that can't be quantised.
    SafetyError
        From ``check_onnx``, should the quantiser have put foreign operators in.
    """
    if kind == "static" and not feeds:
        raise InputError(
            "deploy.calibration",
            "Static INT8 needs real cases to measure the ranges of the network's values.",
            "Give a folder of cases with --data, or choose --int8 dynamic.",
        )
    with tempfile.TemporaryDirectory() as name, silence():
        folder = Path(name)
        source, prepared, target = (folder / f"{n}.onnx" for n in ("source", "prepared", "target"))
        source.write_bytes(model)
        try:
            _prepare(source, prepared)
            if kind == "static":
                quantize_static(
                    prepared,
                    target,
                    _Feeds(feeds),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8,
                )
            else:
                quantize_dynamic(prepared, target, per_channel=True, weight_type=QuantType.QInt8)
        except Exception as error:
            raise InputError(
                "deploy.int8",
                f"ONNX Runtime can't turn this network into {kind} INT8 ({type(error).__name__}).",
                "Deploy it without --int8.",
            ) from error
        data = without_traces(_standard(target.read_bytes()))
    onnx.checker.check_model(onnx.load_model_from_string(data))
    check_onnx(data, inputs=2)
    return data


def _prepare(source: Path, prepared: Path) -> None:
    """Fold and infer shapes; of a graph that is too much for symbolic shapes the old notes of shapes are dropped."""
    try:
        # What the inference of shapes could not finish it writes into the current folder.
        with contextlib.chdir(prepared.parent):
            quant_pre_process(source, prepared, skip_symbolic_shape=False)
        return
    except Exception:  # noqa: BLE001 - the inference of symbolic shapes fails in many ways; the next step does without
        quant_pre_process(source, prepared, skip_symbolic_shape=True)
    model = onnx.load(prepared)
    del model.graph.value_info[:]
    onnx.save(model, prepared)


def _standard(data: bytes) -> bytes:
    """Drop the operator sets that the quantiser names and no operator of the graph is of."""
    model = onnx.load_model_from_string(data)
    used = {node.domain for node in model.graph.node}
    kept = [item for item in model.opset_import if item.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return model.SerializeToString()


def feed_of(model: bytes, inputs: Sequence[NDArray]) -> Feed:
    """Return arrays by the names of a graph's inputs."""
    graph = onnx.load_model_from_string(model).graph
    known = {item.name for item in graph.initializer}
    names = [item.name for item in graph.input if item.name not in known]
    return {name: np.ascontiguousarray(array) for name, array in zip(names, inputs, strict=True)}
