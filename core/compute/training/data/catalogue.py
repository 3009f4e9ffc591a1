"""The transforms of ours by name."""

from __future__ import annotations

from core.compute.training.data.contrast import RandContrastAgent
from core.compute.training.data.named import (
    Clahe,
    Named,
    RandAffine,
    RandBiasField,
    RandBlur,
    RandCutout,
    RandElastic,
    RandFlip,
    RandHistogram,
    RandIntensity,
    RandLowResolution,
    RandNoise,
    RandPicture,
    RandRotate,
    RandRotate90,
    RandSharpen,
    RandThoraxAppearance,
    RandZoom,
    Resize,
)

NAMED: dict[str, type[Named]] = {
    "clahe": Clahe,
    "rand_affine": RandAffine,
    "rand_bias_field": RandBiasField,
    "rand_blur": RandBlur,
    "rand_contrast_agent": RandContrastAgent,
    "rand_cutout": RandCutout,
    "rand_elastic": RandElastic,
    "rand_flip": RandFlip,
    "rand_histogram": RandHistogram,
    "rand_intensity": RandIntensity,
    "rand_low_resolution": RandLowResolution,
    "rand_noise": RandNoise,
    "rand_picture": RandPicture,
    "rand_rotate": RandRotate,
    "rand_rotate90": RandRotate90,
    "rand_sharpen": RandSharpen,
    "rand_thorax_appearance": RandThoraxAppearance,
    "rand_zoom": RandZoom,
    "resize": Resize,
}
