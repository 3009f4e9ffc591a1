"""Maps of volumes: made on the model grid, window by window or of the whole image, brought back to the series' grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from core.bundles.manifest import Manifest
from core.compute.explain.attribution import integrated_gradients, occlusion
from core.compute.explain.cam import CAM_METHODS, Score, layer_maps, upsampled
from core.compute.explain.randomisation import randomisation_correlation
from core.compute.explain.regions import (
    cut,
    pad_to,
    region_on_model_grid,
    whole_size,
    window_around,
    window_size,
    windows_on,
)
from core.compute.explain.targets import class_score, region_score
from core.compute.inference.backends import Backend
from core.compute.inference.prepare import PreparedVolume
from core.compute.inference.resample import resample_separable
from core.compute.inference.slices import flat_settings
from core.compute.inference.windows import Triple, importance_map
from core.domain.errors import InputError
from core.domain.geometry import undo_reorientation
from core.domain.progress import CancelToken, Progress

_DRAWS = 3
_OCCLUSION_CELLS = 4
Triplet = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class VolumeMap:
    """Map ``(K, J, I)`` float32 on the series' grid (not scaled), cell size along (i, j, k), sanity
    correlation.
    """

    heat: NDArray[np.float32]
    resolution_mm: Triplet
    correlation: float | None


class VolumeExplainer:
    """Explains one channel of a segmentation network on one prepared volume, or picture as a volume of one slice
    (with a ``SliceNetwork``); with ``whole_class`` one class of a network that classifies the whole volume.
    """

    def __init__(
        self,
        prepared: PreparedVolume,
        manifest: Manifest,
        channel: int,
        labels: NDArray | None,
        progress: Progress,
        cancel: CancelToken | None,
        *,
        whole_class: bool = False,
    ) -> None:
        self._whole_class = whole_class
        self._grid = prepared.grid
        self._channel = channel
        self._progress, self._cancel = progress, cancel
        shape = prepared.grid.model.shape_kji
        settings = manifest.inference
        self._size = (
            whole_size(settings.divisor, shape)
            if whole_class or (manifest.task == "multitask" and manifest.is_3d)
            else window_size(settings if manifest.is_3d else flat_settings(settings, shape), shape)
        )
        self._baseline = manifest.inference.pad_value
        self._image = pad_to(prepared.tensor, self._size, self._baseline)
        self._region = self._region_of(labels, manifest, shape)
        self._padded_region = pad_to(torch.from_numpy(self._region)[None], self._size, False)[0]

    def _region_of(self, labels: NDArray | None, manifest: Manifest, shape: Triple) -> NDArray[np.bool_]:
        if labels is None:
            return np.ones(shape, dtype=bool)
        region = region_on_model_grid(labels, self._channel, self._grid)
        if not region.any():
            raise InputError(
                "explain.absent",
                f"{manifest.title} did not find this structure here.",
                "Choose a structure that was found.",
            )
        return region

    def cam(self, network: torch.nn.Module, layer: str, method: str) -> VolumeMap:
        """Grad-CAM, Grad-CAM++ or LayerCAM over all windows that hold the region."""
        assert method in CAM_METHODS
        starts = windows_on(self._region, self._size)
        weights = importance_map(self._size, "gaussian", 0.125)
        total = torch.zeros(self._image.shape[1:])
        summed = torch.zeros(self._image.shape[1:])
        device = next(network.parameters()).device
        cells: tuple[int, ...] = self._size
        for number, start in enumerate(starts):
            self._step("Explaining", 0.2 + 0.5 * number / len(starts))
            window = cut(self._image, start, self._size)[None].to(device)
            (small,) = layer_maps(network, layer, window, [self._score(start, device)], method)
            cells = tuple(small.shape[2:])
            heat = upsampled(small, self._size)[0, 0].cpu()
            cut(summed, start, self._size).addcmul_(heat, weights)
            cut(total, start, self._size).add_(weights)
        heat = torch.where(total > 0, summed / total.clamp_min(1e-12), 0.0).relu()
        self._step("Checking the explanation", 0.75)
        correlation = randomisation_correlation(
            network, lambda other: self._first_map(other, layer, method, starts[0], device), _DRAWS
        )
        return VolumeMap(self._on_series(heat), self._cell_mm(cells), correlation)

    def gradients(self, network: torch.nn.Module) -> VolumeMap:
        """Integrated gradients in one window around the region."""
        start = window_around(self._region, self._size)
        device = next(network.parameters()).device
        window = cut(self._image, start, self._size)[None].to(device)
        score = self._score(start, device)

        def of(other: torch.nn.Module) -> torch.Tensor:
            self._step("Explaining", 0.4)
            return integrated_gradients(other, window, score, self._baseline, steps=12, cancel=self._cancel)

        heat = of(network)[0, 0].abs().cpu()
        correlation = randomisation_correlation(network, of, 1)
        return VolumeMap(self._placed(heat, start), self._cell_mm(self._size), correlation)

    def hidden(self, backend: Backend) -> VolumeMap:
        """Occlusion in one window around the region; needs answers only."""
        start = window_around(self._region, self._size)
        window = cut(self._image, start, self._size)[None]
        score = self._score(start, torch.device("cpu"))
        self._step("Explaining", 0.3)

        def answer(batch: torch.Tensor) -> torch.Tensor:
            return backend(batch, self._cancel).cpu()

        heat = occlusion(answer, window, score, self._baseline, cells=_OCCLUSION_CELLS, cancel=self._cancel)
        cells = tuple(_OCCLUSION_CELLS for _ in range(3))
        return VolumeMap(self._placed(heat[0, 0].relu(), start), self._cell_mm(cells), None)

    def _first_map(
        self, network: torch.nn.Module, layer: str, method: str, start: Triple, device: torch.device
    ) -> torch.Tensor:
        self._step("Checking the explanation", 0.8)
        window = cut(self._image, start, self._size)[None].to(device)
        return layer_maps(network, layer, window, [self._score(start, device)], method)[0]

    def _score(self, start: Triple, device: torch.device) -> Score:
        if self._whole_class:
            return class_score(self._channel)
        everywhere = bool(self._region.all())
        region = None if everywhere else cut(self._padded_region, start, self._size).to(device)
        return region_score(self._channel, region)

    def _placed(self, heat: torch.Tensor, start: Triple) -> NDArray[np.float32]:
        whole = torch.zeros(self._image.shape[1:])
        cut(whole, start, self._size).copy_(heat)
        return self._on_series(whole)

    def _on_series(self, padded: torch.Tensor) -> NDArray[np.float32]:
        """Crop the padding, resample to the series' spacing, restore its axes."""
        shape = self._grid.model.shape_kji
        before = [(p - n) // 2 for p, n in zip(padded.shape, shape, strict=True)]
        box = tuple(slice(b, b + n) for b, n in zip(before, shape, strict=True))
        heat = padded[box].numpy()
        fill = 0.0 if self._grid.constant_outside else None
        series = resample_separable(heat, [self._grid.model_index(axis) for axis in range(3)], fill=fill)
        return np.ascontiguousarray(undo_reorientation(series, self._grid.permutation, self._grid.flips))

    def _cell_mm(self, cells: tuple[int, ...]) -> Triplet:
        """Size of one cell of the map, along the axes (i, j, k) of the series as it is stored."""
        spacing_kji = self._grid.model.spacing_kji_mm
        of_model = [s * w / c for s, w, c in zip(spacing_kji, self._size, cells, strict=True)][::-1]
        stored = [0.0, 0.0, 0.0]
        for axis, old in enumerate(self._grid.permutation):
            stored[old] = float(of_model[axis])
        return stored[0], stored[1], stored[2]

    def _step(self, phase: str, fraction: float) -> None:
        if self._cancel is not None:
            self._cancel.raise_if_cancelled()
        self._progress(phase, fraction)
