"""Before a model runs: was it made for this series, and can the series be measured?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from core.bundles.fit import fit
from core.bundles.manifest import Manifest
from core.domain.errors import SafetyError
from core.domain.study import SeriesSummary
from core.domain.volume import Volume

OK = "ok"


def check_series(
    manifest: Manifest,
    summary: SeriesSummary,
    study: Sequence[SeriesSummary] = (),
    chosen: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Hold the index's description of a series, and of its study, against the model; returns ``{"fit": "ok"}``.

    ``chosen`` is what the reader says of contrasts, see ``fit``.

    Raises
    ------
    SafetyError
        If the model was not made for such a series (``model.does_not_fit``), with the reason.
    """
    answer = fit(manifest, summary, study, chosen)
    if not answer.fits:
        raise SafetyError(
            "model.does_not_fit",
            f"{manifest.title} was not run: {answer.why}",
            "Choose a model that was made for this series.",
        )
    return {"fit": OK}


def check_volume(manifest: Manifest, volume: Volume) -> dict[str, str]:
    """Hold the voxels' grid against what the model needs; returns the checks that were passed.

    Raises
    ------
    SafetyError
        If the slices are not evenly spaced or overlap, the grid is sheared, its spacing is not a positive
        number, or a voxel is not a number (``geometry.…``). An image model needs the last two only.
    """
    spacing = np.asarray(volume.geometry.spacing_ijk_mm)
    if not np.isfinite(spacing).all() or (spacing <= 0).any():
        raise _refusal(
            "geometry.spacing",
            f"the voxel spacing ({', '.join(f'{value:g}' for value in spacing)} mm) is not usable.",
        )
    if volume.voxels.dtype.kind == "f" and not np.isfinite(volume.voxels).all():
        raise _refusal("geometry.not_finite", "some voxels are not numbers.")
    checks = {"spacing": OK}
    if manifest.is_3d:
        checks |= _check_stack(manifest, volume)
    return checks


def _check_stack(manifest: Manifest, volume: Volume) -> dict[str, str]:
    if manifest.requirements.regular:
        for issue in volume.issues:
            if issue.blocks_volumetry:
                raise _refusal("geometry.volumetry", f"{issue.message} ({issue.code})")
    if volume.geometry.is_sheared:
        raise _refusal(
            "geometry.sheared", "the slices are tilted against the stack and were not straightened."
        )
    return {"regular grid": OK}


def _refusal(code: str, why: str) -> SafetyError:
    return SafetyError(
        code,
        f"The model was not run, because its result could mislead: {why}",
        "Choose a complete series with evenly spaced slices, or repair this one at its source.",
    )
