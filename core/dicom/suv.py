"""From activity to standardised uptake: the factor for SUV by body weight.

Source: QIBA, "SUV calculation", vendor-neutral pseudo-code (2012); DICOM PS3.3 C.8.9.1, C.8.9.2, C.8.9.4.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from core.dicom.elements import Elements, tag_name
from core.dicom.header import Header
from core.dicom.part10 import parse_file
from core.dicom.repeats import clock_seconds
from core.domain.volume import SeriesIssue

SUV_TAGS = frozenset(
    {
        0x00080021, 0x00080022, 0x00080031, 0x00080032, 0x00101030, 0x00181242, 0x00280051, 0x00540016, 0x00541001,
        0x00541006, 0x00541102, 0x00541300, 0x70530010, 0x70531000, 0x70531009,
    }
)  # fmt: skip
_WEIGHT, _CORRECTED, _DRUG, _UNITS, _SUV_TYPE, _DECAY = (
    0x00101030, 0x00280051, 0x00540016, 0x00541001, 0x00541006, 0x00541102,
)  # fmt: skip
_DOSE, _HALF_LIFE, _START, _START_DATE_TIME = 0x00181074, 0x00181075, 0x00181072, 0x00181078
_NAMES = {
    _WEIGHT: "Patient's Weight",
    _CORRECTED: "Corrected Image",
    _DRUG: "Radiopharmaceutical Information Sequence",
    _UNITS: "Units",
    _DECAY: "Decay Correction",
    _DOSE: "Radionuclide Total Dose",
    _HALF_LIFE: "Radionuclide Half Life",
    _START: "Radiopharmaceutical Start Time",
    0x00080031: "Series Time",
    0x00080032: "Acquisition Time",
}
_PLAUSIBLE_KG = (0.2, 700.0)
_PLAUSIBLE_BQ = (1e4, 1e11)
_PLAUSIBLE_S = (1.0, 1e7)
_LATEST_H = 24.0


@dataclass(frozen=True)
class SuvFactor:
    """``value`` multiplies a voxel to give SUVbw in g/ml; None when ``issue`` says what is missing."""

    value: float | None
    issue: SeriesIssue | None = None


class _Missing(Exception):
    pass


def suv_factor(headers: Sequence[Header]) -> SuvFactor:
    """Return the factor of a PET series; one of its files is read again for what it needs.

    Raises
    ------
    InputError
        If that file is damaged; OSError if it cannot be read.
    """
    first = min(
        headers, key=lambda h: (_acquired(h.elements) or datetime.max.replace(tzinfo=UTC), str(h.file))
    )
    elements = parse_file(first.file, SUV_TAGS).elements
    times = {h.elements.text(0x00080032) for h in headers}
    try:
        return SuvFactor(_factor(elements, len(times) == 1))
    except _Missing as missing:
        issue = SeriesIssue("pet.no_suv", f"SUV cannot be computed: {missing}.")
        return SuvFactor(None, issue)


def _factor(e: Elements, at_once: bool) -> float:
    units = e.text(_UNITS).upper()
    if units == "GML":
        kind = e.text(_SUV_TYPE).upper()
        if kind not in ("", "BW"):
            raise _Missing(f"the values are SUV of type {kind[:8]} (0054,1006), not by body weight")
        return 1.0
    if units == "CNTS":
        return _philips(e, at_once)
    if units != "BQML":
        raise _Missing(f"Units {tag_name(_UNITS)} is {units[:8] or 'missing'}, not BQML, CNTS or GML")
    return _of_activity(e, at_once)


def _philips(e: Elements, at_once: bool) -> float:
    """Counts of Philips scanners come with a private factor: to SUV, or to Bq/ml."""
    if e.text(0x70530010).upper() == "PHILIPS PET PRIVATE GROUP":
        direct, activity = e.number(0x70531000), e.number(0x70531009)
        if direct is not None and math.isfinite(direct) and direct > 0:
            return direct
        if activity is not None and math.isfinite(activity) and activity > 0:
            return activity * _of_activity(e, at_once)
    raise _Missing(
        "Units (0054,1001) is CNTS, and the private factors (7053,1000) and (7053,1009) are missing"
    )


def _of_activity(e: Elements, at_once: bool) -> float:
    """Return the factor for values in Bq/ml."""
    weight_kg = _number(e, _WEIGHT, _PLAUSIBLE_KG)
    if "ATTN" not in e.texts(_CORRECTED):
        raise _Missing(f"{_named(_CORRECTED)} doesn't say that attenuation was corrected (ATTN)")
    drugs = e.items(_DRUG)
    if not drugs:
        raise _Missing(f"{_named(_DRUG)} is missing")
    dose_bq = _number(drugs[0], _DOSE, _PLAUSIBLE_BQ)
    decay = e.text(_DECAY).upper()
    if decay == "ADMIN":
        return weight_kg * 1000.0 / dose_bq
    if decay not in ("START", "NONE"):
        raise _Missing(f"{_named(_DECAY)} is {decay[:8] or 'missing'}, not START, ADMIN or NONE")
    half_life_s = _number(drugs[0], _HALF_LIFE, _PLAUSIBLE_S)
    reference = (
        _scan_start(e, half_life_s) if decay == "START" else _uncorrected_time(e, half_life_s, at_once)
    )
    elapsed_s = _elapsed(_injected(drugs[0], reference), reference)
    return weight_kg * 1000.0 / (dose_bq * 2.0 ** (-elapsed_s / half_life_s))


def _scan_start(e: Elements, half_life_s: float) -> datetime:
    """Return the time to which decay was corrected: that of the series unless that lies after the acquisition."""
    series, acquired = _moment(e, 0x00080021, 0x00080031), _acquired(e)
    if series is None:
        raise _Missing(f"{_named(0x00080031)} is missing")
    if acquired is None or series <= acquired:
        return series
    # A series made later from the same data: go back from the acquisition of the first frame.
    frame_ms = e.number(0x00541300)
    if frame_ms is None:
        raise _Missing(
            "Series Time (0008,0031) lies after the acquisition and Frame Reference Time (0054,1300) is missing"
        )
    return acquired - timedelta(milliseconds=frame_ms) + timedelta(seconds=_mean_count_s(e, half_life_s))


def _uncorrected_time(e: Elements, half_life_s: float, at_once: bool) -> datetime:
    if not at_once:
        raise _Missing(
            f"{_named(_DECAY)} is NONE and the slices were acquired at different times, so there is no one factor"
        )
    acquired = _acquired(e)
    if acquired is None:
        raise _Missing(f"{_named(0x00080032)} is missing")
    return acquired + timedelta(seconds=_mean_count_s(e, half_life_s))


def _mean_count_s(e: Elements, half_life_s: float) -> float:
    """Return when within a frame the mean count rate occurs."""
    duration_s = (e.number(0x00181242) or 0.0) / 1000.0
    decayed = math.log(2.0) / half_life_s * duration_s
    if not 1e-9 < decayed < 100.0:
        return 0.0
    return half_life_s / math.log(2.0) * math.log(decayed / (1.0 - math.exp(-decayed)))


def _injected(drug: Elements, reference: datetime) -> datetime:
    """Return the time of injection: with its date where it is stated, else the last such time before the scan."""
    text = drug.text(_START_DATE_TIME)
    if len(text) >= 12 and (stated := _date_time(text[:8], text[8:].split("+")[0].split("-")[0])) is not None:
        return stated
    seconds = clock_seconds(drug.text(_START))
    if seconds is None:
        raise _Missing(f"{_named(_START)} is missing")
    day = reference.replace(hour=0, minute=0, second=0, microsecond=0)
    injected = day + timedelta(seconds=seconds)
    return injected if injected <= reference else injected - timedelta(days=1)


def _elapsed(injected: datetime, reference: datetime) -> float:
    elapsed_s = (reference - injected).total_seconds()
    if not 0.0 <= elapsed_s <= _LATEST_H * 3600.0:
        raise _Missing(f"{_named(_START)} doesn't lie within {_LATEST_H:g} hours before the scan")
    return elapsed_s


def _acquired(e: Elements) -> datetime | None:
    return _moment(e, 0x00080022, 0x00080032)


def _moment(e: Elements, date: int, time: int) -> datetime | None:
    return _date_time(e.text(date) or e.text(0x00080021), e.text(time))


def _date_time(date: str, time: str) -> datetime | None:
    seconds = clock_seconds(time)
    if seconds is None:
        return None
    try:
        day = datetime.strptime(date[:8], "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return day + timedelta(seconds=seconds)


def _number(e: Elements, tag: int, plausible: tuple[float, float]) -> float:
    value = e.number(tag)
    if value is None:
        raise _Missing(f"{_named(tag)} is missing")
    if not plausible[0] <= value <= plausible[1]:
        raise _Missing(f"{_named(tag)} isn't plausible")
    return value


def _named(tag: int) -> str:
    return f"{_NAMES[tag]} {tag_name(tag)}"
