"""Writing with read-back: a file counts as written only after it was read and compared."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from core.config.atomic import atomic_path
from core.domain.errors import EnvironmentFault, InputError, SafetyError
from core.export.identifiers import file_stem
from core.export.identity_modules import choose_character_set
from core.export.source import SourceSeries


@dataclass(frozen=True)
class ExportedFile:
    """One file that was written, read back and compared.

    ``sop_instance_uid`` is empty for files that are not DICOM; ``notes`` say what was left out and why.
    """

    kind: str
    path: Path
    sop_instance_uid: str
    verified: bool
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """Return the entry for JSON."""
        return {
            "kind": self.kind,
            "path": str(self.path),
            "sop_instance_uid": self.sop_instance_uid,
            "verified": self.verified,
            "notes": list(self.notes),
        }


@contextmanager
def quiet_writers() -> Iterator[None]:
    """Silence the DICOM libraries while an object is built.

    Their warnings and log records quote attribute values, a patient's name among them, which must reach
    no log. What is wrong with an object is found by the read-back instead.
    """
    logger = logging.getLogger("highdicom")
    disabled = logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = disabled


@contextmanager
def translated(kind: str) -> Iterator[None]:
    """Turn what the DICOM libraries raise about a source into an InputError without its values.

    Raises
    ------
    InputError
        The source's attributes do not allow the object (code ``export.<kind>_refused``).
    """
    try:
        yield
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, NotImplementedError) as error:
        raise InputError(
            f"export.{kind}_refused",
            f"The source images do not allow a DICOM {kind.upper()} object ({type(error).__name__}).",
            "Export as nifti or csv instead, and check the source series with a DICOM validator.",
        ) from error


def write_verified(
    dataset: Dataset, out: Path, kind: str, source: SourceSeries, verify: Callable[[Path], None]
) -> Path:
    """Write a DICOM object, read it back by ``verify`` and only then give it its final name.

    Parameters
    ----------
    dataset : Dataset
        The object with its file meta.
    out : Path
        Folder; created when missing.
    kind : str
        First part of the file's name, which holds nothing of the patient.
    verify : callable
        Gets the path of the complete file; raises SafetyError when what is there is not what was meant.

    Raises
    ------
    SafetyError
        If the read-back differs; no file stays behind.
    EnvironmentFault
        If the folder cannot be written (code ``export.unwritable``).
    """
    path = out / f"{file_stem(kind, dataset.SOPInstanceUID)}.dcm"
    choose_character_set(dataset, source.character_set)
    dataset.preamble = b"\x00" * 128
    try:
        with atomic_path(path) as part:
            with quiet_writers():
                dataset.save_as(part, enforce_file_format=True)
            _verified(verify, part, kind)
    except OSError as error:
        raise EnvironmentFault(
            "export.unwritable",
            f"The export folder cannot be written ({error.strerror or type(error).__name__}).",
            "Choose another folder or free some space.",
        ) from error
    return path


def _verified(verify: Callable[[Path], None], part: Path, kind: str) -> None:
    """Run the read-back; whatever it stumbles over is a failed read-back."""
    try:
        with quiet_writers():
            verify(part)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise SafetyError(
            "export.read_back",
            f"The written {kind.upper()} cannot be read back ({type(error).__name__}); it was removed.",
            "Export as nifti instead and report this series.",
        ) from error


def differs(kind: str, what: str) -> SafetyError:
    """Return the error of a read-back that found a difference."""
    return SafetyError(
        "export.read_back",
        f"The written {kind.upper()} differs from the result on screen: {what}; the file was removed.",
        "Export again; if it happens twice, export as nifti and report this series.",
    )


def require_identity(kind: str, dataset: Dataset, source: SourceSeries) -> None:
    """Refuse an object whose patient or study is not the source's.

    Raises
    ------
    SafetyError
        Code ``export.read_back``.
    """
    for keyword, wanted in source.identity.items():
        if str(dataset.get(keyword, "") or "") != wanted:
            raise differs(kind, f"{keyword} is not the source's")
