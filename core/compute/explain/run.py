"""Explain one class of a model's answer, as a heat map on the series' grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from core.bundles.bundle import Bundle
from core.bundles.manifest import Label, Manifest
from core.compute.explain.attribution import integrated_gradients, occlusion
from core.compute.explain.cam import (
    CAM_METHODS,
    Score,
    convolution_names,
    find_layer,
    layer_maps,
    upsampled,
)
from core.compute.explain.heads import HeadBackend, HeadNetwork
from core.compute.explain.randomisation import is_sane, randomisation_correlation
from core.compute.explain.slices import SliceNetwork
from core.compute.explain.targets import class_score
from core.compute.explain.volume import VolumeExplainer, VolumeMap
from core.compute.inference.backends import Backend
from core.compute.inference.contrasts import Contrasts, Given, named_contrasts, prepare_contrasts
from core.compute.inference.loaded import LoadedModel, ModelCache
from core.compute.inference.multitask import CLASSIFICATION, SEGMENTATION
from core.compute.inference.networks import available_device
from core.compute.inference.prepare import PreparedVolume, prepare_image
from core.compute.inference.reports import text_ids
from core.compute.inference.resample import resize_image
from core.compute.inference.slices import SliceBackend
from core.compute.inference.sliding import padded_whole
from core.domain.errors import InputError
from core.domain.explanation import Explanation
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.volume import Volume

METHODS = (*CAM_METHODS, "ig", "occlusion")
_OCCLUSION_CELLS = 8


def explain_bundle(
    bundle: Bundle,
    volume: Given,
    *,
    method: str,
    class_label: str = "",
    layer: str = "",
    labels: NDArray | None = None,
    text: str | None = None,
    device: str = "auto",
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
    cache: ModelCache | None = None,
) -> Explanation:
    """Make a heat map.

    Parameters
    ----------
    volume : Volume or mapping of str to Volume
        As for ``run_bundle``; the map lies on the grid of the first one.
    method : str
        One of ``METHODS``; networks that come as ONNX only can be explained by ``"occlusion"``.
    class_label : str
        Class or segment; by default the largest segment of ``labels``, or of a model without segments the most
        probable class.
    layer : str
        Module for the class activation maps; by default the manifest's first.
    labels : numpy.ndarray, optional
        ``(K, J, I)`` label map of a segmentation result on the volume's grid: the region that is explained.
        Without it, the region is what the network predicts. Not used for a class of the whole image.
    text : str, optional
        The report that the model was given.

    Raises
    ------
    InputError
        ``explain.method``, ``explain.layer``, ``explain.no_network``, ``explain.absent``, ``model.label``.
    Cancelled
        When ``cancel`` was set.
    """
    if method not in METHODS:
        raise InputError("explain.method", f"There is no method “{method}”.", f"Use {', '.join(METHODS)}.")
    manifest = bundle.manifest
    contrasts = named_contrasts(manifest, volume)
    progress("Loading the model", 0.0)
    model = (cache or ModelCache()).get(bundle, available_device(device)[0])
    case = _Case(model, contrasts, text_ids(bundle, text), method, layer, progress, cancel)
    if manifest.is_3d or manifest.structures:
        explanation = case.volume(class_label, labels)
    else:
        explanation = case.image(class_label)
    progress("Done", 1.0)
    return explanation


@dataclass(frozen=True, eq=False)
class _Case:
    """What is explained, of which model, how."""

    model: LoadedModel
    contrasts: Contrasts
    text: torch.Tensor | None
    method: str
    layer: str
    progress: Progress
    cancel: CancelToken | None

    @property
    def manifest(self) -> Manifest:
        return self.model.bundle.manifest

    def network(self, of_class: bool) -> torch.nn.Module:
        """Return the network with the answer that is explained."""
        return HeadNetwork(self.model.network(), self._output(of_class), self.text)

    def engine(self, of_class: bool) -> Backend:
        """Return the exact engine with the answer that is explained."""
        return HeadBackend(self.model.backend(self.model.exact_name()), self._output(of_class), self.text)

    def _output(self, of_class: bool) -> str:
        if self.manifest.task != "multitask":
            return ""
        return CLASSIFICATION if of_class else SEGMENTATION

    def used_layer(self) -> str:
        """Return the layer that the maps are taken from; empty for methods that need none."""
        if self.method not in CAM_METHODS:
            return ""
        network = self.model.network()
        layer = self.layer or default_layer(self.manifest, network)
        find_layer(network, layer)
        return layer

    def volume(self, class_label: str, labels: NDArray | None) -> Explanation:
        """Explain a structure, or a class of the whole volume, on the series' grid."""
        manifest, first = self.manifest, self.contrasts.first
        self.progress("Preparing the image", 0.1)
        prepared = prepare_contrasts(self.contrasts, manifest, self.cancel)
        label = self._chosen(class_label, labels, prepared)
        of_class = any(label is item for item in manifest.image_classes)
        labels = None if of_class else labels
        explainer = VolumeExplainer(
            prepared, manifest, label.value, labels, self.progress, self.cancel, whole_class=of_class
        )
        flat = not manifest.is_3d
        layer = self.used_layer()
        if self.method == "occlusion":
            engine = self.engine(of_class)
            made = explainer.hidden(SliceBackend(engine, keep=of_class) if flat else engine)
        else:
            network = self.network(of_class)
            seen = SliceNetwork(network, keep=of_class) if flat else network
            made = explainer.cam(seen, layer, self.method) if layer else explainer.gradients(seen)
        return _explanation(first, made, self.method, label.name, layer, labels, label.value)

    def _chosen(self, class_label: str, labels: NDArray | None, prepared: PreparedVolume) -> Label:
        if class_label:
            return self.manifest.label(class_label)
        if self.manifest.structures:
            return _largest(self.manifest, labels)
        whole = padded_whole(prepared.tensor, self.manifest.inference)[0][None]
        return _most_probable(self.manifest, self.engine(True), whole)

    def image(self, class_label: str) -> Explanation:
        """Explain a class of a picture."""
        manifest, first = self.manifest, self.contrasts.first
        image = prepare_image(first, manifest).to(self.model.device)
        label = (
            manifest.label(class_label) if class_label else _most_probable(manifest, self.engine(True), image)
        )
        self.progress("Explaining", 0.2)
        layer = self.used_layer()
        heat, correlation, cells = self._picture_map(image, class_score(label.value), layer)
        rows, columns = first.geometry.shape_kji[1:]
        placed = resize_image(heat[0, 0].cpu().numpy(), rows, columns)[None]
        spacing_i, spacing_j, spacing_k = first.geometry.spacing_ijk_mm
        cell_mm = (spacing_i * columns / cells[1], spacing_j * rows / cells[0], spacing_k)
        made = VolumeMap(placed, cell_mm, correlation)
        return _explanation(first, made, self.method, label.name, layer, None, label.value)

    def _picture_map(
        self, image: torch.Tensor, score: Score, layer: str
    ) -> tuple[torch.Tensor, float | None, tuple[int, ...]]:
        """Return the map at the picture's size, its sanity correlation, and the number of its cells."""
        baseline = self.manifest.inference.pad_value
        if self.method == "occlusion":
            engine = self.engine(True)
            heat = occlusion(
                lambda batch: engine(batch, self.cancel),
                image,
                score,
                baseline,
                cells=_OCCLUSION_CELLS,
                cancel=self.cancel,
            )
            return heat.relu(), None, (_OCCLUSION_CELLS, _OCCLUSION_CELLS)
        network = self.network(True)
        if layer:

            def cam_of(other: torch.nn.Module) -> torch.Tensor:
                return layer_maps(other, layer, image, [score], self.method)[0]

            small = cam_of(network)
            heat = upsampled(small, image.shape[2:]).relu()
            return heat, randomisation_correlation(network, cam_of), tuple(small.shape[2:])

        def ig_of(other: torch.nn.Module) -> torch.Tensor:
            return integrated_gradients(other, image, score, baseline, cancel=self.cancel)

        heat = ig_of(network).abs()
        return heat, randomisation_correlation(network, ig_of), tuple(image.shape[2:])


def default_layer(manifest: Manifest, network: torch.nn.Module) -> str:
    """Return the manifest's first layer, else the last convolution before the head."""
    if manifest.explain.layers:
        return manifest.explain.layers[0].name
    names = convolution_names(network)
    if not names:
        raise InputError("explain.layer", "The network has no convolution.", "Use “ig” or “occlusion”.")
    segments = manifest.is_3d or manifest.task == "segmentation"
    return names[-2] if segments and len(names) > 1 else names[-1]


def _explanation(
    volume: Volume,
    made: VolumeMap,
    method: str,
    class_label: str,
    layer: str,
    labels: NDArray | None,
    value: int,
) -> Explanation:
    heat = np.clip(made.heat, 0.0, None).astype(np.float32)
    top = float(heat.max())
    if top > 0:
        heat /= np.float32(top)
    pointing = None
    if labels is not None and top > 0:
        pointing = bool(labels[np.unravel_index(int(heat.argmax()), heat.shape)] == value)
    return Explanation(
        volume.geometry,
        heat,
        method,
        class_label,
        layer,
        made.resolution_mm,
        made.correlation,
        is_sane(made.correlation),
        pointing,
    )


def _largest(manifest: Manifest, labels: NDArray | None) -> Label:
    if labels is None:
        return manifest.structures[0]
    return max(manifest.structures, key=lambda label: int((labels == label.value).sum()))


def _most_probable(manifest: Manifest, engine: Backend, image: torch.Tensor) -> Label:
    best = int(engine(image).reshape(-1).argmax())
    return next(label for label in manifest.image_classes if label.value == best)
