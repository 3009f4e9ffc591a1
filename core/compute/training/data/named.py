"""Our transforms by name: strictly checked parameters over MONAI's dictionary transforms.

Angles are degrees, sizes and shifts voxels, ``probability`` is that of each draw. Label maps follow by the nearest
voxel. Axes are those of the array: k, j, i; pictures have j (down) and i (right).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import torch
from monai import transforms as monai_transforms
from pydantic import Field, model_validator

from core.compute.training.data.appearance import vary_appearance, vary_picture
from core.recipes.base import Strict

Item = dict[str, torch.Tensor]
Chance = Annotated[float, Field(ge=0, le=1)]
Pair = tuple[float, float]
Padding = Literal["border", "zeros", "reflection"]
IMAGE, LABEL = "image", "label"


class Step(Protocol):
    """One transform of a pipeline."""

    def __call__(self, item: Item, state: np.random.RandomState) -> Item:
        """Change ``image`` ``(C, …)`` float32 and, where it is there, ``label`` ``(1, …)`` together."""


class MonaiStep:
    """Transforms of MONAI that take their random numbers from the item's own generator."""

    def __init__(self, transforms: Sequence[Callable[..., Any]]) -> None:
        self._transforms = transforms

    def __call__(self, item: Item, state: np.random.RandomState) -> Item:
        """Apply them in order."""
        for transform in self._transforms:
            if isinstance(transform, monai_transforms.Randomizable):
                transform.set_random_state(state=state)
            item = transform(item)
        return item


class FunctionStep:
    """A function of our own, applied with a probability."""

    def __init__(self, probability: float, function: Callable[[Item, np.random.RandomState], Item]) -> None:
        self._probability, self._function = probability, function

    def __call__(self, item: Item, state: np.random.RandomState) -> Item:
        """Draw, then apply."""
        return self._function(item, state) if state.random_sample() < self._probability else item


class Target(Strict):
    """What transforms are built for.

    ``window`` is the size of the windows cut from volumes, where the first affine transform gets a wider piece and
    leaves the window of it.
    """

    dims: Literal[2, 3]
    labelled: bool
    window: tuple[int, ...] | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of what a spatial transform moves."""
        return (IMAGE, LABEL) if self.labelled else (IMAGE,)

    @property
    def sampling(self) -> tuple[str, ...]:
        """Interpolation on a grid for each of ``keys``."""
        return ("bilinear", "nearest")[: len(self.keys)]

    @property
    def resizing(self) -> tuple[str, ...]:
        """Interpolation of a resize for each of ``keys``."""
        return ("trilinear" if self.dims == 3 else "bilinear", "nearest-exact")[: len(self.keys)]


class Named(Strict, ABC):
    """Base of the transforms with a name: the fields are the parameters that a recipe may give.

    An installed package adds its own by subclassing and naming the class in the entry point group
    ``overread.transforms``; a recipe then uses the entry point's name. Steps draw all their numbers from the ``state``
    they are given, so that a training can be repeated.
    """

    probability: Chance = 0.5

    @abstractmethod
    def build(self, target: Target) -> Step:
        """Return the transform; raises ValueError when it doesn't suit ``target``."""


class RandFlip(Named):
    """Mirror along each of ``axes`` with the probability, independently."""

    axes: tuple[Literal["k", "j", "i"], ...] = Field(default=("i",), min_length=1)

    def build(self, target: Target) -> Step:
        """Return the transform."""
        letters = "kji"[3 - target.dims :]
        if not set(self.axes) <= set(letters):
            raise ValueError(f"axes: pictures have the axes {', '.join(letters)}")
        numbers = [letters.index(axis) for axis in dict.fromkeys(self.axes)]
        return MonaiStep(
            [monai_transforms.RandFlipd(target.keys, prob=self.probability, spatial_axis=n) for n in numbers]
        )


class RandRotate90(Named):
    """Turn in the plane (j, i) by quarters; for square planes where the side means nothing."""

    def build(self, target: Target) -> Step:
        """Return the transform."""
        plane = (target.dims - 2, target.dims - 1)
        return MonaiStep(
            [monai_transforms.RandRotate90d(target.keys, prob=self.probability, spatial_axes=plane)]
        )


class RandAffine(Named):
    """Turn in the plane by up to ``degrees`` (volumes also out of it by ``tilt_degrees``), scale by up to the share
    ``scale``, shear and shift, in one interpolation. ``isotropic`` scales all axes alike.
    """

    degrees: float = Field(default=10.0, ge=0, le=180)
    tilt_degrees: float = Field(default=0.0, ge=0, le=180)
    scale: float = Field(default=0.0, ge=0, lt=1)
    shear: float = Field(default=0.0, ge=0, lt=1)
    shift: float = Field(default=0.0, ge=0)
    padding: Padding = "border"

    def reach(self, window: tuple[int, ...]) -> tuple[int, ...]:
        """Return how many voxels beyond each side of a window the result may come from."""
        turn, tilt = (math.sin(math.radians(min(angle, 90.0))) for angle in (self.degrees, self.tilt_degrees))
        half = [n / 2 for n in window]
        last = len(window) - 1
        margins = []
        for a, own in enumerate(half):
            others = sum(
                ((turn if min(a, b) == last - 1 else tilt) + self.shear) * other
                for b, other in enumerate(half)
                if b != a
            )
            margins.append(math.ceil((1 + self.scale) * (own + others) - own + self.shift))
        return tuple(margins)

    def build(self, target: Target) -> Step:
        """Return the transform."""
        angle, tilt = math.radians(self.degrees), math.radians(self.tilt_degrees)
        rotate = angle if target.dims == 2 else (angle, tilt, tilt)
        shears = target.dims * (target.dims - 1)
        affine = monai_transforms.RandAffined(
            target.keys,
            spatial_size=target.window,
            prob=self.probability,
            rotate_range=rotate,
            shear_range=(self.shear,) * shears if self.shear else None,
            translate_range=(self.shift,) * target.dims if self.shift else None,
            scale_range=(self.scale,) * target.dims if self.scale else None,
            mode=target.sampling,
            padding_mode=self.padding,
        )
        return MonaiStep([affine])


class RandRotate(Named):
    """Turn in the plane by up to ``degrees``; volumes also out of it by up to ``tilt_degrees``."""

    degrees: float = Field(default=10.0, ge=0, le=180)
    tilt_degrees: float = Field(default=0.0, ge=0, le=180)
    padding: Padding = "border"

    def reach(self, window: tuple[int, ...]) -> tuple[int, ...]:
        """Return how many voxels beyond each side of a window the result may come from."""
        return self._affine().reach(window)

    def build(self, target: Target) -> Step:
        """Return the transform."""
        return self._affine().build(target)

    def _affine(self) -> RandAffine:
        return RandAffine.model_validate(self.model_dump())


class RandZoom(Named):
    """Scale all axes alike by ``low`` … ``high`` about the middle; the size stays."""

    low: float = Field(default=0.9, gt=0.1, le=10)
    high: float = Field(default=1.1, gt=0.1, le=10)

    @model_validator(mode="after")
    def _ordered(self) -> RandZoom:
        if self.low > self.high:
            raise ValueError("low is at most high")
        return self

    def build(self, target: Target) -> Step:
        """Return the transform."""
        zoom = monai_transforms.RandZoomd(
            target.keys,
            prob=self.probability,
            min_zoom=self.low,
            max_zoom=self.high,
            mode=target.resizing,
            padding_mode="edge",
        )
        return MonaiStep([zoom])


class RandElastic(Named):
    """Bend smoothly: displacements of up to ``magnitude`` voxels that vary over ``smoothness`` voxels."""

    magnitude: float = Field(default=3.0, gt=0)
    smoothness: float = Field(default=12.0, ge=1)
    padding: Padding = "border"

    def build(self, target: Target) -> Step:
        """Return the transform.

        Notes
        -----
        In volumes MONAI smooths white noise with a Gaussian of σ = ``smoothness`` / 2; the smoothed noise is
        rescaled so that its standard deviation is about half of ``magnitude``.
        """
        common: dict[str, Any] = {
            "prob": self.probability,
            "mode": target.sampling,
            "padding_mode": self.padding,
        }
        if target.dims == 2:
            return MonaiStep(
                [
                    monai_transforms.Rand2DElasticd(
                        target.keys, (self.smoothness,) * 2, (0.0, self.magnitude / 2), **common
                    )
                ]
            )
        sigma = self.smoothness / 2
        # Source: uniform noise in −1 … 1 has variance 1/3; a Gaussian filter multiplies it by 1 / (2 σ √π)³.
        spread = math.sqrt(1.0 / 3.0) * (2.0 * sigma * math.sqrt(math.pi)) ** -1.5
        factor = self.magnitude / 2 / spread
        return MonaiStep(
            [monai_transforms.Rand3DElasticd(target.keys, (sigma, sigma), (0.0, factor), **common)]
        )


class RandIntensity(Named):
    """Change brightness (added), contrast (about the mean) and gamma, each with the probability.

    ``brightness`` and ``contrast`` are shares: of the unit of a normalised image, and of its spread.
    """

    brightness: float = Field(default=0.1, ge=0)
    contrast: float = Field(default=0.2, ge=0, lt=1)
    gamma: Pair | None = None

    @model_validator(mode="after")
    def _ordered(self) -> RandIntensity:
        if self.gamma is not None and not 0 < self.gamma[0] <= self.gamma[1]:
            raise ValueError("gamma is (low, high) with 0 < low ≤ high")
        return self

    def build(self, target: Target) -> Step:  # noqa: ARG002
        """Return the transform."""
        steps: list[Any] = []
        if self.contrast:
            steps.append(
                monai_transforms.RandScaleIntensityFixedMeand(
                    IMAGE, prob=self.probability, factors=self.contrast
                )
            )
        if self.gamma:
            steps.append(monai_transforms.RandAdjustContrastd(IMAGE, prob=self.probability, gamma=self.gamma))
        if self.brightness:
            steps.append(
                monai_transforms.RandShiftIntensityd(IMAGE, prob=self.probability, offsets=self.brightness)
            )
        return MonaiStep(steps)


class RandNoise(Named):
    """Add Gaussian noise with a standard deviation of up to ``std``."""

    std: float = Field(default=0.05, gt=0)

    def build(self, target: Target) -> Step:  # noqa: ARG002
        """Return the transform."""
        return MonaiStep([monai_transforms.RandGaussianNoised(IMAGE, prob=self.probability, std=self.std)])


class RandBlur(Named):
    """Blur with a Gaussian of ``sigma`` voxels (low, high) along each axis."""

    sigma: Pair = (0.25, 1.0)

    def build(self, target: Target) -> Step:  # noqa: ARG002
        """Return the transform."""
        blur = monai_transforms.RandGaussianSmoothd(
            IMAGE, prob=self.probability, sigma_x=self.sigma, sigma_y=self.sigma, sigma_z=self.sigma
        )
        return MonaiStep([blur])


class RandSharpen(Named):
    """Raise the edges: unsharp masking of strength ``alpha`` (low, high)."""

    alpha: Pair = (0.5, 2.0)

    def build(self, target: Target) -> Step:  # noqa: ARG002
        """Return the transform."""
        return MonaiStep(
            [monai_transforms.RandGaussianSharpend(IMAGE, prob=self.probability, alpha=self.alpha)]
        )


class RandBiasField(Named):
    """Multiply with a smooth field as a coil's sensitivity makes it (polynomial of ``degree``)."""

    degree: int = Field(default=3, ge=1, le=6)
    coefficient: Pair = (0.0, 0.1)

    def build(self, target: Target) -> Step:  # noqa: ARG002
        """Return the transform."""
        field = monai_transforms.RandBiasFieldd(
            IMAGE, prob=self.probability, degree=self.degree, coeff_range=self.coefficient
        )
        return MonaiStep([field])


class RandCutout(Named):
    """Cover 1 … ``holes`` boxes with sides of up to ``size`` voxels by ``fill`` (None: random values of the range)."""

    holes: int = Field(default=4, ge=1, le=256)
    size: int = Field(default=8, ge=1)
    fill: float | None = None

    def build(self, target: Target) -> Step:  # noqa: ARG002
        """Return the transform."""
        cutout = monai_transforms.RandCoarseDropoutd(
            IMAGE,
            prob=self.probability,
            holes=1,
            max_holes=self.holes,
            spatial_size=max(1, self.size // 2),
            max_spatial_size=self.size,
            fill_value=self.fill,
        )
        return MonaiStep([cutout])


class RandLowResolution(Named):
    """Make it coarser by a factor of ``low`` … ``high`` and enlarge it again."""

    low: float = Field(default=0.5, gt=0.05, le=1)
    high: float = Field(default=1.0, gt=0.05, le=1)

    def build(self, target: Target) -> Step:
        """Return the transform."""
        coarse = monai_transforms.RandSimulateLowResolutiond(
            IMAGE,
            prob=self.probability,
            zoom_range=(min(self.low, self.high), max(self.low, self.high)),
            upsample_mode=target.resizing[0],
        )
        return MonaiStep([coarse])


class RandHistogram(Named):
    """Bend the grey scale at ``points`` control points."""

    points: int = Field(default=8, ge=3, le=64)

    def build(self, target: Target) -> Step:  # noqa: ARG002
        """Return the transform."""
        return MonaiStep(
            [
                monai_transforms.RandHistogramShiftd(
                    IMAGE, prob=self.probability, num_control_points=self.points
                )
            ]
        )


class Clahe(Named):
    """Contrast-limited adaptive histogram equalisation, slice by slice (OpenCV, 16 bits over the image's range)."""

    probability: Chance = 1.0
    clip: Pair = (1.0, 4.0)
    tiles: int = Field(default=8, ge=1, le=64)

    def build(self, target: Target) -> Step:  # noqa: ARG002
        """Return the transform."""
        return FunctionStep(self.probability, self._equalised)

    def _equalised(self, item: Item, state: np.random.RandomState) -> Item:
        import cv2

        image = item[IMAGE].numpy()
        low, high = float(image.min()), float(image.max())
        if high <= low:
            return item
        clip = float(state.uniform(*self.clip))
        engine = cv2.createCLAHE(clipLimit=clip, tileGridSize=(self.tiles, self.tiles))
        scaled = np.rint((image - low) * (65535.0 / (high - low))).astype(np.uint16)
        planes = scaled.reshape(-1, *image.shape[-2:])
        equal = np.stack([np.asarray(engine.apply(plane)) for plane in planes]).reshape(image.shape)
        out = equal.astype(np.float32) * np.float32((high - low) / 65535.0) + np.float32(low)
        return {**item, IMAGE: torch.from_numpy(out)}


class Resize(Named):
    """Resize to ``size`` (2 or 3 numbers along the array's axes)."""

    probability: Chance = 1.0
    size: tuple[int, ...] = Field(min_length=2, max_length=3)

    def build(self, target: Target) -> Step:
        """Return the transform."""
        if len(self.size) != target.dims or min(self.size) < 1:
            raise ValueError(f"size: {target.dims} positive numbers are needed")
        return MonaiStep([monai_transforms.Resized(target.keys, self.size, mode=target.resizing)])


class RandPicture(Named):
    """All that may happen to a picture in 0 … 1 between two scanners: placing, window, sharpness, noise, inversion.

    The outcome is in 0 … 1 again.
    """

    probability: Chance = 1.0

    def build(self, target: Target) -> Step:
        """Return the transform."""
        if target.dims != 2 or target.labelled:
            raise ValueError("it is for the classification of pictures")
        return FunctionStep(self.probability, _varied_picture)


class RandThoraxAppearance(Named):
    """All that may happen to a phantom's thorax between two scanners: tissues, metal, noise, slices, field of view.

    ``low_hu`` and ``high_hu`` are what −1 and 1 of the prepared image stand for; the labels are those of
    ``core.phantom.labels``.
    """

    probability: Chance = 1.0
    low_hu: float = -1000.0
    high_hu: float = 600.0

    def build(self, target: Target) -> Step:
        """Return the transform."""
        if target.dims != 3 or not target.labelled:
            raise ValueError("it is for the segmentation of volumes")
        return FunctionStep(self.probability, self._varied)

    def _varied(self, item: Item, state: np.random.RandomState) -> Item:
        half = np.float32((self.high_hu - self.low_hu) / 2)
        hu = (item[IMAGE][0].numpy() + np.float32(1)) * half + np.float32(self.low_hu)
        labels = item[LABEL][0].numpy().astype(np.uint8)
        rng = np.random.default_rng(int(state.randint(2**31)))
        hu, labels = vary_appearance(hu, labels, rng)
        image = (np.clip(hu, self.low_hu, self.high_hu) - np.float32(self.low_hu)) / half - np.float32(1)
        return {
            IMAGE: torch.from_numpy(image.astype(np.float32))[None],
            LABEL: torch.from_numpy(labels)[None],
        }


def _varied_picture(item: Item, state: np.random.RandomState) -> Item:
    generator = torch.Generator().manual_seed(int(state.randint(2**31)))
    return {**item, IMAGE: vary_picture(item[IMAGE][None], generator)[0]}
