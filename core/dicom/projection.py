"""Laterality and view of radiographs and mammograms. Source: DICOM PS3.3 C.8.11.7 and C.8.11.1, PS3.16 CID 4014."""

from __future__ import annotations

from core.dicom.header import Header
from core.dicom.series_rules import series_rules

_VIEW_CODES = {
    "399162004": "CC", "R-10242": "CC", "399368009": "MLO", "R-10226": "MLO", "399260004": "ML", "R-10224": "ML",
    "399352003": "LM", "R-10228": "LM", "399099002": "LMO", "R-10230": "LMO", "399265009": "XCCM", "R-1024B": "XCCM",
    "399192008": "FB", "R-10244": "FB", "399101009": "SIO", "R-102D0": "SIO", "399188001": "XCCL", "R-1024A": "XCCL",
    "399196006": "XCC", "399055006": "ISO", "399067008": "LATERAL", "399348003": "AP", "399173006": "PA",
    "R-10206": "AP", "R-10214": "PA",
}  # fmt: skip
"""Codes of CID 4014 and CID 4010 (SNOMED CT and the older SRT) as readers write them."""
_SIDES = {"R": "R", "L": "L", "B": "B"}


def view_of(header: Header) -> str:
    """Return laterality and view (``"R CC"``, ``"PA"``); empty for other images and where nothing is stated."""
    if header.modality not in series_rules().projections:
        return ""
    e = header.elements
    side = _SIDES.get(e.text(0x00200062).upper()) or _SIDES.get(e.text(0x00200060).upper(), "")
    view = ""
    for item in e.items(0x00540220):
        view = _VIEW_CODES.get(item.text(0x00080100)) or item.person_text(0x00080104)[:24]
    return f"{side} {view or e.text(0x00185101).upper()[:16]}".strip()
