"""The factor of SUV by body weight: right, or refused with the name of what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from core.dicom.assemble import assemble_volume
from core.dicom.scan import scan_paths
from core.domain.volume import Volume
from tests.fakes.data import data_path
from tests.fakes.dicom_files import write_stack

DOSE, HALF_LIFE, WEIGHT = 3.7e8, 6586.2, 70.0
VOXELS = np.full((3, 4, 5), 1000, np.int16)


def drug(**changes: object) -> Sequence:
    item = Dataset()
    values = {
        "RadiopharmaceuticalStartTime": "090000",
        "RadionuclideTotalDose": DOSE,
        "RadionuclideHalfLife": HALF_LIFE,
        **changes,
    }
    for keyword, value in values.items():
        if value is not None:
            setattr(item, keyword, value)
    return Sequence([item])


def load(folder: Path, **changes: object) -> Volume:
    given: dict[str, object] = {
        "Units": "BQML",
        "DecayCorrection": "START",
        "CorrectedImage": ["ATTN", "DECY"],
        "PatientWeight": WEIGHT,
        "SeriesDate": "20240102",
        "SeriesTime": "100000",
        "AcquisitionDate": "20240102",
        "AcquisitionTime": "100500",
        "RadiopharmaceuticalInformationSequence": drug(),
        **changes,
    }
    write_stack(folder, VOXELS, modality="PT", intercept=0.0, **given)
    (series,) = scan_paths([folder]).series
    volume = assemble_volume(series.instances, series.summary)
    assert {"pet.no_suv"} & {i.code for i in series.summary.issues} == (
        {"pet.no_suv"} if volume.suvbw_factor is None else set()
    )
    return volume


def factor(elapsed_s: float) -> float:
    return WEIGHT * 1000 / (DOSE * 2 ** (-elapsed_s / HALF_LIFE))


def test_decay_to_the_start_of_the_series(tmp_path: Path) -> None:
    assert load(tmp_path).suvbw_factor == pytest.approx(factor(3600), rel=1e-9)


def test_decay_to_the_injection_needs_no_times(tmp_path: Path) -> None:
    given = {"RadiopharmaceuticalInformationSequence": drug(RadiopharmaceuticalStartTime=None)}
    assert load(tmp_path, DecayCorrection="ADMIN", **given).suvbw_factor == pytest.approx(factor(0), rel=1e-9)


def test_an_injection_before_midnight(tmp_path: Path) -> None:
    given = {"RadiopharmaceuticalInformationSequence": drug(RadiopharmaceuticalStartTime="233000")}
    volume = load(tmp_path, SeriesTime="003000", AcquisitionTime="003100", **given)
    assert volume.suvbw_factor == pytest.approx(factor(3600), rel=1e-9)


def test_a_stated_date_of_injection_wins(tmp_path: Path) -> None:
    given = {
        "RadiopharmaceuticalInformationSequence": drug(
            RadiopharmaceuticalStartTime="010000", RadiopharmaceuticalStartDateTime="20240102093000.00"
        )
    }
    assert load(tmp_path, **given).suvbw_factor == pytest.approx(factor(1800), rel=1e-9)


def test_a_series_made_later_goes_back_to_the_acquisition(tmp_path: Path) -> None:
    given = {"SeriesTime": "150000", "FrameReferenceTime": 60000.0, "ActualFrameDuration": 120000}
    got = load(tmp_path, **given).suvbw_factor
    # the mean count rate of a frame of 120 s lies just before its middle
    assert got == pytest.approx(factor(3900 - 60 + 60), rel=1e-4)


def test_uncorrected_values_of_one_moment(tmp_path: Path) -> None:
    volume = load(tmp_path, DecayCorrection="NONE", ActualFrameDuration=0)
    assert volume.suvbw_factor == pytest.approx(factor(3900), rel=1e-9)


def test_values_that_are_suv_already(tmp_path: Path) -> None:
    assert load(tmp_path, Units="GML").suvbw_factor == 1.0


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"PatientWeight": None}, "(0010,1030) is missing"),
        ({"PatientWeight": 0}, "(0010,1030) isn't plausible"),
        ({"RadiopharmaceuticalInformationSequence": None}, "(0054,0016) is missing"),
        ({"RadiopharmaceuticalInformationSequence": drug(RadionuclideTotalDose=None)}, "(0018,1074) is missing"),
        ({"RadiopharmaceuticalInformationSequence": drug(RadionuclideTotalDose=370)}, "(0018,1074) isn't plausible"),
        ({"RadiopharmaceuticalInformationSequence": drug(RadionuclideHalfLife=None)}, "(0018,1075) is missing"),
        ({"RadiopharmaceuticalInformationSequence": drug(RadiopharmaceuticalStartTime=None)}, "(0018,1072) is missing"),
        ({"DecayCorrection": None}, "(0054,1102) is missing"),
        ({"CorrectedImage": ["DECY"]}, "(0028,0051)"),
        ({"SeriesTime": None}, "(0008,0031) is missing"),
        ({"SeriesTime": "150000"}, "(0054,1300) is missing"),
        ({"Units": None}, "(0054,1001) is missing"),
        ({"Units": "PROPCPS"}, "(0054,1001) is PROPCPS"),
        ({"Units": "CNTS"}, "(7053,1000)"),
        ({"Units": "GML", "SUVType": "LBM"}, "(0054,1006)"),
        ({"DecayCorrection": "NONE", "AcquisitionTime": lambda k: f"1005{k:02d}"}, "(0054,1102) is NONE"),
    ],
)  # fmt: skip
def test_what_is_missing_is_named(tmp_path: Path, changes: dict, named: str) -> None:
    volume = load(tmp_path, **changes)
    assert volume.suvbw_factor is None
    (issue,) = [i for i in volume.issues if i.code == "pet.no_suv"]
    assert named in issue.message
    assert not issue.blocks_volumetry


@pytest.mark.parametrize(
    ("element", "value", "expected"),
    [(0x00, "0.0004", 0.0004), (0x09, "2.5", 2.5 * factor(3600))],
)
def test_counts_with_a_private_factor(tmp_path: Path, element: int, value: str, expected: float) -> None:
    import pydicom

    for path in write_stack(
        tmp_path, VOXELS, modality="PT", intercept=0.0, Units="CNTS", DecayCorrection="START", PatientWeight=WEIGHT,
        CorrectedImage=["ATTN"], SeriesDate="20240102", SeriesTime="100000",
        RadiopharmaceuticalInformationSequence=drug(),
    ):  # fmt: skip
        data = pydicom.dcmread(path)
        data.private_block(0x7053, "Philips PET Private Group", create=True).add_new(element, "DS", value)
        data.save_as(path)
    (series,) = scan_paths([tmp_path]).series
    volume = assemble_volume(series.instances, series.summary)
    assert volume.suvbw_factor == pytest.approx(expected, rel=1e-9)


def test_the_real_tumour() -> None:
    found = scan_paths([data_path("large/dicom/pt-headneck-qin0024")]).series
    series = next(s for s in found if s.summary.modality == "PT")
    volume = assemble_volume(series.instances, series.summary)
    assert volume.suvbw_factor == pytest.approx(2.9448e-4, abs=1e-8)
    assert 24477 * (volume.suvbw_factor or 0) == pytest.approx(7.21, abs=0.005)


def test_times_of_day() -> None:
    from core.dicom.repeats import clock_seconds

    read: Callable[[str], float | None] = clock_seconds
    assert [read(t) for t in ("10", "1005", "100530", "100530.25", "10:05:30")] == [
        36000,
        36300,
        36330,
        36330.25,
        36330,
    ]
    assert [read(t) for t in ("", "x", "1", "250000", "106100", "100530.x")] == [None] * 6
