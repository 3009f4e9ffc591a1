"""Heads under random MR contrasts with drawn lesions: what several tasks on brain MR are learnt from."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.domain.geometry import VolumeGeometry, apply_reorientation
from core.domain.volume import Volume
from core.formats.nifti import read_nifti
from core.phantom.brain import BrainSpec
from core.phantom.contrasts import CONTRASTS, Contrast
from core.phantom.head import Head, drawn_head, head_from_reference
from core.phantom.head_case import HeadCase, make_head_case
from core.phantom.head_lesions import LesionKind
from core.recipes.cases import Case, CaseData, Part
from core.recipes.sources.base import CaseSource, refusal
from core.recipes.sources_schema import BrainContrasts

_KINDS = (0.4, 0.3, 0.3)
_DRAWN_SPACING_MM = 2.0
_DRAWN_SHAPE = (112, 112, 100)


class BrainContrastsSource(CaseSource):
    """Each seed is a head: the real one deformed, or a drawn one. The last ``holdout`` seeds are the test.

    A case has some of the recipe's contrasts only; the first one alone is the most frequent.
    """

    name = "brain_contrasts"

    def needs_folder(self, settings: BrainContrasts) -> bool:
        """Whether there must be a data folder: for a real head."""
        return settings.reference is not None

    def cases(self, settings: BrainContrasts, folder: Path, channels: tuple[str, ...]) -> list[Case]:
        """Return a case per seed, in order; each names the files of the real head when it is made of them."""
        _known(channels)
        files = _reference_files(settings, folder)
        found = []
        for number in range(settings.count + settings.holdout):
            seed = settings.first_seed + number
            rng = np.random.default_rng((seed, 0))
            kind = LesionKind(int(rng.choice(len(LesionKind), p=_KINDS)))
            drawn = not files or rng.random() >= settings.real_head
            shown = _shown(channels, rng)
            case_id = f"head-{seed:05d}"
            found.append(
                Case(
                    case_id, case_id, case_id, label=int(kind), seed=seed,
                    images={} if drawn else dict.fromkeys(shown, files),
                    part=Part.TRAIN if number < settings.count else Part.TEST,
                    attributes={"head": "drawn" if drawn else "real", "contrasts": " ".join(shown)},
                )
            )  # fmt: skip
        return found

    def read(self, case: Case, settings: BrainContrasts, channels: tuple[str, ...]) -> CaseData:
        """Render the case; contrasts that it lacks are absent."""
        rng = np.random.default_rng((case.seed or 0, 1))
        head = _drawn(rng) if not case.images else _real(next(iter(case.images.values())))
        shown: list[Contrast] = [
            c for c in CONTRASTS if c in channels and c in case.attributes["contrasts"].split()
        ]
        made = make_head_case(
            head, LesionKind(case.label or 0), shown, rng, size=settings.size, spacing_mm=settings.spacing_mm,
            real_share=settings.real_signal,
        )  # fmt: skip
        return _case_data(made, settings, channels, case.id)


def _case_data(made: HeadCase, settings: BrainContrasts, channels: tuple[str, ...], case_id: str) -> CaseData:
    size, step = settings.size, settings.spacing_mm
    first = -(size - 1) / 2 * step
    geometry = VolumeGeometry.from_axes(
        (size, size, size), (step, step, step), np.eye(3), (first, first, first)
    )
    volumes = {
        name: Volume(
            geometry=geometry, voxels=made.contrasts[name], modality="MR", series_uid=f"{case_id}-{name}",
            body_part="BRAIN",
        )
        for name in CONTRASTS
        if name in channels and name in made.contrasts
    }  # fmt: skip
    return CaseData(
        {name: volumes[name] for name in channels if name in volumes}, made.labels, int(made.kind),
        values=made.values,
    )  # fmt: skip


def _shown(channels: tuple[str, ...], rng: np.random.Generator) -> tuple[str, ...]:
    chance = rng.random()
    if chance < 0.5:
        return channels[:1]
    if chance < 0.75:
        return channels
    kept = rng.random(len(channels)) < 0.5
    kept[int(rng.integers(len(channels)))] = True
    return tuple(name for name, keep in zip(channels, kept, strict=True) if keep)


def _known(channels: tuple[str, ...]) -> None:
    unknown = [name for name in channels if name not in CONTRASTS]
    if unknown:
        raise refusal(
            "contrast",
            f"The contrast “{unknown[0]}” can't be rendered.",
            f"data.channels may hold {', '.join(CONTRASTS)}.",
        )


def _reference_files(settings: BrainContrasts, folder: Path) -> tuple[Path, ...]:
    if settings.reference is None:
        return ()
    place = folder / settings.reference.folder
    if not place.resolve().is_relative_to(folder.resolve()):
        raise refusal(
            "outside",
            "The folder of the real head lies outside of the data folder.",
            "Correct data.source.reference.folder.",
        )
    files = tuple(
        place / name
        for name in (settings.reference.t1, settings.reference.classes, settings.reference.envelope)
    )
    absent = [file.name for file in files if not file.is_file()]
    if absent:
        raise refusal(
            "no_image",
            f"“{absent[0]}” of the real head isn't in the data folder.",
            "Give the right folder with --data, or remove data.source.reference to draw all heads.",
        )
    return files


@lru_cache(maxsize=1)
def _real(files: tuple[Path, ...]) -> Head:
    """Read the real head; its three files lie on one grid of 1 mm or so."""
    t1, classes, envelope = (read_nifti(file) for file in files)
    sizes = np.asarray(t1.geometry.spacing_ijk_mm)
    if not np.allclose(sizes, sizes[0], rtol=1e-3):
        raise refusal("grid", f"The voxels of “{files[0].name}” are no cubes.", "Resample it to cubes.")
    for file, volume in zip(files[1:], (classes, envelope), strict=True):
        if not volume.geometry.same_grid_as(t1.geometry):
            raise refusal(
                "grid", f"“{file.name}” lies on another grid than “{files[0].name}”.", "Resample it."
            )
    return head_from_reference(_along_lps(t1), _along_lps(classes), _along_lps(envelope), float(sizes[0]))


def _along_lps(volume: Volume) -> NDArray:
    _, permutation, flips = volume.geometry.reoriented("LPS")
    return np.ascontiguousarray(apply_reorientation(volume.voxels, permutation, flips))


def _drawn(rng: np.random.Generator) -> Head:
    return drawn_head(
        BrainSpec(
            seed=int(rng.integers(2**31)), shape_kji=_DRAWN_SHAPE, spacing_kji_mm=(_DRAWN_SPACING_MM,) * 3,
            atrophy=float(rng.random()), deform_mm=float(rng.uniform(1.5, 4.0)),
        )
    )  # fmt: skip
