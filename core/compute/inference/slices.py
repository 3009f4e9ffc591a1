"""Segmentation of single pictures by two-dimensional networks, with the machinery for volumes of one slice."""

from __future__ import annotations

import torch

from core.bundles.manifest import Inference
from core.compute.inference.backends import Backend
from core.compute.inference.grids import ModelGrid
from core.domain.geometry import VolumeGeometry
from core.domain.progress import CancelToken


class SliceBackend:
    """Runs a two-dimensional network on windows ``(N, C, 1, H, W)``; with ``keep`` its answers have no space."""

    def __init__(self, inner: Backend, *, keep: bool = False) -> None:
        self.name, self.device, self.exact, self._inner = inner.name, inner.device, inner.exact, inner
        self._keep = keep

    def __call__(self, batch: torch.Tensor, cancel: CancelToken | None = None) -> torch.Tensor:
        """Return logits ``(N, C, 1, H, W)``."""
        answer = self._inner(batch[:, :, 0], cancel)
        return answer if self._keep else answer.unsqueeze(2)


def flat_settings(settings: Inference, shape_kji: tuple[int, ...]) -> Inference:
    """Return windows of one slice: the whole picture, padded to the divisor, where no window is given."""
    if settings.patch_kji is not None:
        return settings.model_copy(update={"patch_kji": (1, *settings.patch_kji[1:])})
    step = settings.divisor
    j, i = (-(-n // step) * step for n in shape_kji[1:])
    return settings.model_copy(update={"patch_kji": (1, j, i)})


def picture_grid(geometry: VolumeGeometry, rows: int, columns: int) -> ModelGrid:
    """Return the grid of a picture that was resized to ``rows`` × ``columns`` with its borders kept in place."""
    _, j, i = geometry.shape_kji
    scale_j, scale_i = j / rows, i / columns
    resized = torch.eye(4, dtype=torch.float64).numpy()
    resized[0, 0], resized[1, 1] = scale_i, scale_j
    resized[0, 3], resized[1, 3] = (scale_i - 1) / 2, (scale_j - 1) / 2
    model = VolumeGeometry((1, rows, columns), geometry.lps_from_ijk @ resized)
    return ModelGrid(geometry, model, (0, 1, 2), (False, False, False), False)
