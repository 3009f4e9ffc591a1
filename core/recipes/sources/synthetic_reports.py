"""Pictures with an invented report each: to try image and text together, with a known share of truth in the text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from core.domain.geometry import VolumeGeometry
from core.domain.volume import Volume
from core.phantom.chest_reports import chest_report
from core.phantom.schematic_cxr import SchematicCxr, draw_cxr
from core.recipes.cases import Case, CaseData, Part
from core.recipes.sources.base import CaseSource, refusal
from core.recipes.sources.npz_arrays import NpzArraysSource
from core.recipes.sources_schema import Radiographs, SyntheticReports

_PICTURE, _REPORT = 1, 2


class SyntheticReportsSource(CaseSource):
    """The pictures keep their parts; the report of a case depends on the seed and its number only."""

    name = "synthetic_reports"

    def needs_folder(self, settings: SyntheticReports) -> bool:
        """Whether the pictures come from an archive."""
        return settings.pictures is not None

    def cases(self, settings: SyntheticReports, folder: Path, channels: tuple[str, ...]) -> list[Case]:
        """Return the cases with their reports."""
        if settings.pictures is None:
            found = _procedural(settings)
        else:
            found = NpzArraysSource().cases(settings.pictures, folder, channels)
        strange = next((case.label for case in found if case.label not in (0, 1)), None)
        if strange is not None:
            raise refusal(
                "classes",
                f"The archive holds the class {strange}; invented reports tell of a consolidation or of none.",
                "Give an archive with the classes 0 and 1.",
            )
        return [replace(case, text=_report(settings, case)) for case in found]

    def read(self, case: Case, settings: SyntheticReports, channels: tuple[str, ...]) -> CaseData:
        """Return the picture; the report is the case's."""
        if settings.pictures is not None:
            found = NpzArraysSource().read(case, settings.pictures, channels)
            return replace(found, text=case.text)
        pixels = _drawn(settings, case).pixels.astype(np.int16)[None]
        volume = Volume(VolumeGeometry(pixels.shape, np.eye(4)), pixels, "DX", case.id, body_part="CHEST")
        return CaseData(dict.fromkeys(channels, volume), label=case.label, text=case.text)


def _procedural(settings: SyntheticReports) -> list[Case]:
    """Return the cases of drawn radiographs; each is a person of its own, and every second one has a consolidation."""
    sizes = settings.radiographs
    parts = [Part.TRAIN] * sizes.count + [Part.VALIDATION] * sizes.held_out + [Part.TEST] * sizes.held_out
    found = []
    for number, part in enumerate(parts):
        case_id = f"radiograph-{number:06d}"
        found.append(Case(case_id, case_id, case_id, label=number % 2, part=part, seed=number))
    return found


def _drawn(settings: SyntheticReports, case: Case) -> SchematicCxr:
    how: Radiographs = settings.radiographs
    return draw_cxr(
        (settings.seed, _PICTURE, case.seed or 0),
        consolidation=case.label == 1,
        size=how.size,
        contrast=how.contrast,
    )


def _report(settings: SyntheticReports, case: Case) -> str | None:
    """Return the report of a case, or None; the same chances are drawn whatever the shares are."""
    rng = np.random.default_rng((settings.seed, _REPORT, case.seed or 0))
    absent, true, lot = rng.random(3)
    if absent < settings.missing:
        return None
    truthful = true < settings.informative
    told = case.label == 1 if truthful else bool(lot < 0.5)
    side, zone = "", ""
    if settings.pictures is None and truthful and told:
        drawn = _drawn(settings, case)
        side, zone = drawn.side, drawn.zone
    return chest_report(rng, told, side, zone)
