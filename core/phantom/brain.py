"""A head as on a T1-weighted MR: scalp, skull, folded cortex, white matter, ventricles, deep grey matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from core.domain.coding import CodedConcept
from core.domain.geometry import VolumeGeometry
from core.domain.segmentation import SegmentDefinition
from core.phantom.canvas import Array, Canvas
from core.phantom.labels import ANATOMICAL_STRUCTURE
from core.phantom.shapes import curve, ellipsoid, random_field, smooth_union, tube
from core.phantom.spec import Phantom

GREY_MATTER = 1
WHITE_MATTER = 2
FLUID = 3
VENTRICLES = 4
DEEP_GREY = 5
CEREBELLUM = 6
BRAIN_STEM = 7
SKULL = 8
SCALP = 9

_TABLE: tuple[tuple[int, str, str, str, tuple[int, int, int]], ...] = (
    (GREY_MATTER, "Cortex", "40146001", "Cerebral cortex", (196, 120, 112)),
    (WHITE_MATTER, "White matter", "68523003", "Cerebral White Matter", (236, 232, 214)),
    (FLUID, "Cerebrospinal fluid", "280371009", "Brain cerebrospinal fluid pathway", (92, 156, 214)),
    (VENTRICLES, "Ventricles", "35764002", "Brain ventricle", (52, 96, 190)),
    (DEEP_GREY, "Thalamus and basal ganglia", "389081007", "Gray Matter", (206, 146, 60)),
    (CEREBELLUM, "Cerebellum", "113305005", "Cerebellum", (150, 196, 110)),
    (BRAIN_STEM, "Brain stem", "119238007", "Brain Stem", (108, 176, 148)),
    (SKULL, "Skull", "89546000", "Skull", (238, 226, 190)),
    (SCALP, "Scalp and neck", "41695006", "Scalp", (176, 140, 132)),
)

BRAIN_SEGMENTS: tuple[SegmentDefinition, ...] = tuple(
    SegmentDefinition(value, label, CodedConcept(code, "SCT", meaning), ANATOMICAL_STRUCTURE, color)
    for value, label, code, meaning, color in _TABLE
)

# Relative T1-weighted signals (spoiled gradient echo at 3 T), white matter = 1000.
_SIGNAL = {
    "fat": 1250.0, "muscle": 520.0, "bone": 60.0, "marrow": 700.0, "fluid": 190.0, "grey": 690.0, "white": 1000.0,
    "deep": 800.0, "cerebellum": 760.0, "stem": 920.0, "eye": 170.0,
}  # fmt: skip


@dataclass(frozen=True)
class BrainSpec:
    """Parameters of a brain phantom.

    ``spacing_kji_mm`` slice distance, rows, columns; ``size`` scale of the head; ``atrophy`` 0 … 1 widens
    sulci and ventricles; ``noise`` standard deviation in signal units (white matter ≈ 1000); ``bias`` relative
    strength of the coil's shading; ``rotation_deg`` turn about the long axis, ``nod_deg`` about left–right.
    """

    seed: int = 0
    shape_kji: tuple[int, int, int] = (160, 240, 192)
    spacing_kji_mm: tuple[float, float, float] = (1.2, 1.0, 1.0)
    size: float = 1.0
    atrophy: float = 0.2
    noise: float = 25.0
    bias: float = 0.15
    rotation_deg: float = 0.0
    nod_deg: float = 0.0
    deform_mm: float = 2.5


def make_brain(spec: BrainSpec) -> Phantom:
    """Render a head; ``hu`` of the result holds the MR signal (int16, ≥ 0).

    The grid's axes run along LPS; the middle of the grid is the middle of the brain.
    """
    rng = np.random.default_rng(spec.seed)
    canvas = paint_brain(spec, rng)
    return Phantom(_geometry(spec), _acquire(canvas, spec, rng), canvas.labels, BRAIN_SEGMENTS)


def paint_brain(spec: BrainSpec, rng: np.random.Generator, midline_ventricles: int = VENTRICLES) -> Canvas:
    """Paint a head before it is scanned: true signals in ``hu``, and its labels.

    ``midline_ventricles`` is the label of the third and the fourth ventricle.
    """
    canvas = _canvas(spec, rng)
    canvas.hu[:] = 0.0
    brain = _envelope(canvas, rng)
    _paint_head(canvas, rng, brain)
    _paint_cerebrum(canvas, spec, rng, brain)
    _paint_hindbrain(canvas, rng)
    _paint_deep(canvas, spec, rng, midline_ventricles)
    return canvas


def _geometry(spec: BrainSpec) -> VolumeGeometry:
    dz, dy, dx = spec.spacing_kji_mm
    k, j, i = spec.shape_kji
    origin = (-(i - 1) / 2 * dx, -(j - 1) / 2 * dy, -(k - 1) / 2 * dz)
    return VolumeGeometry.from_axes(spec.shape_kji, (dx, dy, dz), np.eye(3), origin)


def _canvas(spec: BrainSpec, rng: np.random.Generator) -> Canvas:
    geometry = _geometry(spec)
    a, b = np.deg2rad(spec.rotation_deg), np.deg2rad(spec.nod_deg)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    from_ijk = (about_z @ about_x / spec.size) @ geometry.lps_from_ijk[:3]
    matrix = from_ijk[:, [2, 1, 0, 3]]
    matrix[2, 3] -= 8.0
    scale = tuple(float(60.0 / s) for s in spec.spacing_kji_mm)
    fields = [
        (np.float32(spec.deform_mm * 0.6) * random_field(spec.shape_kji, rng, scale)).astype(np.float32)  # type: ignore[arg-type]
        for _ in range(3)
    ]
    return Canvas(spec.shape_kji, matrix, (fields[0], fields[1], fields[2]))


def _envelope(canvas: Canvas, rng: np.random.Generator) -> Array:
    """Return the distance to the surface of the cerebrum, flattened below."""
    region = canvas.everything()
    wide, long, high = rng.normal(67, 1.5), rng.normal(84, 2), rng.normal(60, 1.5)
    top = ellipsoid(region, (0, 0, 8), (wide, long, high))
    temporal = [ellipsoid(region, (s * 42.0, -8, -26), (23, 36, 22)) for s in (-1.0, 1.0)]
    upper = np.maximum(top, np.float32(-22.0) - region.z + np.float32(0.18) * region.y)
    out = upper
    for lobe in temporal:
        out = smooth_union(out, lobe, 8.0)
    return out.astype(np.float32)


def _paint_head(canvas: Canvas, rng: np.random.Generator, brain: Array) -> None:
    """Paint neck, face, scalp, skull and the fluid around the brain."""
    region = canvas.everything()
    fossa = ellipsoid(region, (0, 50, -44), (54, 34, 28))
    inner = smooth_union(brain, fossa, 8.0) - np.float32(2.5)
    skull = inner - np.float32(rng.uniform(5.5, 7.5))
    face = ellipsoid(region, (0, -38, -62), (52, 44, 54))
    nose = ellipsoid(region, (0, -92, -52), (11, 16, 18))
    neck = tube(canvas, np.array([(0, 22, -60), (0, 26, -220)]), 52.0, margin=12.0)
    scalp = smooth_union(smooth_union(skull - np.float32(rng.uniform(5, 7)), face, 22.0), nose, 6.0)
    if neck is not None:
        view = scalp[neck[0].box]
        view[:] = smooth_union(view, neck[1], 20.0)
    lumps = random_field(canvas.shape, rng, 10.0 / canvas.voxel_mm)
    canvas.fill(region, scalp, _SIGNAL["fat"] + 60 * lumps, SCALP)
    muscle = np.maximum(scalp + np.float32(5.0), np.float32(-24.0) + region.z)
    canvas.fill(
        region,
        muscle.astype(np.float32),
        (_SIGNAL["muscle"] + 130 * np.clip(lumps, -1, 1.5)).astype(np.float32),
    )
    canvas.fill(region, skull, _SIGNAL["bone"], SKULL)
    diploe = np.maximum(np.abs(skull + np.float32(3.2)) - np.float32(1.1), -region.z - np.float32(20.0))
    canvas.fill(region, diploe.astype(np.float32), _SIGNAL["marrow"])
    canvas.fill(region, inner, _SIGNAL["fluid"], FLUID)
    for side in (-1.0, 1.0):
        eye = canvas.region((side * 32 - 20, -95, -50), (side * 32 + 20, -50, -5))
        if eye is not None:
            canvas.fill(eye, ellipsoid(eye, (side * 32, -74, -28), (12.5, 12.5, 12.5)), _SIGNAL["eye"], SCALP)
    for center, radii in (((0, -78, -8), (20, 8, 12)), ((26, -58, -58), (15, 16, 15)), ((-26, -58, -58), (15, 16, 15)),
                          ((0, -40, -52), (9, 26, 20)), ((0, 0, -96), (13, 9, 40))):  # fmt: skip
        part = canvas.region(np.subtract(center, 45), np.add(center, 45))
        if part is not None:
            canvas.fill(part, ellipsoid(part, center, radii), 15.0, SCALP)


def _paint_cerebrum(canvas: Canvas, spec: BrainSpec, rng: np.random.Generator, brain: Array) -> None:
    """Paint cortex and white matter: sulci follow the zero lines of a random field and close with depth."""
    region = canvas.everything()
    period = rng.uniform(13.0, 15.0)
    field = random_field(canvas.shape, rng, period / canvas.voxel_mm)
    depth = -brain
    gap = np.abs(field) * np.float32(period * 0.42) + np.maximum(depth - np.float32(17.0), 0.0) * np.float32(
        0.7
    )
    sulcus = gap - np.float32(0.5 + 1.2 * spec.atrophy)
    fissure = np.abs(region.x) - np.float32(0.5 + 0.8 * spec.atrophy)
    fissure = np.maximum(fissure, np.float32(12.0) - region.z - np.where(np.abs(region.y) > 36, 30.0, 0.0))
    from_pia = np.minimum(np.minimum(depth, sulcus), fissure).astype(np.float32)
    cortex = np.float32(rng.uniform(2.6, 3.2))
    canvas.fill(region, -from_pia, _SIGNAL["grey"], GREY_MATTER)
    canvas.fill(region, cortex - from_pia, _SIGNAL["white"], WHITE_MATTER)
    callosum = canvas.region((-24, -50, 0), (24, 50, 36))
    if callosum is not None:
        bridge = np.abs(callosum.z - 20 + np.float32(0.006) * (callosum.y - 2) ** 2) - np.float32(3.0)
        bridge = np.maximum(np.maximum(bridge, np.abs(callosum.y - 2) - 38), np.abs(callosum.x) - 22)
        canvas.fill(callosum, bridge.astype(np.float32), _SIGNAL["white"], WHITE_MATTER)


def _paint_hindbrain(canvas: Canvas, rng: np.random.Generator) -> None:
    region = canvas.region((-60, 10, -80), (60, 90, -12))
    if region is not None:
        body = ellipsoid(region, (0, 50, -44), (50, 30, 23))
        folia = np.sin(region.z * np.float32(2.1) + np.float32(0.02) * region.x**2 * np.float32(0.2))
        bumps = random_field(canvas.shape, rng, 8.0 / canvas.voxel_mm)[region.box]
        signal = _SIGNAL["cerebellum"] - 150 * np.clip(folia - 0.3, 0, 1) + 40 * bumps
        canvas.fill(region, body, signal.astype(np.float32), CEREBELLUM)
        canvas.fill(region, ellipsoid(region, (0, 44, -44), (26, 12, 8)), _SIGNAL["white"])
    stem = tube(
        canvas, curve([(0, 8, -8), (0, 14, -34), (0, 24, -58), (0, 30, -110)], 12), np.linspace(14, 7, 12)
    )
    if stem is not None:
        canvas.fill(stem[0], stem[1], _SIGNAL["stem"], BRAIN_STEM)


def _paint_deep(canvas: Canvas, spec: BrainSpec, rng: np.random.Generator, midline: int) -> None:
    """Paint thalamus, caudate and lentiform nuclei, then the ventricles over them."""
    grow = 1.0 + 0.9 * spec.atrophy

    def put(
        center: tuple[float, float, float], radii: tuple[float, float, float], signal: float, label: int
    ) -> None:
        region = canvas.region(np.subtract(center, 30), np.add(center, 30))
        if region is not None:
            canvas.fill(region, ellipsoid(region, center, radii), signal, label)

    for side in (-1.0, 1.0):
        put((side * 11, 8, 2), (9, 15, 9), _SIGNAL["deep"], DEEP_GREY)
        put((side * 25, -6, 2), (7, 18, 10), _SIGNAL["deep"] - 40, DEEP_GREY)
        caudate = curve([(side * 11, -24, 8), (side * 15, -6, 17), (side * 20, 16, 18)], 8)
        horn = curve([(side * 7, -28, 10), (side * 8, -6, 15), (side * 14, 16, 16), (side * 26, 36, 6),
                      (side * 33, 16, -14), (side * 31, 0, -22)], 20)  # fmt: skip
        occipital = curve([(side * 24, 34, 8), (side * 22, 52, 4), (side * 18, 62, 2)], 6)
        for path, radius, signal, label in (
            (caudate, np.linspace(6.5, 3, 8), _SIGNAL["deep"] - 50, DEEP_GREY),
            (
                horn,
                np.interp(np.arange(20), [0, 8, 12, 19], [5.5, 5.0, 6.0, 2.2]) * grow,
                _SIGNAL["fluid"],
                VENTRICLES,
            ),
            (occipital, np.linspace(4.5, 1.5, 6) * grow, _SIGNAL["fluid"], VENTRICLES),
        ):
            found = tube(canvas, path, radius)
            if found is not None:
                canvas.fill(found[0], found[1], signal + float(rng.normal(0, 5)), label)
    put((0, 4, 0), (1.8 * grow, 13, 9), _SIGNAL["fluid"], midline)
    put((0, 34, -40), (7 * grow, 6, 9), _SIGNAL["fluid"], midline)


def _acquire(canvas: Canvas, spec: BrainSpec, rng: np.random.Generator) -> NDArray[np.int16]:
    """Return the picture: blurred by the point spread, shaded by the coil, with Rician noise."""
    sigma = tuple(0.4 for _ in canvas.shape)
    signal = ndimage.gaussian_filter(canvas.hu, sigma)
    signal *= 1.0 + np.float32(0.02) * random_field(canvas.shape, rng, 2.5)
    shading = random_field(canvas.shape, rng, tuple(n / 2.0 for n in canvas.shape))  # type: ignore[arg-type]
    signal *= np.exp(np.float32(spec.bias * 0.7) * shading)
    real = signal + np.float32(spec.noise) * rng.standard_normal(canvas.shape, dtype=np.float32)
    imaginary = np.float32(spec.noise) * rng.standard_normal(canvas.shape, dtype=np.float32)
    return np.clip(np.rint(np.hypot(real, imaginary)), 0, 32767).astype(np.int16)
