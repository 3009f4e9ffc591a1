"""The words of the screens: names, dates, sizes, probabilities. One place, so that they stay the same."""

from __future__ import annotations

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


def date_in_words(value: str) -> str:
    """Return ``YYYYMMDD`` or ``YYYY-MM…`` as ``YYYY-MM-DD`` or as far as it goes."""
    digits = value.replace("-", "")
    if not digits.isdigit() or len(digits) not in (4, 6, 8):
        return ""
    return "-".join(part for part in (digits[:4], digits[4:6], digits[6:8]) if part)


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


def number_in_words(value: float) -> str:
    """Return a number with four significant digits and a true minus sign; very large and small ones as powers."""
    text = f"{value:.0f}" if 1e4 <= abs(value) < 1e7 else f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


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
