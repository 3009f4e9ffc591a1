"""The words of the screens: names, dates, sizes, probabilities. One place, so that they stay the same."""

from __future__ import annotations

import unicodedata

from core.domain.result import Finding
from core.domain.study import SeriesSummary

_LIKELY = (
    (0.95, "almost certain"),
    (0.80, "very likely"),
    (0.60, "likely"),
    (0.40, "uncertain"),
    (0.20, "unlikely"),
    (0.0, "very unlikely"),
)


def name_in_words(patient_name: str) -> str:
    """Return a DICOM person name for display: ``"Doe^John^^Dr"`` → ``"Doe, John"``.

    The ideographic group is preferred where there is one and the alphabetic group follows in brackets.
    Source: DICOM PS3.5 6.2.1.
    """
    groups = [_group_in_words(group) for group in patient_name.split("=")]
    alphabetic = groups[0]
    ideographic = groups[1] if len(groups) > 1 else ""
    if ideographic and alphabetic:
        return f"{ideographic} ({alphabetic})"
    return ideographic or alphabetic


def _group_in_words(group: str) -> str:
    parts = [part.strip() for part in group.split("^")]
    given = " ".join(part for part in parts[1:3] if part)
    family = parts[0]
    return f"{family}, {given}" if family and given else family or given


def date_in_words(value: str) -> str:
    """Return ``YYYYMMDD`` or ``YYYY-MM…`` as ``YYYY-MM-DD`` or as far as it goes."""
    digits = value.replace("-", "")
    if not digits.isdigit() or len(digits) not in (4, 6, 8):
        return ""
    return "-".join(part for part in (digits[:4], digits[4:6], digits[6:8]) if part)


def folded(text: str) -> str:
    """Return ``text`` for comparison: without case, accents and the carets of person names."""
    plain = unicodedata.normalize("NFKD", text.casefold()).replace("^", " ")
    return "".join(c for c in plain if not unicodedata.combining(c))


def series_title(series: SeriesSummary) -> str:
    """Return number and description of a series."""
    name = series.description or series.body_part or series.modality or "Series"
    return f"{series.series_number} · {name}" if series.series_number is not None else name


def series_detail(series: SeriesSummary) -> str:
    """Return modality, number of pictures and slice distance of a series."""
    number = series.frames if series.frames > series.instances else series.instances
    unit = {"volume": "slices", "cine": "frames"}.get(str(series.kind), "image" if number == 1 else "images")
    parts = [series.modality or "OT", f"{number} {unit}"]
    if series.kind == "volume" and series.spacing_kji_mm is not None:
        parts.append(f"{series.spacing_kji_mm[0]:.3g} mm")
    return " · ".join(parts)


def probability_in_words(score: float) -> str:
    """Return a probability as words and number: ``"very likely, 0.86"``."""
    words = next(text for least, text in _LIKELY if score >= least)
    return f"{words}, {score:.2f}"


def volume_in_words(volume_ml: float) -> str:
    """Return a volume with a unit that suits it."""
    if volume_ml >= 1000:
        return f"{volume_ml / 1000:.2f} l"
    return f"{volume_ml:.1f} ml" if volume_ml >= 1 else f"{volume_ml:.2f} ml"


def mean_in_words(mean: float, units: str) -> str:
    """Return a mean value with its units, with a true minus sign."""
    return f"mean {mean:.0f} {units}".replace("-", "\N{MINUS SIGN}")


def finding_detail(finding: Finding, mean_hu: float | None = None) -> str:
    """Return size, mean (of CT, in Hounsfield units) and confidence of a finding."""
    parts = []
    if finding.diameter_mm is not None and finding.kind == "lesion":
        parts.append(f"{finding.diameter_mm:.1f} mm")
    if finding.volume_ml is not None:
        parts.append(volume_in_words(finding.volume_ml))
    if mean_hu is not None:
        parts.append(mean_in_words(mean_hu, "HU"))
    if finding.score is not None:
        parts.append(probability_in_words(finding.score))
    return " · ".join(parts)


def count_in_words(number: int, one: str, many: str) -> str:
    """Return ``"1 study"`` or ``"3 studies"``."""
    return f"{number} {one if number == 1 else many}"
