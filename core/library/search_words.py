"""The words under which a study is found, free of the patient's identity.

They stand in the index in plain text (on SQLite below SQLCipher), so every word that also occurs in the patient's
name, ID, birth date or accession number, or in the physician's name, is left out, as is every word with five digits or
more: dates, telephone numbers and IDs of others. Such words are still found, through the vault.
"""

from __future__ import annotations

import re

from core.domain.person_name import folded, search_text
from core.domain.study import PatientIdentity, StudySummary

_DIGITS = re.compile(r"\d")
_PARTS = re.compile(r"[\W_]+")
_MOST_DIGITS = 4
_LEAST_PART = 3
_LEAST_PART_EAST_ASIAN = 2


def search_words(study: StudySummary, identity: PatientIdentity) -> str:
    """Return the folded words of a study and its series, sorted and parted by spaces.

    Pseudonym, month, reading status and tags are there as they are; modality, body part and descriptions are cleaned.
    """
    ours = (study.pseudonym, study.study_date, study.status, *study.tags)
    theirs = [study.description]
    for series in study.series:
        theirs += (series.modality, series.body_part, series.description, series.view, series.dimension)
    words = {word for text in ours for word in folded(text).split()}
    words |= cleaned({word for text in theirs for word in folded(text).split()}, identity)
    return " ".join(sorted(words))


def cleaned(words: set[str], identity: PatientIdentity) -> set[str]:
    """Return those of the folded words that hold nothing of an identity."""
    parts = identity_parts(identity)
    return {word for word in words if not holds_identity(word, parts)}


def identity_parts(identity: PatientIdentity) -> frozenset[str]:
    """Return the folded pieces of names, IDs and birth date, in every spelling that a search knows."""
    texts = [
        search_text(identity.patient_name),
        search_text(identity.referring_physician),
        folded(identity.patient_id),
        folded(identity.accession_number),
        folded(identity.birth_date),
    ]
    pieces = {piece for text in texts for piece in text.split()}
    pieces |= {part for piece in pieces for part in _PARTS.split(piece) if part}
    return frozenset(pieces)


def holds_identity(word: str, parts: frozenset[str]) -> bool:
    """Whether a folded word has too many digits, is a piece of the identity, holds one, or begins one."""
    if len(_DIGITS.findall(word)) > _MOST_DIGITS or word in parts:
        return True
    return any(
        (len(part) >= _least(part) and part in word) or (len(word) > _LEAST_PART and part.startswith(word))
        for part in parts
    )


def _least(part: str) -> int:
    return _LEAST_PART if part.isascii() else _LEAST_PART_EAST_ASIAN
