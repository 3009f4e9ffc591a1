"""Procedural chests, which need no files."""

from __future__ import annotations

from pathlib import Path

from core.domain.volume import Volume
from core.phantom.population import random_spec
from core.phantom.thorax import make_thorax
from core.recipes.cases import Case, CaseData, Part
from core.recipes.sources.base import CaseSource
from core.recipes.sources_schema import Phantoms


class PhantomsSource(CaseSource):
    """Each seed is a patient; the last ones are the test."""

    name = "phantoms"

    def needs_folder(self, settings: Phantoms) -> bool:  # noqa: ARG002
        """Whether there must be a data folder: no."""
        return False

    def cases(self, settings: Phantoms, folder: Path, channels: tuple[str, ...]) -> list[Case]:  # noqa: ARG002
        """Return a case per seed, in order."""
        found = []
        for number in range(settings.count + settings.holdout):
            seed = settings.first_seed + number
            part = Part.TRAIN if number < settings.count else Part.TEST
            case_id = f"phantom-{seed:05d}"
            found.append(Case(case_id, case_id, case_id, part=part, seed=seed))
        return found

    def read(self, case: Case, settings: Phantoms, channels: tuple[str, ...]) -> CaseData:
        """Render the chest."""
        phantom = make_thorax(random_spec(case.seed or 0, settings.spacing_mm))
        volume = Volume(
            geometry=phantom.geometry, voxels=phantom.hu, modality="CT", series_uid=case.id, units="HU",
            body_part="CHEST",
        )  # fmt: skip
        return CaseData(dict.fromkeys(channels, volume), labels=phantom.labels)
