"""Values and codes of the structures that the thorax phantom and the thorax network know."""

from __future__ import annotations

from core.domain.coding import CodedConcept
from core.domain.segmentation import SegmentDefinition

LEFT_LUNG = 1
RIGHT_LUNG = 2
AIRWAY = 3
HEART = 4
LIVER = 5
BONES = 6
BODY = 7

ANATOMICAL_STRUCTURE = CodedConcept("123037004", "SCT", "Anatomical Structure")
"""Segmented property category of all structures here (DICOM PS3.16 CID 7150)."""

_LUNG = CodedConcept("39607008", "SCT", "Lung")
_TABLE: tuple[tuple[int, str, CodedConcept, tuple[int, int, int]], ...] = (
    (LEFT_LUNG, "Left lung", CodedConcept("44029006", "SCT", "Left lung"), (102, 178, 232)),
    (RIGHT_LUNG, "Right lung", CodedConcept("3341006", "SCT", "Right lung"), (64, 132, 210)),
    (AIRWAY, "Trachea and main bronchi", CodedConcept("44567001", "SCT", "Trachea"), (84, 214, 196)),
    (HEART, "Heart", CodedConcept("80891009", "SCT", "Heart"), (222, 92, 88)),
    (LIVER, "Liver", CodedConcept("10200004", "SCT", "Liver"), (196, 140, 82)),
    (BONES, "Bones", CodedConcept("272673000", "SCT", "Bone"), (238, 226, 190)),
    (BODY, "Body (remainder)", CodedConcept("38266002", "SCT", "Entire body as a whole"), (150, 134, 158)),
)

THORAX_SEGMENTS: tuple[SegmentDefinition, ...] = tuple(
    SegmentDefinition(value, label, code, ANATOMICAL_STRUCTURE, color) for value, label, code, color in _TABLE
)
"""Definitions of the values 1 … 7 in a thorax label map."""
