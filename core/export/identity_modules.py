"""Patient and study modules as exported objects inherit them, mended where the source is not valid.

An exported object goes back to the archive, so it must carry exactly the source's identity. What is
mended is only what would make the new object invalid: absent type 2 attributes become empty, empty
attributes of modules where an empty value is forbidden are left out.
"""

from __future__ import annotations

import codecs
import re

from pydicom.charset import convert_encodings
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

# Type 2 attributes of the Patient and General Study modules. Source: DICOM PS3.3 C.7.1.1, C.7.2.1.
_TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
)
# Attributes that must not be copied when empty or zero: an empty Laterality breaks type 2C of General
# Series, a weight or size of 0 is no weight. Source: DICOM PS3.3 C.7.3.1, C.7.2.2; dciodvfy.
_DROP_WHEN_EMPTY = ("Laterality", "PatientWeight", "PatientSize", "PatientAge", "PatientSexNeutered")
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing")
_DATES = ("PatientBirthDate", "StudyDate")
_TIMES = ("PatientBirthTime", "StudyTime")
_TEXT_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
UTF_8 = "ISO_IR 192"


def mend_header(header: Dataset) -> None:
    """Make a source header fit to be inherited from; changes ``header`` (a copy of the file's)."""
    header.decode()
    if "SpecificCharacterSet" in header:
        del header.SpecificCharacterSet
    for keyword in _TYPE_2:
        if header.get(keyword) is None:
            setattr(header, keyword, "")
    for keyword in _DATES:
        if header.get(keyword) and not re.fullmatch(r"\d{8}", str(header.get(keyword))):
            setattr(header, keyword, "")
    for keyword in _TIMES:
        if header.get(keyword) and not re.fullmatch(r"\d{2,6}(\.\d{1,6})?", str(header.get(keyword))):
            setattr(header, keyword, "")
    if header.get("PatientAge") and not re.fullmatch(r"\d{3}[DWMY]", str(header.PatientAge)):
        del header.PatientAge
    for keyword in _SPACINGS:
        if keyword in header and not all(float(v) > 0 for v in header.get(keyword) or (0,)):
            delattr(header, keyword)
    if header.get("PatientIdentityRemoved") == "YES" and not (
        header.get("DeidentificationMethod") or header.get("DeidentificationMethodCodeSequence")
    ):
        header.DeidentificationMethod = "Not stated in the source"
    if str(header.PatientSex) not in ("M", "F", "O", ""):
        header.PatientSex = ""
    for keyword in _DROP_WHEN_EMPTY:
        if keyword in header and not _is_meaningful(header.get(keyword)):
            delattr(header, keyword)


def _is_meaningful(value: object) -> bool:
    """Whether a value is neither empty nor the number zero."""
    text = "" if value is None else str(value).strip()
    return text not in ("", "0", "0.0", "000Y")


def choose_character_set(dataset: Dataset, declared: str | tuple[str, ...] | None) -> None:
    """Set Specific Character Set of ``dataset``: the source's if it can hold every text, else UTF-8.

    Parameters
    ----------
    dataset : Dataset
        The new object, complete, all text decoded.
    declared : str, tuple of str or None
        Specific Character Set (0008,0005) of the source.
    """
    texts = _texts(dataset)
    single = declared if isinstance(declared, str) else None
    if single and _holds(single, texts):
        dataset.SpecificCharacterSet = single
    elif not all(text.isascii() for text in texts):
        dataset.SpecificCharacterSet = UTF_8
    elif "SpecificCharacterSet" in dataset:
        del dataset.SpecificCharacterSet


def _holds(character_set: str, texts: list[str]) -> bool:
    """Whether one character set without code extensions can encode every text."""
    try:
        codec = codecs.lookup(convert_encodings([character_set])[0])
        for text in texts:
            codec.encode(text)
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def _texts(dataset: Dataset) -> list[str]:
    """Collect every text value of a dataset, sequences included."""
    found: list[str] = []
    for element in dataset.iterall():
        if element.VR in _TEXT_VRS and element.value is not None:
            values = element.value if not isinstance(element.value, str | PersonName) else [element.value]
            found.extend(str(value) for value in values)
    return found
