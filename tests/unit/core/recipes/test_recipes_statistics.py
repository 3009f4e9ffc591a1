"""Statistics of the training part are numpy's, stream, and belong to their data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.domain.errors import InputError, SafetyError
from core.recipes.cases import Case
from core.recipes.fingerprint import fingerprint
from core.recipes.statistics import (
    Running,
    Statistics,
    read_statistics,
    save_statistics,
    training_statistics,
    verify_statistics,
)
from tests.fakes.recipes import noise, save_picture


def of(*arrays: np.ndarray) -> Running:
    running = Running()
    for array in arrays:
        running.add(array)
    return running


def test_streaming_gives_the_moments_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    # a large mean beside a small deviation: what a sum of squares would lose
    arrays = [1e6 + rng.normal(size=rng.integers(1, 9000)) for _ in range(40)]
    whole, found = np.concatenate(arrays), of(*arrays).result()
    assert found.count == whole.size
    assert found.mean == pytest.approx(whole.mean(), rel=1e-12)
    assert found.std == pytest.approx(whole.std(), rel=1e-9)
    assert (found.minimum, found.maximum) == (whole.min(), whole.max())


def test_percentiles_are_within_a_twentieth_of_a_percent_of_rank() -> None:
    rng = np.random.default_rng(1)
    arrays = [rng.gamma(2.0, 40.0 + n, size=int(rng.integers(100, 30_000))) for n in range(300)]
    whole, found = np.sort(np.concatenate(arrays)), of(*arrays).result()
    for name, value in found.percentiles.items():
        rank = np.searchsorted(whole, value) / whole.size
        assert rank == pytest.approx(float(name) / 100, abs=5e-4)


def test_nonzero_voxels_are_described_apart() -> None:
    values = np.array([0, 0, 0, 4, 6, 8], dtype=np.int16)
    found = of(values[:4], values[4:]).result()
    assert (found.nonzero_share, found.nonzero_mean) == (0.5, 6.0)
    assert found.nonzero_std == pytest.approx(np.std([4, 6, 8]))


def test_the_order_of_the_arrays_does_not_matter() -> None:
    rng = np.random.default_rng(2)
    arrays = [rng.normal(size=500) for _ in range(10)]
    first, second = of(*arrays).result(), of(*arrays[::-1]).result()
    assert first.mean == pytest.approx(second.mean, rel=1e-12)
    assert first.percentiles == pytest.approx(second.percentiles)


def test_values_that_are_no_numbers_are_refused_naming_the_case() -> None:
    with pytest.raises(InputError, match="Case “c1”, image: Some voxels are not numbers") as raised:
        training_statistics("r", [Case("c1", "p")], ["image"], lambda _: {"image": np.array([1.0, np.nan])})
    assert raised.value.code == "data.not_finite"
    with pytest.raises(InputError):
        Running().result()


def pictures(folder: Path, count: int = 4) -> list[Case]:
    return [
        Case(f"c{n}", f"p{n}", images={"image": (save_picture(folder / f"{n}.png", noise(n)),)})
        for n in range(count)
    ]


def statistics_of(cases: list[Case], scale: float = 1.0) -> Statistics:
    return training_statistics(
        "tiny", cases, ["image"], lambda case: {"image": noise(int(case.id[1:])).astype(float) * scale}
    )


def test_saved_statistics_are_read_back_and_verified_against_the_files(tmp_path: Path) -> None:
    cases = pictures(tmp_path)
    statistics = statistics_of(cases)
    save_statistics(tmp_path / "statistics.json", statistics)
    back = read_statistics(tmp_path / "statistics.json")
    assert back == statistics
    verify_statistics(back, list(reversed(cases)))


def test_statistics_of_other_cases_or_changed_files_are_refused(tmp_path: Path) -> None:
    cases = pictures(tmp_path)
    statistics = statistics_of(cases)
    with pytest.raises(SafetyError, match="4 training cases; the data has 3"):
        verify_statistics(statistics, cases[:3])
    save_picture(tmp_path / "2.png", noise(99))
    with pytest.raises(SafetyError, match="other files"):
        verify_statistics(statistics, cases)


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"recipe": 1, "cases": 2, "fingerprint": "x", "channels": 3}']
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(InputError) as raised:
        read_statistics(tmp_path / "s.json")
    assert raised.value.code == "statistics.damaged"
    with pytest.raises(InputError, match=r"no “absent\.json”"):
        read_statistics(tmp_path / "absent.json")


def test_extreme_ranges_are_warned_of_and_usual_ones_not() -> None:
    rng = np.random.default_rng(0)
    spiky = np.concatenate([rng.normal(size=10_000), [500.0]])
    cases = [Case("c0", "p0")]

    def warnings(values: np.ndarray) -> list[str]:
        return training_statistics("r", cases, ["t1"], lambda _: {"t1": values}).warnings()

    assert warnings(rng.normal(size=1000)) == []
    assert "beyond ±10" in warnings(spiky)[0]
    assert "all values are 7" in warnings(np.full(9, 7.0))[0]


def test_constants_are_python() -> None:
    names: dict[str, tuple[float, ...]] = {}
    statistics = statistics_of([Case("c0", "p0")])
    exec(statistics.constants(), {}, names)
    assert names["MEAN"] == pytest.approx((noise(0).mean(),), rel=1e-5)
    assert names["STD"] == pytest.approx((noise(0).std(),), rel=1e-5)


def test_the_fingerprint_depends_on_contents_and_labels_not_on_order_or_place(tmp_path: Path) -> None:
    cases = pictures(tmp_path / "one")
    moved = pictures(tmp_path / "two")
    assert fingerprint(cases) == fingerprint(moved[::-1])
    assert fingerprint(cases) != fingerprint([replace(cases[0], label=3), *cases[1:]])
    assert fingerprint(cases) != fingerprint(cases[1:])
    save_picture(tmp_path / "two" / "0.png", noise(77))
    assert fingerprint(cases) != fingerprint(moved)
