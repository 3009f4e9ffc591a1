"""Invented reports: as true as they are asked to be, the same each time, and not told by single words."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline

from core.domain.errors import InputError
from core.phantom.chest_reports import chest_report
from core.phantom.schematic_cxr import draw_cxr
from core.recipes.cases import Part
from core.recipes.reading import read_case
from core.recipes.schema import Data
from core.recipes.sources.registry import list_cases


def data(**settings: Any) -> Data:
    shape = {"count": 300, "held_out": 150, "size": 24}
    return Data.model_validate(
        {
            "source": {"name": "synthetic_reports", "radiographs": shape, **settings},
            "split": {"method": "given"},
        }
    )


def reader_of(reports: list[str], labels: NDArray[np.int64]) -> Pipeline:
    """A reader of runs of up to three words."""
    return make_pipeline(CountVectorizer(ngram_range=(1, 3)), LogisticRegression(max_iter=500)).fit(
        reports, labels
    )


def test_the_reports_are_as_true_as_asked() -> None:
    rng = np.random.default_rng(0)
    findings = np.arange(400) % 2
    reader = reader_of([chest_report(rng, bool(finding)) for finding in findings], findings)
    for informative in (1.0, 0.5, 0.0):
        cases = list_cases(data(informative=informative).source, None)
        said = reader.predict([case.text or "" for case in cases])
        agreed = float((said == np.array([case.label for case in cases])).mean())
        # What isn't the truth is drawn by lot, which is right every second time.
        assert agreed == pytest.approx(informative + (1 - informative) / 2, abs=0.05)


def test_words_of_a_finding_stand_in_reports_without_it_too() -> None:
    rng = np.random.default_rng(0)
    present, absent = ([chest_report(rng, finding) for _ in range(200)] for finding in (True, False))
    for word in ("consolidation", "opacity", "resolved", "clear", "zone", "pneumonia", "no"):
        for reports in (present, absent):
            assert any(re.search(rf"\b{word}\b", report.lower()) for report in reports), word


def test_a_case_is_the_same_each_time_and_another_seed_gives_others() -> None:
    first, again, other = (list_cases(data(seed=seed).source, None) for seed in (1, 1, 2))
    assert [case.text for case in first] == [case.text for case in again]
    assert [case.text for case in first] != [case.text for case in other]
    one, two = (read_case(cases[5], data()).volumes["image"].voxels for cases in (first, again))
    assert np.array_equal(one, two)
    assert {case.label for case in first} == {0, 1}
    assert sum(case.part is Part.TEST for case in first) == 150


def test_the_asked_share_has_no_report() -> None:
    cases = list_cases(data(missing=0.3).source, None)
    assert sum(case.text is None for case in cases) / len(cases) == pytest.approx(0.3, abs=0.06)
    assert "text" not in repr(cases[0])


def test_a_drawn_consolidation_lies_where_it_is_said_to_be() -> None:
    for seed in range(20):
        without = draw_cxr((seed,), consolidation=False, size=48, contrast=0.4)
        with_one = draw_cxr((seed,), consolidation=True, size=48, contrast=0.4)
        assert (without.side, without.zone) == ("", "")
        assert with_one.side in ("right", "left")
        assert with_one.zone in ("upper", "middle", "lower")
        assert with_one.pixels.shape == (48, 48)


def test_an_archive_of_other_classes_is_refused(tmp_path: Any) -> None:
    arrays = {
        f"{p}_images": np.arange(2 * 16, dtype=np.uint8).reshape(2, 4, 4) for p in ("train", "val", "test")
    }
    arrays |= {f"{p}_labels": np.array([0, 2], np.uint8) for p in ("train", "val", "test")}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match="class 2"):
        list_cases(data(pictures={"name": "npz_arrays", "repeats": "keep"}).source, tmp_path)
