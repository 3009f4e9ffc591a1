"""Sources of cases, as they stand in a recipe; discriminated by ``name``. Their crawlers are in ``sources``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from core.recipes.base import Strict
from core.recipes.cases import Part
from core.recipes.split_schema import Split


class ClassFolders(Strict):
    """One folder of pictures per class, in the order of ``classes``.

    ``patient_pattern`` is a regular expression whose first group is the patient within the file's name; without it
    each picture is its own patient, unless ``run_length`` says that so many consecutive pictures (by name) belong
    together.
    """

    name: Literal["class_folders"]
    classes: tuple[str, ...] = Field(min_length=2)
    folders: tuple[str, ...] = Field(
        default=(), description="Folder of each class where it isn't the class's name."
    )
    patient_pattern: str | None = None
    run_length: int = Field(default=1, ge=1)
    parts: dict[Literal["train", "validation", "test"], str] = Field(
        default_factory=dict,
        description="Folder of each part, where the class folders lie within such (split method “given”).",
    )


class ImageMaskFiles(Strict):
    """Pairs of an image and a mask with the same stem in two folders (pictures, NIfTI or NRRD)."""

    name: Literal["image_mask_files"]
    images: str = "images"
    masks: str = "masks"
    mask_suffix: str = ""
    patient_pattern: str | None = None
    values: dict[int, int] = Field(
        default_factory=dict, description="Value in the mask → label value; others are 0."
    )


class NiftiPatients(Strict):
    """One folder per patient with a file per contrast and a mask (``{channel}.nii.gz``, ``mask.nii.gz``)."""

    name: Literal["nifti_patients"]
    files: dict[str, str] = Field(
        default_factory=dict, description="Channel → file name; by default {channel}.nii.gz."
    )
    mask: str = "mask.nii.gz"
    values: dict[int, int] = Field(default_factory=dict)


class DicomSeries(Strict):
    """DICOM series below the folder, with an RTSTRUCT or SEG that refers to them.

    ``structures`` maps the name of a structure or segment (case ignored) to the label value. With several channels,
    ``series`` says for each of them what the Series Description contains (case ignored); they are looked for in the
    study of the series that the structures are drawn on, which must be one of them.
    """

    name: Literal["dicom_series"]
    structures: dict[str, int] = Field(min_length=1)
    modality: str = ""
    series: dict[str, str] = Field(
        default_factory=dict, description="Channel → part of the Series Description, for several contrasts."
    )


class CsvManifest(Strict):
    """A table with a row per case: ``file`` (or ``file_<channel>``), ``label`` or ``mask``, optionally ``patient``,
    ``study``, ``part``; every other column is an attribute. Paths are relative to the table.
    """

    name: Literal["csv_manifest"]
    file: str = "manifest.csv"
    classes: tuple[str, ...] = ()
    values: dict[int, int] = Field(default_factory=dict)


class Phantoms(Strict):
    """Procedural chests of ``core.phantom``: seeds ``first_seed`` … train, the ``holdout`` that follow are tested."""

    name: Literal["phantoms"]
    count: int = Field(ge=1)
    holdout: int = Field(ge=0)
    first_seed: int = 0
    spacing_mm: float = Field(default=3.0, gt=0)


class LibraryCases(Strict):
    """Cases that a reader accepted or corrected, as ``core.services`` lays them into a folder (``cases.json``)."""

    name: Literal["library_cases"]


class ListedCase(Strict):
    """One case: files or folders relative to the data folder, by channel."""

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64)
    patient: str = ""
    images: dict[str, str] = Field(min_length=1)
    mask: str | None = None
    label: int | None = Field(default=None, ge=0)
    part: Part | None = None
    attributes: dict[str, str] = Field(default_factory=dict)


class Listed(Strict):
    """The cases stand in the recipe itself: for a few public files whose folder has a layout of its own."""

    name: Literal["listed"]
    cases: tuple[ListedCase, ...] = Field(min_length=1)
    values: dict[int, int] = Field(
        default_factory=dict, description="Value in the mask → label value; others are 0."
    )


class PaintedLesions(Strict):
    """Lesions painted on the training pictures of a classification and on slices of healthy volumes.

    ``hosts`` and ``split`` are those of the classification that begins with what is learnt here, so that its test
    pictures are never seen. Label 1 is an intra-axial lesion, 2 an extra-axial one. ``healthy`` are volumes (T1) below
    the data folder. ``count`` cases train, ``held_out`` validate and as many test.
    """

    name: Literal["painted_lesions"]
    hosts: ClassFolders
    split: Split
    healthy: tuple[str, ...] = ()
    healthy_share: float = Field(default=0.45, ge=0, le=1)
    count: int = Field(default=3000, ge=1, le=100_000)
    held_out: int = Field(default=32, ge=0, le=10_000)
    seed: int = Field(default=1, ge=0)


class PluginSource(Strict):
    """A source of an installed package (entry point group ``overread.sources``), by its name there."""

    name: Literal["plugin"]
    source: str = Field(min_length=1, max_length=100)
    params: dict[str, Any] = Field(default_factory=dict)


Source = Annotated[
    ClassFolders
    | ImageMaskFiles
    | NiftiPatients
    | DicomSeries
    | CsvManifest
    | Phantoms
    | LibraryCases
    | Listed
    | PaintedLesions
    | PluginSource,
    Field(discriminator="name"),
]
