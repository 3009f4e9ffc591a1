"""However files are found, the same series come out of them: stacks, time points, mosaics, splits."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.dicom.header import Header
from core.dicom.reading import read_header
from core.dicom.series import build_series
from core.domain.study import ScannedSeries
from tests.fakes.dicom_files import UID_ROOT, axial_geometry, write_stack

SHAPE = (4, 3, 5)
VOXELS = np.arange(60, dtype=np.int16).reshape(SHAPE)
GRID = axial_geometry(SHAPE)


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> list[Header]:
    """Return two echoes of three time points, a time point that was cut short, and a localizer."""
    folder = tmp_path_factory.mktemp("order")
    files: list[Path] = []
    for echo in (1, 2):
        for time in range(3):
            files += write_stack(
                folder, VOXELS + 10 * time, GRID, modality="MR", name=f"e{echo}t{time}_", EchoTime=echo * 10,
                SOPInstanceUID=lambda k, e=echo, t=time: f"{UID_ROOT}.91.{e}.{t}.{k + 1}",
                InstanceNumber=lambda k, e=echo, t=time: 100 * e + 4 * t + k + 1,
            )  # fmt: skip
    files.pop(-2).unlink()
    files += write_stack(folder, VOXELS[:1], GRID, modality="MR", name="loc", SOPInstanceUID=f"{UID_ROOT}.92",
                         InstanceNumber=99, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])  # fmt: skip
    return [read_header(path) for path in files]


def told(series: list[ScannedSeries]) -> list[tuple]:
    return [(s.summary, tuple(ref.sop_instance_uid for ref in s.instances)) for s in series]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_the_order_of_files_does_not_matter(headers: list[Header], seed: int) -> None:
    shuffled = list(headers)
    random.Random(seed).shuffle(shuffled)
    expected, skipped = build_series(headers)
    found, others = build_series(shuffled)
    assert told(found) == told(expected)
    assert skipped == others
    assert [s.summary.time_points for s in expected] == [3, 2, 1, 1]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(chosen=st.sets(st.integers(0, 23), min_size=1))
def test_every_file_is_in_one_series_or_refused(headers: list[Header], chosen: set[int]) -> None:
    some = [headers[n] for n in sorted(chosen)]
    found, skipped = build_series(some)
    placed = [ref.file for s in found for ref in s.instances] + [Path(s.file) for s in skipped]
    assert sorted(placed) == sorted(h.file for h in some)
    for series in found:
        summary = series.summary
        assert len(series.instances) == summary.instances
        assert summary.instances == summary.time_points * (summary.shape_kji or (1,))[0]
