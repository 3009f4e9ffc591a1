"""Whether a file can be the corrected mask of a finding, before it is kept with the verdict."""

from __future__ import annotations

from pathlib import Path

from core.domain.errors import InputError, SafetyError
from core.formats.nifti import read_nifti
from core.services.engine import Engine
from core.services.results import load_segmentation


def require_mask_of(engine: Engine, result_id: str, mask_file: Path) -> None:
    """Refuse a mask that doesn't lie on the grid of the result's label map or holds no voxel.

    Blocks: the file is read.

    Raises
    ------
    InputError
        If the result has no label map (``decisions.no_label_map``), or the mask is empty
        (``decisions.mask_empty``) or can't be read.
    SafetyError
        If the mask is not on the grid of the label map (``decisions.mask_grid``).
    """
    segmentation = load_segmentation(engine, result_id)
    if segmentation is None:
        raise InputError(
            "decisions.no_label_map",
            "This result has no label map that a mask could correct.",
            "Give the right answer as the reason instead.",
        )
    mask = read_nifti(mask_file)
    if not mask.geometry.same_grid_as(segmentation.geometry):
        wanted, found = segmentation.geometry.shape_kji, mask.geometry.shape_kji
        raise SafetyError(
            "decisions.mask_grid",
            f"The mask is not on the grid of the result: {_sizes(found)} against {_sizes(wanted)} voxels, "
            "or another place in the patient.",
            "Export the result as NIfTI, correct that file and give it back.",
        )
    if not (mask.voxels > 0).any():
        raise InputError(
            "decisions.mask_empty",
            "The mask holds no voxel.",
            "Reject the finding if there is nothing, else give the mask with its voxels.",
        )


def _sizes(shape_kji: tuple[int, int, int]) -> str:
    return " × ".join(str(number) for number in reversed(shape_kji))
