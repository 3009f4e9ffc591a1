"""What every source of cases shares."""

from __future__ import annotations

import hashlib
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from core.domain.errors import EnvironmentFault, InputError
from core.recipes.cases import Case, CaseData

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp")
NIFTI = (".nii", ".nii.gz")
NRRD = (".nrrd", ".nhdr")
DICOM = (".dcm", ".dicom", ".ima")
MAX_FILES = 2_000_000

_NESTED_REPEAT = re.compile(r"[+*}]\??\)[+*{]")


class CaseSource(ABC):
    """A source of cases.

    An installed package adds its own by subclassing and naming the class in the entry point group
    ``overread.sources``; a recipe then says ``{name: plugin, source: its-name, params: {…}}``.
    """

    name: ClassVar[str]

    def needs_folder(self, settings: Any) -> bool:  # noqa: ARG002
        """Whether there must be a data folder; procedural sources make their cases themselves."""
        return True

    @abstractmethod
    def cases(self, settings: Any, folder: Path, channels: tuple[str, ...]) -> list[Case]:
        """Return the cases below a folder.

        Parameters
        ----------
        settings : pydantic.BaseModel
            The source's section of the recipe.
        channels : tuple of str
            Names of the contrasts.

        Raises
        ------
        InputError
            ``data.…`` naming the file or folder and the remedy.
        """

    def read(self, case: Case, settings: Any, channels: tuple[str, ...]) -> CaseData | None:  # noqa: ARG002
        """Read a case in the source's own way; None leaves it to the common readers."""
        return None


def require_folder(folder: Path, what: str = "data folder") -> Path:
    """Return the folder; refuse one that isn't there.

    Raises
    ------
    InputError
        ``data.no_folder``.
    """
    if not folder.is_dir():
        raise refusal("no_folder", f"The {what} “{folder.name}” isn't there.", "Check the path of the data.")
    return folder


def files_below(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Return the files with these suffixes at any depth, in natural order of their paths; hidden ones are left out."""
    found = [path for path in _walk(folder) if path.name.lower().endswith(suffixes)]
    return sorted(found, key=lambda path: natural_key(path.relative_to(folder).as_posix()))


def _walk(folder: Path) -> Iterator[Path]:
    count = 0
    for place, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith("."):
                count += 1
                if count > MAX_FILES:
                    raise refusal("too_many", f"The folder holds more than {MAX_FILES} files.", "Divide it.")
                yield Path(place, name)


def _unreadable(error: OSError) -> None:
    raise EnvironmentFault(
        "data.unreadable", f"A folder of the data can't be read: {error.strerror}.", "Check its permissions."
    ) from error


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort ``slice 2`` before ``slice 10``; equal texts only have equal keys."""
    parts = re.split(r"(\d+)", text)
    return (*((1, int(p), p) if p.isdecimal() else (0, 0, p) for p in parts), (0, 0, text))


def relative_id(path: Path, folder: Path) -> str:
    """Return the path below the data folder with ``/``, without the suffix of an image."""
    text = path.relative_to(folder).as_posix()
    for suffix in sorted((*NIFTI, *NRRD, *PICTURES, *DICOM), key=len, reverse=True):
        if text.lower().endswith(suffix):
            return text[: -len(suffix)]
    return text


def pseudonym(identity: str) -> str:
    """Return what stands for a patient in groups: never the identity itself, the same for the same one."""
    return "p" + hashlib.sha256(b"overread.patient\0" + identity.encode()).hexdigest()[:15]


class PatientPattern:
    """Finds the patient in a file's name by a regular expression whose first group it is.

    Raises
    ------
    InputError
        ``data.pattern`` when it isn't a usable expression.
    """

    def __init__(self, pattern: str) -> None:
        try:
            self._pattern = re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise refusal("pattern", "patient_pattern isn't a regular expression.", "Correct it.") from error
        if len(pattern) > 200 or _NESTED_REPEAT.search(pattern):
            raise refusal("pattern", "patient_pattern repeats a repetition or is too long.", "Simplify it.")
        if self._pattern.groups < 1:
            raise refusal("pattern", "patient_pattern has no group.", "Put the patient's part into brackets.")

    def patient(self, path: Path) -> str:
        """Return the pseudonym of the patient; raises InputError (``data.pattern``) when the name doesn't match."""
        match = self._pattern.search(path.name)
        if match is None or not match[1]:
            raise refusal(
                "pattern",
                f"patient_pattern finds no patient in the file name “{path.name}”.",
                "Correct the pattern, or remove the file.",
            )
        return pseudonym(match[1])


def check_unique(cases: list[Case]) -> list[Case]:
    """Return the cases; raises InputError (``data.same_name``) when two have one id."""
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise refusal(
                "same_name", f"Two cases have the name “{case.id}”.", "Rename or remove one of the files."
            )
        seen.add(case.id)
    return cases


def refusal(code: str, message: str, remedy: str) -> InputError:
    """Return an InputError ``data.<code>``."""
    return InputError(f"data.{code}", message, remedy)
