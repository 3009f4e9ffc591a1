"""Invented reports of chest radiographs, as short as radiologists write them, with negations.

The same words stand in reports with and without a consolidation (“no focal consolidation”, “consolidation has
resolved”), so that single words don't tell which it is. All sentences were written for this program.
"""

from __future__ import annotations

import numpy as np

_INDICATIONS = (
    "Cough and fever.",
    "Fever.",
    "Shortness of breath.",
    "Chest pain.",
    "Follow-up.",
    "Cough for one week, question of pneumonia.",
    "Rule out consolidation.",
    "Preoperative examination.",
)
_TECHNIQUE = ("Single frontal view.", "Frontal view, supine.", "Frontal view in good inspiration.", "")
_HEART = (
    "The heart is of normal size.",
    "Heart size is normal.",
    "The cardiac silhouette is mildly enlarged.",
    "No cardiomegaly.",
    "Mediastinal contours are unremarkable.",
    "",
)
_REST = (
    "No pleural effusion.",
    "No pneumothorax.",
    "No acute bony abnormality.",
    "A central venous line ends in the superior vena cava.",
    "No pleural effusion or pneumothorax.",
    "The costophrenic angles are sharp.",
    "",
)
_PRESENT = (
    "There is a focal consolidation in the {side} {zone} zone.",
    "New airspace opacity in the {side} {zone} lung.",
    "Patchy consolidation projecting over the {side} {zone} zone, not seen before.",
    "Increased opacity in the {side} {zone} zone with air bronchograms.",
    "The {side} {zone} zone is not clear: consolidation persists.",
    "The previously described {side} {zone} opacity has not resolved.",
)
_ABSENT = (
    "No focal consolidation.",
    "Both lungs are clear, without airspace opacity.",
    "No consolidation in the {side} {zone} zone or elsewhere.",
    "The previously described {side} {zone} opacity has resolved.",
    "No new airspace opacity; no air bronchograms.",
    "The {side} {zone} zone is clear: consolidation has resolved.",
)
_SUSPECTED = ("Findings consistent with pneumonia.", "Pneumonia is likely.", "Suspected pneumonia.", "")
_EXCLUDED = ("No evidence of pneumonia.", "Pneumonia is unlikely.", "No pneumonia.", "")
SIDES, ZONES = ("right", "left"), ("upper", "middle", "lower")


def chest_report(rng: np.random.Generator, consolidation: bool, side: str = "", zone: str = "") -> str:
    """Return a report that tells of a consolidation, or of none.

    Parameters
    ----------
    side, zone : str
        Where it is; drawn where empty.
    """

    def one(sentences: tuple[str, ...]) -> str:
        return sentences[int(rng.integers(len(sentences)))]

    place = {"side": side or one(SIDES), "zone": zone or one(ZONES)}
    lungs = one(_PRESENT if consolidation else _ABSENT).format(**place)
    findings = [one(_HEART), lungs, one(_REST)]
    order = rng.permutation(len(findings))
    body = [findings[n] for n in order]
    impression = one(_SUSPECTED if consolidation else _EXCLUDED)
    sentences = [f"Indication: {one(_INDICATIONS)}", one(_TECHNIQUE), *body, impression]
    return " ".join(sentence for sentence in sentences if sentence)
