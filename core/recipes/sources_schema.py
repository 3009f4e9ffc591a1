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

    For several tasks ``measurements`` names columns of numbers and ``text`` the one of the report; a cell may then be
    empty where a class, a mask or a number isn't known.
    """

    name: Literal["csv_manifest"]
    file: str = "manifest.csv"
    classes: tuple[str, ...] = ()
    values: dict[int, int] = Field(default_factory=dict)
    measurements: tuple[str, ...] = ()
    text: str | None = None


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


class NpzArrays(Strict):
    """One NumPy archive with ``train_images``, ``train_labels``, ``val_…`` and ``test_…``, as MedMNIST ships them.

    The archive says the parts (split method “given”). ``file`` is below the data folder; empty: the only ``.npz`` in
    it. Of pictures with equal pixels one stays, the one that judges, unless ``repeats`` is ``keep``.
    """

    name: Literal["npz_arrays"]
    file: str = ""
    modality: str = Field(default="OT", pattern=r"^[A-Z]{2,16}$")
    repeats: Literal["leave_out", "keep"] = "leave_out"


class Radiographs(Strict):
    """Radiographs of procedural chests with and without a painted consolidation, ``size`` pixels high and wide.

    ``count`` train, ``held_out`` validate and as many test. ``contrast`` is how much a consolidation brightens the lung
    (share of the grey range) at most.
    """

    count: int = Field(default=200, ge=2, le=100_000)
    held_out: int = Field(default=50, ge=2, le=100_000)
    size: int = Field(default=32, ge=16, le=256)
    contrast: float = Field(default=0.35, gt=0, le=1)


class SyntheticReports(Strict):
    """Pictures with an invented report each, to try image and text together where no real reports are at hand.

    The pictures are those of an archive (classes 0 without, 1 with pneumonia), or procedural radiographs. Of the
    reports the share ``informative`` tells the truth about the picture, the others tell of a finding drawn by lot;
    ``missing`` of the cases have none.
    """

    name: Literal["synthetic_reports"]
    pictures: NpzArrays | None = None
    radiographs: Radiographs = Radiographs()
    informative: float = Field(default=0.9, ge=0, le=1)
    missing: float = Field(default=0.0, ge=0, le=1)
    seed: int = Field(default=1, ge=0)


class RealHead(Strict):
    """A real T1-weighted head below the data folder with MeshNet's eighteen classes and the brain's envelope."""

    folder: str = ""
    t1: str = "t1_crop.nii.gz"
    classes: str = "expected_meshnet30_18cls.nii.gz"
    envelope: str = "expected_mindgrab_mask.nii.gz"


class BrainContrasts(Strict):
    """Heads under random T1, T2 and FLAIR contrasts, without a lesion, with a mass or with small lesions.

    Seeds ``first_seed`` … train, the ``holdout`` that follow are tested. ``real_head`` of the cases are deformations of
    the head in ``reference``, the others are drawn; without a reference all are. ``real_signal`` is how often the T1 of
    a real head shows its own signal instead of a drawn contrast. Cases are cubes of ``size`` voxels.
    """

    name: Literal["brain_contrasts"]
    count: int = Field(ge=1, le=1_000_000)
    holdout: int = Field(ge=0)
    first_seed: int = Field(default=0, ge=0)
    reference: RealHead | None = None
    real_head: float = Field(default=0.8, ge=0, le=1)
    real_signal: float = Field(default=0.5, ge=0, le=1)
    size: int = Field(default=96, ge=16, le=256)
    spacing_mm: float = Field(default=2.25, gt=0)


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
    | BrainContrasts
    | NpzArrays
    | SyntheticReports
    | PluginSource,
    Field(discriminator="name"),
]
