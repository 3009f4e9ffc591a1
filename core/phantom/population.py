"""Random people, scanners and fields of view for training and hold-out sets."""

from __future__ import annotations

import numpy as np

from core.phantom.spec import ThoraxSpec

_SIDES = ("left", "right")
_FIELDS: tuple[tuple[str, float, tuple[float, float], tuple[float, float]], ...] = (
    # name, probability, centre height (mm), height of the field (mm)
    ("chest", 0.40, (55.0, 110.0), (270.0, 360.0)),
    ("chest and abdomen", 0.20, (-60.0, 40.0), (330.0, 420.0)),
    ("abdomen and pelvis", 0.26, (-250.0, -60.0), (240.0, 400.0)),
    ("slab", 0.14, (-330.0, 230.0), (40.0, 130.0)),
)


def random_spec(seed: int, spacing_mm: float = 3.0) -> ThoraxSpec:
    """Return a random person and scan on an isotropic grid.

    Parameters
    ----------
    seed : int
        Decides everything.
    spacing_mm : float
        Voxel size of the grid.
    """
    rng = np.random.default_rng((seed, 20_011))
    field = int(rng.choice(len(_FIELDS), p=[f[1] for f in _FIELDS]))
    _, _, (low, high), (short, tall) = _FIELDS[field]
    rows, columns = rng.uniform(280, 400), rng.uniform(340, 440)
    if rng.uniform() < 0.12:
        rows, columns = rng.uniform(200, 280), rng.uniform(240, 340)
    shape = tuple(round(mm / spacing_mm) for mm in (rng.uniform(short, tall), rows, columns))
    habitus = float(np.clip(rng.beta(1.6, 2.4), 0.0, 1.0))
    return ThoraxSpec(
        seed=seed,
        shape_kji=shape,  # type: ignore[arg-type]
        spacing_kji_mm=(spacing_mm,) * 3,
        center_mm=(0.0, float(rng.normal(4, 8)), float(rng.uniform(low, high))),
        habitus=habitus,
        size=float(np.clip(rng.normal(1.0, 0.09), 0.78, 1.25)),
        female=bool(rng.uniform() < 0.5),
        arms=str(rng.choice(["up", "down", "none"], p=[0.62, 0.3, 0.08])),
        rotation_deg=float(rng.normal(0, 5)),
        tilt_deg=float(rng.normal(0, 3)),
        shift_mm=(float(rng.normal(0, 12)), float(rng.normal(0, 10))),
        kernel=str(rng.choice(["soft", "standard", "sharp"])),
        noise_hu=float(rng.uniform(2, 24)),
        contrast=str(rng.choice(["none", "arterial", "venous"], p=[0.45, 0.25, 0.3])),
        deform_mm=float(rng.uniform(2.0, 8.0)),
        inspiration=float(np.clip(rng.normal(0, 0.55), -1.3, 1.3)),
        disease=float(rng.beta(1.2, 2.2)),
        missing=_missing(rng),
        nodules=int(rng.integers(0, 8)),
        vessel_count=int(rng.integers(50, 130)),
        streaks=float(rng.uniform(0, 0.5)),
        table=bool(rng.uniform() < 0.85),
    )


def _missing(rng: np.random.Generator) -> tuple[str, ...]:
    """Draw rare effusions, a pneumothorax or a resected lung."""
    found = [f"effusion_{side}" for side in _SIDES if rng.uniform() < 0.08]
    if rng.uniform() < 0.08:
        found.append(f"collapse_{rng.choice(_SIDES)}")
    if rng.uniform() < 0.03:
        found.append(f"pneumothorax_{rng.choice(_SIDES)}")
    if rng.uniform() < 0.02:
        found.append(f"resection_{rng.choice(_SIDES)}")
    return tuple(found)
