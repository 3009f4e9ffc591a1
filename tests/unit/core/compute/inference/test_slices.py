"""Pictures segmented as volumes of one slice."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.bundles.manifest import Inference
from core.compute.inference.slices import SliceBackend, flat_settings, picture_grid
from core.compute.inference.stream import LabelStream
from core.domain.geometry import VolumeGeometry


def test_a_resized_picture_keeps_its_borders_in_place() -> None:
    geometry = VolumeGeometry.from_axes((1, 50, 70), (0.4, 0.5, 1.0), np.eye(3), (3.0, -2.0, 7.0))
    grid = picture_grid(geometry, 25, 140)
    # The pixel-centre convention: (n + ½) · size_in / size_out - ½.
    assert grid.series_index(1) == pytest.approx((np.arange(25) + 0.5) * 2 - 0.5)
    assert grid.series_index(2) == pytest.approx((np.arange(140) + 0.5) / 2 - 0.5)
    assert grid.model_index(2) == pytest.approx((np.arange(70) + 0.5) * 2 - 0.5)
    assert grid.model.shape_kji == (1, 25, 140)


def test_labels_of_a_resized_picture_come_back_on_its_own_pixels() -> None:
    grid = picture_grid(VolumeGeometry((1, 40, 60), np.eye(4)), 20, 30)
    truth = torch.zeros(1, 20, 30)
    truth[:, 5:15, 10:20] = 1
    stream = LabelStream(grid)
    stream.push(torch.stack([1 - truth, truth]))
    labels = stream.finished()
    assert labels.shape == (1, 40, 60)
    expected = np.zeros((1, 40, 60), bool)
    expected[:, 10:30, 20:40] = True
    # Interpolation rounds the four corners off.
    assert (labels.astype(bool) != expected).sum() <= 4


class _Plane:
    name, device, exact = "plane", "cpu", True

    def __call__(self, batch: torch.Tensor, cancel: object = None) -> torch.Tensor:
        assert batch.ndim == 4
        return torch.cat([batch, -batch], dim=1)


def test_windows_of_one_slice_reach_a_two_dimensional_network() -> None:
    window = torch.randn(3, 1, 1, 8, 8)
    assert torch.equal(SliceBackend(_Plane())(window), torch.cat([window, -window], dim=1))


def test_whole_pictures_are_padded_to_the_divisor_and_windows_lose_their_depth() -> None:
    assert flat_settings(Inference(divisor=16), (1, 50, 64)).patch_kji == (1, 64, 64)
    assert flat_settings(Inference(patch_kji=(8, 32, 48)), (1, 50, 64)).patch_kji == (1, 32, 48)
