"""Coded concepts of the exported objects.

Standard codes where there is one; what the standards lack stands in the private scheme 99OVERREAD,
which every object that uses it declares in its Coding Scheme Identification Sequence.
"""

from __future__ import annotations

from hashlib import sha256

import highdicom as hd
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.sr.codedict import codes

from core.domain.coding import CodedConcept
from core.domain.result import Verdict

PRIVATE_SCHEME = "99OVERREAD"


def private(value: str, meaning: str) -> hd.sr.CodedConcept:
    """Return a concept of the private scheme; ``value`` at most 16 characters (VR SH)."""
    return hd.sr.CodedConcept(value=value, scheme_designator=PRIVATE_SCHEME, meaning=meaning)


def concept(code: CodedConcept) -> hd.sr.CodedConcept:
    """Return a domain concept as highdicom's; the meaning is cut to 64 characters (VR LO)."""
    return hd.sr.CodedConcept(value=code.value, scheme_designator=code.scheme, meaning=code.meaning[:64])


def private_label(label: str) -> hd.sr.CodedConcept:
    """Return a concept for a model's own label that has no code; the value is derived from the label."""
    return private("L" + sha256(label.encode()).hexdigest()[:12].upper(), label[:64] or "unnamed")


def unit(ucum: str) -> hd.sr.CodedConcept:
    """Return a UCUM unit; its own spelling is its meaning. Source: DICOM PS3.16 section 7.2.2."""
    known = {"1": "no units", "mL": "milliliter", "ml": "milliliter", "mm": "millimeter", "a": "year"}
    return hd.sr.CodedConcept(value=ucum, scheme_designator="UCUM", meaning=known.get(ucum, ucum))


def private_coding_scheme() -> CodingSchemeIdentificationItem:
    """Return the declaration of the private scheme. Source: DICOM PS3.3 C.12.1 (0008,0110)."""
    return CodingSchemeIdentificationItem(
        designator=PRIVATE_SCHEME, name="Overread private codes", responsible_organization="Overread"
    )


VERDICT = private("VERDICT", "Reader's verdict on the finding")
VERDICT_VALUES: dict[Verdict | None, hd.sr.CodedConcept] = {
    Verdict.ACCEPT: private("ACCEPTED", "Accepted by the reader"),
    Verdict.REJECT: private("REJECTED", "Rejected by the reader"),
    Verdict.EDIT: private("EDITED", "Edited by the reader"),
    Verdict.UNSURE: private("UNSURE", "Reader is unsure"),
    None: private("NOTREVIEWED", "Not reviewed by a reader"),
}
INTENDED_USE_NAME = private("INTENDEDUSE", "Intended use")
INTENDED_USE_VALUE = private("NOTPRIMARY", "Not for primary diagnosis, research and review support")
PREDICTED_CLASS = private("CLASS", "Class predicted by the model")
IN_PREDICTION_SET = private("PREDICTIONSET", "In the prediction set")
YES = hd.sr.CodedConcept.from_code(codes.SCT.Yes)
NO = hd.sr.CodedConcept.from_code(codes.SCT.No)
VOLUME = hd.sr.CodedConcept.from_code(codes.SCT.Volume)
DIAMETER = hd.sr.CodedConcept.from_code(codes.SCT.Diameter)
MEAN = hd.sr.CodedConcept.from_code(codes.SCT.Mean)
ATTENUATION = hd.sr.CodedConcept.from_code(codes.DCM.AttenuationCoefficient)
INTENSITY = private("STOREDVALUE", "Stored pixel value")
PROBABILITY = hd.sr.CodedConcept.from_code(codes.DCM.Probability)
CENTER = hd.sr.CodedConcept.from_code(codes.DCM.Center)
SALIENCY = hd.sr.CodedConcept.from_code(codes.DCM.Saliency)
ARTIFICIAL_INTELLIGENCE = hd.sr.CodedConcept.from_code(codes.DCM.ArtificialIntelligence)
MILLILITER = hd.sr.CodedConcept(value="ml", scheme_designator="UCUM", meaning="milliliter")
MILLIMETER = hd.sr.CodedConcept(value="mm", scheme_designator="UCUM", meaning="millimeter")
HOUNSFIELD_UNIT = hd.sr.CodedConcept(value="[hnsf'U]", scheme_designator="UCUM", meaning="Hounsfield unit")
NO_UNITS = hd.sr.CodedConcept(value="1", scheme_designator="UCUM", meaning="no units")
