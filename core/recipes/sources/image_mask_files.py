"""Pairs of an image and a mask."""

from __future__ import annotations

from pathlib import Path

from core.recipes.cases import Case
from core.recipes.sources.base import (
    NIFTI,
    NRRD,
    PICTURES,
    CaseSource,
    PatientPattern,
    check_unique,
    files_below,
    refusal,
    relative_id,
    require_folder,
)
from core.recipes.sources_schema import ImageMaskFiles


class ImageMaskSource(CaseSource):
    """An image and its mask have the same path below their folders, but for ``mask_suffix`` and the format."""

    name = "image_mask_files"

    def cases(self, settings: ImageMaskFiles, folder: Path, channels: tuple[str, ...]) -> list[Case]:
        """Return the pairs by name."""
        images_folder = _inside(folder, settings.images)
        masks_folder = _inside(folder, settings.masks)
        pattern = PatientPattern(settings.patient_pattern) if settings.patient_pattern else None
        together = images_folder.resolve() == masks_folder.resolve()
        if together and not settings.mask_suffix:
            raise refusal(
                "pairs",
                "Images and masks lie in one folder.",
                "Give data.source.mask_suffix, or two folders.",
            )
        images = _by_id(images_folder)
        masks = _by_id(masks_folder)
        if together:
            images = {key: path for key, path in images.items() if not key.endswith(settings.mask_suffix)}
            masks = {key: path for key, path in masks.items() if key.endswith(settings.mask_suffix)}
        if not images:
            raise refusal("no_images", f"The folder “{settings.images}” has no images.", "Check the folder.")
        found = []
        for key, path in images.items():
            mask = masks.pop(key + settings.mask_suffix, None)
            if mask is None:
                raise refusal(
                    "no_mask",
                    f"The image “{path.name}” has no mask “{key}{settings.mask_suffix}” in “{settings.masks}”.",
                    "Add the mask, or remove the image. An image without findings needs an empty mask.",
                )
            patient = pattern.patient(path) if pattern is not None else key
            found.append(Case(key, patient, key, {channels[0]: (path,)}, mask=mask))
        if masks:
            lonely = next(iter(masks.values()))
            raise refusal(
                "no_image", f"The mask “{lonely.name}” has no image.", "Add the image, or remove the mask."
            )
        return check_unique(found)


def _inside(folder: Path, name: str) -> Path:
    require_folder(folder)
    place = folder / name
    if not place.resolve().is_relative_to(folder.resolve()):
        raise refusal("folders", f"The folder “{name}” leaves the data folder.", "Move it inside.")
    return require_folder(place, "folder")


def _by_id(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in files_below(folder, (*PICTURES, *NIFTI, *NRRD)):
        key = relative_id(path, folder)
        if key in found:
            raise refusal(
                "same_name", f"“{path.name}” and “{found[key].name}” have one name.", "Remove one of them."
            )
        found[key] = path
    return found
