"""One case of a data set, before anything of it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.domain.volume import SeriesIssue, Volume

UNJUDGED = 255
"""Value of a label map where nothing is known; only losses that say so take it."""


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
    more_masks : tuple of pathlib.Path
        Further DICOM objects that hold other structures of the same series.
    attributes : mapping of str to str
        Groups for stratification and fairness (sex, age group, scanner …).
    part : Part or None
        Where the data set itself says what the case is for.
    seed : int or None
        Of a procedural case, which has no files.
    values : mapping of str to float
        Measurement → its value in the unit of the recipe; what isn't known is absent.
    text : str or None
        The report; never shown when the case is printed.
    """

    id: str
    patient: str
    study: str = ""
    images: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    label: int | None = None
    mask: Path | None = None
    more_masks: tuple[Path, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    part: Part | None = None
    seed: int | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    text: str | None = field(default=None, repr=False)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that the case is made of."""
        masks = () if self.mask is None else (self.mask, *self.more_masks)
        return tuple(path for paths in self.images.values() for path in paths) + masks


@dataclass(frozen=True, eq=False)
class CaseData:
    """What was read of one case; all arrays lie on one grid.

    Attributes
    ----------
    volumes : mapping of str to Volume
        One per channel of the recipe, in its order. Pictures are volumes of one slice.
    labels : numpy.ndarray or None
        ``(K, J, I)`` uint8 label map on the grid of the volumes; 0 is background.
    label : int or None
        Index of the class.
    issues : tuple of SeriesIssue
        What was put right while reading (a mask of another grid, structures that overlap).
    values : mapping of str to float
        Measurements that the source found while reading; those of the case itself need not be repeated.
    text : str or None
        The report, where the source makes it while reading.
    """

    volumes: Mapping[str, Volume]
    labels: NDArray[np.uint8] | None = None
    label: int | None = None
    issues: tuple[SeriesIssue, ...] = ()
    values: Mapping[str, float] = field(default_factory=dict)
    text: str | None = field(default=None, repr=False)
