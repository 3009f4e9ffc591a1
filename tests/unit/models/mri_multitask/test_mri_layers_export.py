"""The layers can be traced and exported, and answer the same afterwards."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from models.networks.mri_multitask.attention import MultiHeadAttention
from models.networks.mri_multitask.experts import MixtureOfExperts
from models.networks.mri_multitask.kan import KANLayer
from models.networks.mri_multitask.parallel_heads import ParallelHeads
from models.networks.mri_multitask.windowed import WindowedAttention1d, WindowedAttention3d


class EveryLayer(nn.Module):
    def __init__(self):
        super().__init__()
        self.volume = WindowedAttention3d(8, 2, 2, shifted=True)
        self.sequence = WindowedAttention1d(8, 2, 4, shift=1, bias="dense")
        self.attention = MultiHeadAttention(8, 2, kernel="flash")
        self.experts = MixtureOfExperts(8, 12, experts=3, top_k=2, noisy=True)
        self.heads = ParallelHeads(
            {"plain": KANLayer(8, 3, gated=True), "learnt": KANLayer(8, 2, learnable_knots=True)}
        )

    def forward(self, x):
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.volume(x.permute(0, 2, 3, 4, 1)).flatten(1, 3)
        tokens = tokens + self.sequence(tokens)
        tokens = tokens + self.experts(self.attention(tokens))
        outputs = self.heads(tokens.mean(1))
        return outputs["plain"], outputs["learnt"]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return EveryLayer().eval()


def volume(count, seed=0):
    return torch.randn(count, 8, 3, 4, 2, generator=torch.Generator().manual_seed(seed))


def test_a_traced_graph_answers_the_same(network):
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(network, volume(2), check_trace=False)
        for ours, theirs in zip(network(volume(2, 1)), traced(volume(2, 1)), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.slow
def test_an_onnx_graph_answers_the_same_for_another_batch(network):
    import onnxruntime

    written = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (volume(2),),
            dynamo=True,
            opset_version=18,
            dynamic_shapes=({0: torch.export.Dim.DYNAMIC},),
            optimize=False,
            verbose=False,
        )
        program.save(written)
        expected = network(volume(3, 1))
    session = onnxruntime.InferenceSession(written.getvalue(), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: volume(3, 1).numpy()})
    for ours, theirs in zip(expected, found, strict=True):
        assert np.abs(ours.numpy() - theirs).max() < 1e-5
