"""Transforms of MONAI and albumentations by their own names, from a list of those that suit."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from monai import transforms as monai_transforms

from core.compute.training.data.named import IMAGE, LABEL, FunctionStep, Item, MonaiStep, Step, Target

MONAI_SPATIAL = frozenset(
    {
        "BorderPadd",
        "CenterScaleCropd",
        "CenterSpatialCropd",
        "DivisiblePadd",
        "Flipd",
        "Rand2DElasticd",
        "Rand3DElasticd",
        "RandAffined",
        "RandAxisFlipd",
        "RandFlipd",
        "RandGridDistortiond",
        "RandRotate90d",
        "RandRotated",
        "RandScaleCropd",
        "RandSpatialCropd",
        "RandZoomd",
        "ResizeWithPadOrCropd",
        "Resized",
        "Rotate90d",
        "Rotated",
        "SpatialPadd",
        "Zoomd",
    }
)
MONAI_INTENSITY = frozenset(
    {
        "AdjustContrastd",
        "ClipIntensityPercentilesd",
        "GaussianSharpend",
        "GaussianSmoothd",
        "GibbsNoised",
        "HistogramNormalized",
        "KSpaceSpikeNoised",
        "MedianSmoothd",
        "NormalizeIntensityd",
        "RandAdjustContrastd",
        "RandBiasFieldd",
        "RandCoarseDropoutd",
        "RandCoarseShuffled",
        "RandGaussianNoised",
        "RandGaussianSharpend",
        "RandGaussianSmoothd",
        "RandGibbsNoised",
        "RandHistogramShiftd",
        "RandKSpaceSpikeNoised",
        "RandRicianNoised",
        "RandScaleIntensityFixedMeand",
        "RandScaleIntensityd",
        "RandShiftIntensityd",
        "RandSimulateLowResolutiond",
        "RandStdShiftIntensityd",
        "SavitzkyGolaySmoothd",
        "ScaleIntensityRangePercentilesd",
        "ScaleIntensityRanged",
        "ScaleIntensityd",
        "ShiftIntensityd",
        "StdShiftIntensityd",
        "ThresholdIntensityd",
    }
)
ALBUMENTATIONS = frozenset(
    {
        "AdvancedBlur",
        "Affine",
        "AutoContrast",
        "Blur",
        "CLAHE",
        "CenterCrop",
        "CoarseDropout",
        "CropAndPad",
        "CropNonEmptyMaskIfExists",
        "D4",
        "Defocus",
        "Downscale",
        "ElasticTransform",
        "Emboss",
        "Equalize",
        "Erasing",
        "GaussNoise",
        "GaussianBlur",
        "GlassBlur",
        "GridDistortion",
        "GridDropout",
        "GridElasticDeform",
        "HorizontalFlip",
        "Illumination",
        "ImageCompression",
        "InvertImg",
        "LongestMaxSize",
        "MedianBlur",
        "Morphological",
        "MotionBlur",
        "MultiplicativeNoise",
        "NoOp",
        "OpticalDistortion",
        "Pad",
        "PadIfNeeded",
        "Perspective",
        "PiecewiseAffine",
        "PixelDropout",
        "Posterize",
        "RandomBrightnessContrast",
        "RandomCrop",
        "RandomGamma",
        "RandomGridShuffle",
        "RandomResizedCrop",
        "RandomRotate90",
        "RandomScale",
        "RandomSizedCrop",
        "RandomToneCurve",
        "Resize",
        "RingingOvershoot",
        "Rotate",
        "SafeRotate",
        "SaltAndPepper",
        "Sharpen",
        "ShiftScaleRotate",
        "ShotNoise",
        "SmallestMaxSize",
        "SquareSymmetry",
        "ThinPlateSpline",
        "Transpose",
        "UnsharpMask",
        "VerticalFlip",
        "XYMasking",
        "ZoomBlur",
    }
)
_ON_GRID = frozenset(
    {"Rand2DElasticd", "Rand3DElasticd", "RandAffined", "RandGridDistortiond", "RandRotated", "Rotated"}
)
_RESIZING = frozenset({"RandZoomd", "Resized", "Zoomd"})
_OURS = frozenset({"self", "keys", "allow_missing_keys", "lazy", "device", "meta_keys", "meta_key_postfix"})


class UnknownParameter(Exception):
    """A transform has no parameter of that name; ``known`` are those it has."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(name)
        self.name, self.known = name, known


def monai_step(name: str, params: Mapping[str, Any], target: Target) -> Step:
    """Build one of ``MONAI_SPATIAL`` or ``MONAI_INTENSITY``; spatial ones move the label map by the nearest voxel.

    Raises
    ------
    UnknownParameter
        For a name that the transform doesn't take (``keys`` are ours to give).
    ValueError, TypeError
        For a value that it refuses.
    """
    kind = getattr(monai_transforms, name)
    _check_names(kind.__init__, params)
    arguments = {key: _tuples(value) for key, value in params.items()}
    spatial = name in MONAI_SPATIAL
    if spatial and name in _ON_GRID | _RESIZING:
        default = target.resizing if name in _RESIZING else target.sampling
        arguments["mode"] = _modes(arguments.get("mode"), default)
    transform = kind(target.keys if spatial else (IMAGE,), **arguments)
    return MonaiStep([transform])


def _modes(given: Any, default: tuple[str, ...]) -> tuple[str, ...]:
    if given is None:
        return default
    image = given if isinstance(given, str) else given[0]
    return (str(image), *default[1:])


def albumentations_step(name: str, params: Mapping[str, Any], target: Target) -> Step:
    """Build one of ``ALBUMENTATIONS``; volumes are changed slice by slice alike.

    The image is stretched to 0 … 1 before and back after, as albumentations expects of float32.

    Raises
    ------
    UnknownParameter, ValueError, TypeError
        As ``monai_step``.
    """
    # Its check for a newer version at import would go to the network.
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
    import albumentations

    kind = getattr(albumentations, name)
    _check_names(kind.__init__, params)
    arguments = {key: _tuples(value) for key, value in params.items()}
    compose = albumentations.Compose([kind(**arguments)])
    return FunctionStep(1.0, _Albumentation(compose, target))


class _Albumentation:
    """Runs a composition of albumentations with the item's seed."""

    def __init__(self, compose: Any, target: Target) -> None:
        self._compose, self._dims = compose, target.dims

    def __call__(self, item: Item, state: np.random.RandomState) -> Item:
        """Change image and label map."""
        self._compose.set_random_seed(int(state.randint(2**31)))
        image = np.moveaxis(item[IMAGE].numpy(), 0, -1)
        low, high = float(image.min()), float(image.max())
        span = max(high - low, 1e-8)
        unit = np.ascontiguousarray((image - low) / span, dtype=np.float32)
        image_key, mask_key = ("image", "mask") if self._dims == 2 else ("volume", "mask3d")
        data = {image_key: unit}
        if LABEL in item:
            data[mask_key] = np.ascontiguousarray(item[LABEL][0].numpy().astype(np.uint8))
        out = self._compose(**data)
        changed = np.moveaxis(np.asarray(out[image_key], dtype=np.float32), -1, 0) * np.float32(span) + low
        result = {IMAGE: torch.from_numpy(np.ascontiguousarray(changed, dtype=np.float32))}
        if LABEL in item:
            result[LABEL] = torch.from_numpy(np.ascontiguousarray(out[mask_key]))[None]
        return result


def _check_names(constructor: Callable[..., Any], params: Mapping[str, Any]) -> None:
    known = tuple(name for name in inspect.signature(constructor).parameters if name not in _OURS)
    for name in params:
        if name not in known or name == "kwargs":
            raise UnknownParameter(name, known)


def _tuples(value: Any) -> Any:
    """YAML and JSON know lists only; both libraries ask for tuples here and there."""
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list) else value
