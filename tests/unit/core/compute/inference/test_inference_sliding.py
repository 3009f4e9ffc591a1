"""Sliding windows equal MONAI's, cover everything, and skip only what can't matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import SlidingWindowInferer
from monai.inferers.utils import _get_scan_interval

from core.bundles.manifest import Inference
from core.compute.inference.backends import TorchBackend
from core.compute.inference.networks import frozen
from core.compute.inference.sliding import full_logits, padded_whole, sliding_slabs
from core.compute.inference.windows import importance_map, plan_windows
from core.domain.progress import Cancelled, CancelToken
from models.networks.registry import build


class Identity:
    """A backend that returns its input and counts its calls."""

    name, device, exact = "identity", "cpu", True

    def __init__(self) -> None:
        self.windows = 0

    def __call__(self, batch: torch.Tensor, cancel: CancelToken | None = None) -> torch.Tensor:
        self.windows += len(batch)
        return batch.clone()


def unet(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return frozen(build("unet3d", out_channels=3, channels=[4, 8]))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 70)] * 3),
    size=st.tuples(*[st.integers(1, 40)] * 3),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.625, 0.9]),
)
def test_windows_lie_where_monai_puts_them(shape: tuple, size: tuple, overlap: float) -> None:
    plan = plan_windows(shape, size, overlap)
    padded = tuple(max(n, w) for n, w in zip(shape, size, strict=True))
    interval = _get_scan_interval(padded, size, 3, (overlap,) * 3)
    theirs = [tuple(s.start for s in window) for window in dense_patch_slices(padded, size, interval)]
    assert list(plan.starts) == theirs


@pytest.mark.parametrize("size", [(8, 8, 8), (5, 9, 12), (1, 4, 16)])
def test_weights_equal_monais(size: tuple) -> None:
    for mode, sigma in (("gaussian", 0.125), ("gaussian", 0.25), ("constant", 0.125)):
        theirs = compute_importance_map(size, mode=mode, sigma_scale=sigma)
        assert torch.allclose(importance_map(size, mode, sigma), theirs, atol=1e-7)


@pytest.mark.parametrize("shape", [(40, 37, 50), (16, 16, 16), (9, 30, 20), (5, 6, 7)])
@pytest.mark.parametrize("mode", ["gaussian", "constant"])
@pytest.mark.parametrize("engine", ["torch", "torch-folded", "torch-fused"])
def test_output_equals_monai_on_the_same_windows(shape: tuple, mode: str, engine: str) -> None:
    network = unet()
    image = torch.rand((1, *shape), generator=torch.Generator().manual_seed(1))
    options = Inference(patch_kji=(16, 16, 16), overlap=0.5, mode=mode, batch=3, pad_value=-0.5)
    ours = full_logits(sliding_slabs(image, TorchBackend(network, engine), options))
    peer = SlidingWindowInferer((16, 16, 16), 1, 0.5, mode=mode, cval=-0.5)
    with torch.no_grad():
        theirs = peer(image[None], unet())[0]
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) <= 1e-5


@settings(max_examples=30, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 30)] * 3),
    overlap=st.sampled_from([0.0, 0.3, 0.5]),
    batch=st.integers(1, 5),
)
def test_an_identity_network_returns_the_image(shape: tuple, overlap: float, batch: int) -> None:
    image = torch.rand((2, *shape))
    options = Inference(patch_kji=(8, 8, 8), overlap=overlap, batch=batch)
    slabs = list(sliding_slabs(image, Identity(), options))
    assert torch.allclose(full_logits(iter(slabs)), image, atol=1e-6)
    assert [slab.start for slab in slabs] == list(np.cumsum([0, *(s.logits.shape[1] for s in slabs)]))[:-1]


def test_batches_do_not_change_the_answer() -> None:
    image = torch.rand((1, 24, 20, 28))
    network = unet()
    answers = [
        full_logits(
            sliding_slabs(image, TorchBackend(network, "torch"), Inference(patch_kji=(16, 16, 16), batch=n))
        )
        for n in (1, 2, 5)
    ]
    assert all(float((answers[0] - other).abs().max()) <= 1e-5 for other in answers[1:])


def test_constant_windows_run_once_and_change_nothing() -> None:
    image = torch.zeros((1, 48, 48, 48))
    image[0, :12, :12, :12] = torch.rand(12, 12, 12)
    network = unet()
    counted = Identity()
    options = Inference(patch_kji=(16, 16, 16), overlap=0.5)
    assert torch.allclose(full_logits(sliding_slabs(image, counted, options)), image, atol=1e-6)
    windows = len(plan_windows((48, 48, 48), (16, 16, 16), 0.5).starts)
    assert counted.windows == 8 + 1 < windows
    ours = full_logits(sliding_slabs(image, TorchBackend(network, "torch"), options))
    with torch.no_grad():
        theirs = SlidingWindowInferer((16, 16, 16), 1, 0.5, mode="gaussian")(image[None], network)[0]
    assert float((ours - theirs).abs().max()) <= 1e-5


def test_cancelling_between_windows_stops_and_keeps_nothing() -> None:
    token = CancelToken()

    def stop(done: int, total: int) -> None:
        if done == 2:
            token.cancel()

    image = torch.rand((1, 40, 16, 16))
    options = Inference(patch_kji=(16, 16, 16))
    with pytest.raises(Cancelled):
        list(sliding_slabs(image, Identity(), options, cancel=token, on_window=stop))


def test_progress_counts_every_window() -> None:
    seen: list[tuple[int, int]] = []
    image = torch.zeros((1, 40, 20, 16))
    options = Inference(patch_kji=(16, 16, 16))
    list(sliding_slabs(image, Identity(), options, on_window=lambda done, total: seen.append((done, total))))
    assert [done for done, _ in seen] == list(range(1, seen[-1][1] + 1))


def test_a_whole_image_network_gets_one_padded_window() -> None:
    image = torch.rand((1, 9, 10, 11))
    counted = Identity()
    answer = full_logits(sliding_slabs(image, counted, Inference(divisor=8)))
    assert counted.windows == 1 and torch.equal(answer, image)


def test_a_picture_for_a_flat_network_keeps_its_one_slice() -> None:
    image = torch.ones(2, 1, 20, 30)
    padded, before = padded_whole(image, Inference(divisor=16), flat=True)
    assert padded.shape == (2, 1, 32, 32) and before == (0, 6, 1)
    assert padded_whole(image, Inference(divisor=16))[0].shape == (2, 16, 32, 32)
