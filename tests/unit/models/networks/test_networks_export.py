"""Networks written here become ONNX graphs that answer as they do, at sizes they were not exported with."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from core.compute.training.export import onnx_of
from models.networks.convnext import ConvNextEncoder
from models.networks.deeplab import DeepLabV3Plus
from models.networks.swin import SwinEncoder
from models.networks.vit import VitEncoder

NETWORKS: dict[str, tuple[nn.Module, int]] = {
    "swin": (SwinEncoder(12, (2, 2), (2, 4), window=4), 3),
    "vit": (VitEncoder(32, patch=8, depth=1, width=24, heads=2, hidden=48), 3),
    "convnext": (ConvNextEncoder((8, 16), (1, 1)), 3),
    "deeplab": (DeepLabV3Plus(1, 2, 2, 8, (1, 1, 1, 1), 16), 1),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_graph_answers_as_the_network_at_other_sizes(name: str) -> None:
    network, channels = NETWORKS[name]
    network.eval()
    graph = onnx_of(network, torch.randn(2, channels, 48, 64), dynamic=(0, 2, 3))
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    image = torch.randn(1, channels, 64, 40, generator=torch.Generator().manual_seed(0))
    (answer,) = session.run(None, {"image": image.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(answer, network(image).numpy(), atol=1e-4, rtol=1e-3)
