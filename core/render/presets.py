"""Window presets on the number keys, from ``resources/window_presets.toml``."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from core.config.resources import resource_path
from core.domain.volume import Volume
from core.domain.window import Window
from core.render.grey import automatic_window

INVERTED_AT_FIRST = ("PT",)
"""Modalities that are read black on white: uptake is dark."""


@dataclass(frozen=True)
class Preset:
    """A named window on a digit; either fixed, or a pair of percentiles of the series' values.

    With ``in_suv``, centre and width are SUVbw, whatever the units of the voxels.
    """

    key: int
    name: str
    center: float | None = None
    width: float | None = None
    percentiles: tuple[float, float] | None = None
    in_suv: bool = False

    def window_for(self, volume: Volume) -> Window:
        """Return the window for a volume; percentiles are taken from a sample of its voxels."""
        if self.percentiles is None:
            scale = 1.0 / volume.suvbw_factor if self.in_suv and volume.suvbw_factor else 1.0
            return Window(float(self.center or 0.0) * scale, float(self.width or 1.0) * scale, self.name)
        flat = volume.voxels.reshape(-1)
        sample = flat[:: max(1, flat.size // 200_000)]
        low, high = (float(v) for v in np.percentile(sample[np.isfinite(sample)], self.percentiles))
        narrowest = 1e-6 if volume.voxels.dtype.kind == "f" else 1.0
        width = max(high - low, narrowest)
        return Window(low + width / 2.0, width, self.name)


@dataclass(frozen=True)
class PresetGroup:
    """The presets of a kind of series and the digit of the one used first."""

    initial: int
    presets: tuple[Preset, ...]

    def preset(self, key: int) -> Preset | None:
        """Return the preset on a digit, or None."""
        return next((p for p in self.presets if p.key == key), None)


@lru_cache(maxsize=1)
def _groups() -> tuple[dict[str, Any], ...]:
    with resource_path("window_presets.toml").open("rb") as file:
        return tuple(tomllib.load(file)["group"])


def presets_for(modality: str, body_part: str, units: str) -> PresetGroup:
    """Choose the group of presets for a series."""
    for group in _groups():
        wanted = (("modality", modality), ("body_part", body_part.upper().replace(" ", "")), ("units", units))
        if all(not group[name] or value in group[name] for name, value in wanted):
            return PresetGroup(
                int(group["initial"]), tuple(_preset(p, "SUVbw" in group["units"]) for p in group["presets"])
            )
    raise LookupError("window_presets.toml has no group that matches everything")


def presets_of_volume(volume: Volume) -> PresetGroup:
    """Choose the group of presets for a volume; PET with a known SUV factor has those in SUV."""
    units = "SUVbw" if volume.suvbw_factor is not None else volume.units
    return presets_for(volume.modality, volume.body_part, units)


def initial_window(volume: Volume) -> Window:
    """Return the series' own first window, else the initial preset of its kind, else an automatic one.

    Windows that a PET series brings differ from slice to slice and are no SUV: its presets come first.
    """
    group = presets_of_volume(volume)
    if volume.windows and volume.modality != "PT":
        return volume.windows[0]
    preset = group.preset(group.initial)
    return preset.window_for(volume) if preset is not None else automatic_window(volume.voxels, volume.units)


def _preset(entry: dict[str, Any], in_suv: bool = False) -> Preset:
    pair = entry.get("percentiles")
    return Preset(
        int(entry["key"]),
        str(entry["name"]),
        entry.get("center"),
        entry.get("width"),
        (float(pair[0]), float(pair[1])) if pair else None,
        in_suv,
    )
