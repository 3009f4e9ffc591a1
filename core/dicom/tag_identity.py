"""Which elements may tell who a patient is: not to be shown while identity is hidden.

Narrower than de-identification, which changes files: this decides what stands on a screen that others see. When in
doubt, it hides. Source: DICOM PS3.15 Table E.1-1, by kind of element instead of one by one.
"""

from __future__ import annotations

_ALWAYS = frozenset({"PN", "DA", "DT", "LT", "ST", "UT"})
"""Names, days, and free text, in which people write anything."""

_TEXTS = frozenset({"LO", "SH", "UC", "UN", "AE", "UR"})
_PATIENT_GROUP = 0x0010
_HARMLESS_OF_PATIENT = frozenset(
    {0x00100040, 0x00101010, 0x00101020, 0x00101030, 0x00102201, 0x00102203, 0x001021C0}
)
"""Sex, age, size, weight, species, sex neutered, pregnancy."""

_IDENTIFIERS = frozenset(
    {
        *(0x00080050, 0x00080080, 0x00080081, 0x00081010, 0x00081040, 0x00080092, 0x00080094),
        *(0x00181000, 0x00181002, 0x00181004, 0x00181005, 0x00181007, 0x00181008, 0x00189936),
        *(0x00200010, 0x00321032, 0x00321033, 0x00380010, 0x00380014, 0x00380060, 0x00380300, 0x00380400),
        *(0x00400009, 0x00401001, 0x00402016, 0x00402017, 0x00404025, 0x00404027, 0x0040A123, 0x00400280),
    }
)
"""Accession, institution, station, department, devices' serial numbers, study and visit IDs, orders."""

_KINDS_OF_UID = frozenset(
    {
        *(0x00020002, 0x00020010, 0x00020012, 0x00080016, 0x0008001A, 0x0008001B, 0x00081150, 0x0008115A),
        *(0x0008010C, 0x00080062, 0x00283006),
    }
)
"""UIDs that say what something is, not which one."""


def identifies(tag: int, vr: str) -> bool:
    """Return whether the value of an element may tell who the patient is.

    Parameters
    ----------
    tag : int
        ``0xggggeeee``.
    vr : str
        Value representation.
    """
    group = tag >> 16
    if vr in _ALWAYS or tag in _IDENTIFIERS:
        return True
    if vr == "UI":
        return tag not in _KINDS_OF_UID
    if group == _PATIENT_GROUP:
        return vr != "SQ" and tag not in _HARMLESS_OF_PATIENT
    # What a manufacturer writes into blocks of its own is not known; their numbers are harmless.
    return bool(group & 1) and vr in _TEXTS and tag & 0xFFFF > 0xFF
