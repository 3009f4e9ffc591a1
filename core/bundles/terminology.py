"""SNOMED CT codes for structures by their usual English names, for models that come without codes.

Source: DICOM PS3.16 CID 7140 (brain structures) and CID 7150; codes as in pydicom's concept dictionary.
"""

from __future__ import annotations

from core.bundles.manifest import Code

_BY_NAME = {
    "brain": ("12738006", "Brain"),
    "brainmask": ("12738006", "Brain"),
    "whitematter": ("389080008", "White Matter"),
    "greymatter": ("389081007", "Gray Matter"),
    "graymatter": ("389081007", "Gray Matter"),
    "cerebralwhitematter": ("68523003", "Cerebral White Matter"),
    "cerebralcortex": ("40146001", "Cerebral cortex"),
    "lateralventricle": ("66720007", "Lateral Ventricle"),
    "inferiorlateralventricle": ("53118009", "Inferior Horn of Lateral Ventricle"),
    "cerebellumwhitematter": ("33060004", "Cerebellar White Matter"),
    "cerebellumcortex": ("25991003", "Cerebellar Cortex"),
    "cerebellum": ("113305005", "Cerebellum"),
    "thalamus": ("42695009", "Thalamus"),
    "caudate": ("11000004", "Caudate Nucleus"),
    "putamen": ("89278009", "Putamen"),
    "pallidum": ("14738005", "Globus Pallidus"),
    "3rdventricle": ("49841001", "Third Ventricle"),
    "4thventricle": ("35918002", "Fourth Ventricle"),
    "brainstem": ("119238007", "Brain Stem"),
    "hippocampus": ("5366008", "Hippocampus"),
    "amygdala": ("4958002", "Amygdala"),
    "accumbensarea": ("427667007", "Nucleus Accumbens"),
    "ventraldc": ("87563008", "Diencephalon"),
    "liver": ("10200004", "Liver"),
    "spleen": ("78961009", "Spleen"),
    "heart": ("80891009", "Heart"),
    "bone": ("272673000", "Bone"),
}


def code_for(name: str) -> Code | None:
    """Return the code of a structure, or None when the name isn't known."""
    plain = "".join(character for character in name.lower() if character.isalnum())
    known = _BY_NAME.get(plain)
    return None if known is None else Code(value=known[0], scheme="SCT", meaning=known[1])
