"""One random person: sizes, outlines and tissue values shared by the anatomy modules."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from core.phantom.shapes import Profile
from core.phantom.spec import ThoraxSpec

SPINE_TOP_MM = 245.0


@dataclass
class Tissues:
    """Hounsfield units of this person's tissues (after contrast medium, if any)."""

    fat: float
    muscle: float
    skin: float
    lung: float
    cortex: float
    marrow: float
    cartilage: float
    arterial: float
    venous: float
    myocardium: float
    liver: float
    spleen: float
    kidney: float
    bowel: float
    fluid: float

    @classmethod
    def sample(cls, spec: ThoraxSpec, rng: np.random.Generator) -> Tissues:
        """Draw values around those of the literature.

        Source: ranges of unenhanced and enhanced organ attenuation as given in CT textbooks (fat −120 … −80,
        muscle 40 … 70, liver 50 … 65 unenhanced and 100 … 130 portal venous, blood 35 … 50, aorta 250 … 400
        arterial, trabecular bone 80 … 250 falling with age).
        """
        n = rng.normal
        blood = n(42, 6)
        arterial, venous, liver, spleen, kidney, myo = (
            blood,
            blood,
            n(54, 11),
            n(47, 6),
            n(31, 5),
            blood + n(4, 4),
        )
        if spec.contrast == "arterial":
            arterial, venous = rng.uniform(180, 420), rng.uniform(90, 330)
            liver, spleen, kidney = liver + rng.uniform(5, 35), rng.uniform(90, 140), rng.uniform(110, 190)
            myo = rng.uniform(80, 130)
        elif spec.contrast == "venous":
            arterial = rng.uniform(110, 190)
            venous = arterial * rng.uniform(0.9, 1.1)
            liver, spleen, kidney = rng.uniform(85, 130), rng.uniform(100, 135), rng.uniform(140, 210)
            myo = rng.uniform(85, 120)
        return cls(
            fat=n(-103, 8),
            muscle=n(53, 8) + (8 if spec.contrast == "venous" else 0),
            skin=n(10, 25),
            lung=n(-855, 35) - 25 * spec.inspiration,
            cortex=rng.uniform(450, 1000),
            marrow=rng.uniform(70, 280),
            cartilage=rng.uniform(70, 160),
            arterial=arterial,
            venous=venous,
            myocardium=myo,
            liver=liver,
            spleen=spleen,
            kidney=kidney,
            bowel=n(25, 12),
            fluid=n(8, 6),
        )


def _raised(rng: np.random.Generator) -> float:
    """Return how far a paralysed or pushed-up half of the diaphragm stands higher (mostly 0 mm)."""
    return float(rng.uniform(10, 45)) if rng.uniform() < 0.12 else 0.0


@dataclass
class Person:
    """Outline profiles, positions and tissues of one phantom."""

    spec: ThoraxSpec
    rng: np.random.Generator
    tissues: Tissues
    wall: Profile
    cavity: Profile
    fat_mm: float
    belly_mm: float
    exponent: float
    cavity_exponent: float
    dome_mm: tuple[float, float]
    kyphosis_mm: float
    heart_scale: float
    scoliosis_mm: float
    vertebra_low: float
    vertebra_gain: float
    extra: dict[str, float] = field(default_factory=dict)

    @classmethod
    def sample(cls, spec: ThoraxSpec, rng: np.random.Generator) -> Person:
        """Draw a person that fits the spec."""
        broad, deep = rng.normal(1.0, 0.06), rng.normal(1.0, 0.07)
        up, down = spec.arms == "up", spec.arms == "down"
        wall = {
            -480.0: (150, 84, 4), -400.0: (160, 92, 4), -330.0: (162, 98, 6), -260.0: (152, 97, 4),
            -200.0: (138, 96, 0),
            -100.0: (137, 98, -1), 0.0: (142, 103, 0), 80.0: (144, 103, 2), 140.0: (147 + 10 * down, 97, 8),
            175.0: (158 + 16 * down, 84, 16), 195.0: (146 + 32 * down, 74, 20), 215.0: (112 + 10 * down, 64, 22),
            238.0: (72, 56, 22), 262.0: (58, 56, 18), 300.0: (60, 60, 8), 340.0: (68, 82, -4),
            420.0: (72, 92, -6),
        }  # fmt: skip
        if not (up or down):
            wall[195.0] = (140, 74, 20)
        cavity = {
            -420.0: (50, 36, -6), -370.0: (66, 58, -2), -320.0: (78, 72, -6), -260.0: (104, 76, -10),
            -200.0: (118, 74, -12), -100.0: (124, 82, -6),
            0.0: (129, 90, -3), 60.0: (127, 90, -1), 110.0: (118, 85, 2), 150.0: (103, 74, 9),
            180.0: (84, 58, 17), 200.0: (66, 43, 24), 214.0: (50, 30, 28), 225.0: (30, 16, 30), 240.0: (4, 4, 30),
        }  # fmt: skip

        def scaled(knots: Mapping[float, tuple[float, float, float]]) -> dict[float, tuple[float, ...]]:
            return {z: (a * broad, b * deep, c * deep) for z, (a, b, c) in knots.items()}

        return cls(
            spec=spec,
            rng=rng,
            tissues=Tissues.sample(spec, rng),
            wall=Profile(scaled(wall)),
            cavity=Profile(scaled(cavity), smooth_mm=6.0),
            fat_mm=float(3 + 38 * spec.habitus**1.5 * rng.uniform(0.8, 1.2)),
            belly_mm=float(60 * max(0.0, spec.habitus - 0.15) * rng.uniform(0.5, 1.2)),
            exponent=float(rng.uniform(2.15, 2.9)),
            cavity_exponent=float(rng.uniform(2.1, 2.6)),
            dome_mm=(
                float(rng.normal(0, 8) - 14 * spec.inspiration + _raised(rng)),
                float(rng.normal(-12, 9) + _raised(rng) - 14 * spec.inspiration),
            ),
            kyphosis_mm=float(rng.normal(10, 7)),
            heart_scale=float(np.clip(rng.normal(1.0, 0.09), 0.8, 1.3)),
            scoliosis_mm=float(rng.normal(0, 4)),
            vertebra_low=float(rng.normal(1.0, 0.04)),
            vertebra_gain=float(rng.normal(1.0, 0.08)),
            extra={"broad": broad, "deep": deep},
        )

    @property
    def broad(self) -> float:
        """Relative width."""
        return self.extra["broad"]

    @property
    def deep(self) -> float:
        """Relative depth."""
        return self.extra["deep"]

    def spine(self, z: float) -> tuple[float, float]:
        """Return (x, y) of the vertebral bodies' centres at a height."""
        t = z / 100.0
        x = self.scoliosis_mm * np.sin(1.3 * t + 0.5)
        y = 46 * self.deep + self.kyphosis_mm * np.cos((z - 70) / 95.0) - 4
        if z > 150:
            y -= 0.0016 * (z - 150) ** 2 * 0.6
        if z < -120:
            y -= 0.0011 * (z + 120) ** 2 * 0.6
        return float(x), float(y)
