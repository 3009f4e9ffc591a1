"""Explain one class of a model's answer, as a heat map on the series' grid."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from core.bundles.bundle import Bundle
from core.bundles.manifest import Label, Manifest
from core.compute.explain.attribution import integrated_gradients, occlusion
from core.compute.explain.cam import CAM_METHODS, convolution_names, find_layer, layer_maps, upsampled
from core.compute.explain.randomisation import is_sane, randomisation_correlation
from core.compute.explain.slices import SliceNetwork
from core.compute.explain.targets import class_score
from core.compute.explain.volume import VolumeExplainer, VolumeMap
from core.compute.inference.loaded import LoadedModel, ModelCache
from core.compute.inference.networks import available_device
from core.compute.inference.prepare import check_geometry, prepare_image, prepare_volume
from core.compute.inference.resample import resize_image
from core.compute.inference.slices import SliceBackend
from core.domain.errors import InputError
from core.domain.explanation import Explanation
from core.domain.progress import CancelToken, Progress, no_progress
from core.domain.volume import Volume

METHODS = (*CAM_METHODS, "ig", "occlusion")
_OCCLUSION_CELLS = 8


def explain_bundle(
    bundle: Bundle,
    volume: Volume,
    *,
    method: str,
    class_label: str = "",
    layer: str = "",
    labels: NDArray | None = None,
    device: str = "auto",
    progress: Progress = no_progress,
    cancel: CancelToken | None = None,
    cache: ModelCache | None = None,
) -> Explanation:
    """Make a heat map.

    Parameters
    ----------
    method : str
        One of ``METHODS``; networks that come as ONNX only can be explained by ``"occlusion"``.
    class_label : str
        Class or segment; by default the most probable class, or the largest segment of ``labels``.
    layer : str
        Module for the class activation maps; by default the manifest's first.
    labels : numpy.ndarray, optional
        ``(K, J, I)`` label map of a segmentation result on the volume's grid: the region that is explained.
        Without it, the region is what the network predicts.

    Raises
    ------
    InputError
        ``explain.method``, ``explain.layer``, ``explain.no_network``, ``explain.absent``, ``model.label``.
    Cancelled
        When ``cancel`` was set.
    """
    if method not in METHODS:
        raise InputError("explain.method", f"There is no method “{method}”.", f"Use {', '.join(METHODS)}.")
    check_geometry(bundle.manifest, volume)
    progress("Loading the model", 0.0)
    model = (cache or ModelCache()).get(bundle, available_device(device)[0])
    if bundle.manifest.is_3d or bundle.manifest.task == "segmentation":
        explanation = _explain_volume(model, volume, method, class_label, layer, labels, progress, cancel)
    else:
        explanation = _explain_image(model, volume, method, class_label, layer, progress, cancel)
    progress("Done", 1.0)
    return explanation


def _explain_volume(
    model: LoadedModel,
    volume: Volume,
    method: str,
    class_label: str,
    layer: str,
    labels: NDArray | None,
    progress: Progress,
    cancel: CancelToken | None,
) -> Explanation:
    manifest = model.bundle.manifest
    label = manifest.label(class_label) if class_label else _largest(manifest, labels)
    progress("Preparing the image", 0.1)
    prepared = prepare_volume(volume, manifest, cancel)
    explainer = VolumeExplainer(prepared, manifest, label.value, labels, progress, cancel)
    used_layer = ""
    if method in CAM_METHODS:
        network = model.network()
        used_layer = layer or default_layer(manifest, network)
        find_layer(network, used_layer)
        made = explainer.cam(network if manifest.is_3d else SliceNetwork(network), used_layer, method)
    elif method == "ig":
        network = model.network()
        made = explainer.gradients(network if manifest.is_3d else SliceNetwork(network))
    else:
        engine = model.backend(model.exact_name())
        made = explainer.hidden(engine if manifest.is_3d else SliceBackend(engine))
    return _explanation(volume, made, method, label.name, used_layer, labels, label.value)


def _explain_image(
    model: LoadedModel,
    volume: Volume,
    method: str,
    class_label: str,
    layer: str,
    progress: Progress,
    cancel: CancelToken | None,
) -> Explanation:
    manifest = model.bundle.manifest
    image = prepare_image(volume, manifest).to(model.device)
    label = manifest.label(class_label) if class_label else _most_probable(model, image)
    progress("Explaining", 0.2)
    score = class_score(label.value)
    baseline = manifest.inference.pad_value
    used_layer, correlation = "", None
    cells: tuple[int, ...] = tuple(image.shape[2:])
    if method in CAM_METHODS:
        network = model.network()
        used_layer = layer or default_layer(manifest, network)

        def cam_of(other: torch.nn.Module) -> torch.Tensor:
            return layer_maps(other, used_layer, image, [score], method)[0]

        small = cam_of(network)
        cells = tuple(small.shape[2:])
        heat = upsampled(small, image.shape[2:]).relu()
        correlation = randomisation_correlation(network, cam_of)
    elif method == "ig":

        def ig_of(other: torch.nn.Module) -> torch.Tensor:
            return integrated_gradients(other, image, score, baseline, cancel=cancel)

        heat = ig_of(model.network()).abs()
        correlation = randomisation_correlation(model.network(), ig_of)
    else:
        engine = model.backend(model.exact_name())
        cells = (_OCCLUSION_CELLS, _OCCLUSION_CELLS)
        heat = occlusion(
            lambda batch: engine(batch, cancel), image, score, baseline, cells=_OCCLUSION_CELLS, cancel=cancel
        ).relu()
    rows, columns = volume.geometry.shape_kji[1:]
    placed = resize_image(heat[0, 0].cpu().numpy(), rows, columns)[None]
    spacing_i, spacing_j, spacing_k = volume.geometry.spacing_ijk_mm
    cell_mm = (spacing_i * columns / cells[1], spacing_j * rows / cells[0], spacing_k)
    made = VolumeMap(placed, cell_mm, correlation)
    return _explanation(volume, made, method, label.name, used_layer, None, label.value)


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
        return manifest.labels[0]
    return max(manifest.labels, key=lambda label: int((labels == label.value).sum()))


def _most_probable(model: LoadedModel, image: torch.Tensor) -> Label:
    logits = model.backend(model.exact_name())(image).reshape(-1)
    best = int(logits.argmax())
    return next(label for label in model.bundle.manifest.labels if label.value == best)
