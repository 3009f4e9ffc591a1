"""The multi-task network as an ONNX graph and as a TorchScript trace."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from models.networks.registry import build


def network(variant: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(
        "mri_multitask",
        in_channels=2,
        out_channels=3,
        classes=4,
        measurements=2,
        variant=variant,
        scales=[1, 2],
        embed_dim=16,
        num_layers=2,
        num_heads=2,
        widths=[8, 8, 16],
        depths=[1, 1, 1, 1, 1, 1],
        bottleneck=16,
        bottleneck_blocks=1,
        window=3,
    ).eval()


def volume(absent: bool) -> Tensor:
    made = torch.randn(1, 2, 32, 16, 48, generator=torch.Generator().manual_seed(2))
    if absent:
        made[:, 1] = 0.0
    return made


@pytest.mark.slow
def test_the_graph_answers_as_the_network_with_and_without_a_contrast(tmp_path: Path) -> None:
    made = network("basic")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            made, (volume(False),), dynamo=True, opset_version=18, input_names=["image"], verbose=False
        )
    assert program is not None
    program.save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    for absent in (False, True):
        with torch.no_grad():
            wanted = made(volume(absent))
        found = session.run(None, {"image": volume(absent).numpy()})
        for answer, value in zip(found, wanted.values(), strict=True):
            np.testing.assert_allclose(answer, value.numpy(), atol=1e-4)


@pytest.mark.parametrize("variant", ["basic", "sota"])
def test_the_trace_answers_as_the_network(variant: str) -> None:
    made = network(variant)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(made, (volume(False),), strict=False, check_trace=False)
    with torch.no_grad():
        wanted, found = made(volume(True)), traced(volume(True))
    assert list(found) == list(wanted)
    assert all(torch.allclose(found[name], wanted[name], atol=1e-5) for name in wanted)
