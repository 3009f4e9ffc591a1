"""One case of a data set, before anything of it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Part(StrEnum):
    """What a case is used for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True)
class Case:
    """What a source knows of one case.

    Attributes
    ----------
    id : str
        Stable and unique within the data set, made of the path below the data folder; never the patient's name.
    patient, study : str
        Groups that a split keeps together. A source that doesn't know the patient gives the case's own id.
    images : mapping of str to tuple of pathlib.Path
        Channel name → its file, or the files of a DICOM series. A channel that this case lacks is absent.
    label : int or None
        Index of the class (classification).
    mask : pathlib.Path or None
        Label map (NIfTI, NRRD, picture), DICOM SEG or RTSTRUCT (segmentation).
    attributes : mapping of str to str
        Groups for stratification and fairness (sex, age group, scanner …).
    part : Part or None
        Where the data set itself says what the case is for.
    seed : int or None
        Of a procedural case, which has no files.
    """

    id: str
    patient: str
    study: str = ""
    images: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    label: int | None = None
    mask: Path | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    part: Part | None = None
    seed: int | None = None
