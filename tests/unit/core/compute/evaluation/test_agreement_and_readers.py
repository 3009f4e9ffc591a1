"""Agreement and reader studies against the papers' own examples, scikit-learn and torchmetrics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import cohen_kappa_score
from torchmetrics.nominal import FleissKappa

from core.compute.evaluation.agreement import (
    agreement,
    fleiss_kappa,
    intraclass_correlation,
    kappa_of_pair,
)
from core.compute.evaluation.ranking import area_under_roc
from core.compute.evaluation.reader_study import (
    Reading,
    jackknife_covariance,
    multi_reader,
    obuchowski_rockette,
    read_readings,
    reader_study,
    readings_of_verdicts,
    score_of_verdict,
)
from core.domain.errors import InputError
from core.domain.result import Decision, Verdict


def test_kappa_of_a_pair_equals_scikit_learn_and_has_an_interval() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 3, 120)
    b = np.where(rng.random(120) < 0.7, a, rng.integers(0, 3, 120))
    for weights in (None, "quadratic"):
        found = kappa_of_pair(a, b, 3, weights=weights, resamples=500)
        assert found.value == pytest.approx(cohen_kappa_score(a, b, weights=weights))
        assert found.low < found.value < found.high


def test_fleiss_kappa_has_the_value_of_the_worked_example() -> None:
    # Ten subjects, fourteen raters, five categories; kappa 0.210 (J. L. Fleiss 1971's scheme, well-known example).
    counts = [
        (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
        (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
    ]  # fmt: skip
    ratings = np.array([np.repeat(np.arange(5), row) for row in counts])
    assert fleiss_kappa(ratings, 5) == pytest.approx(0.210, abs=5e-4)
    theirs = FleissKappa(mode="counts")
    theirs.update(torch.tensor(counts))
    assert fleiss_kappa(ratings, 5) == pytest.approx(float(theirs.compute()), abs=1e-5)
    with pytest.raises(ValueError, match="two raters"):
        fleiss_kappa(ratings[:, :1], 5)


def test_the_intraclass_correlation_has_shrout_and_fleiss_value() -> None:
    # Table 2 of Shrout and Fleiss 1979: ICC(2,1) = 0.29.
    ratings = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])
    assert intraclass_correlation(ratings) == pytest.approx(0.29, abs=0.005)


def test_readers_are_compared_on_the_cases_they_share() -> None:
    readers = {"r1": {"1": "yes", "2": "no", "3": "yes"}, "r2": {"1": "yes", "2": "no", "4": "no"}}
    found = agreement(readers, {"1": "yes", "2": "yes", "3": "yes"})
    assert found.pairs["r1 and r2"].n == 2 and found.pairs["r1 and r2"].value == 1.0
    assert (found.n, found.fleiss) == (2, 1.0)
    assert found.with_model["r1"].n == 3 and found.with_model["r1"].value == pytest.approx(0.0)
    assert set(found.as_dict()) == {"pairs", "with_model", "fleiss_kappa", "n"}


# Van Dyke et al. 1993, 114 patients, five readers, spin echo against cine MR: the figures that the OR-DBM MRMC program
# and RJafroc print for trapezoidal areas with jackknife covariances.
VAN_DYKE = np.array(
    [
        [0.91964573, 0.85877617, 0.90386473, 0.97310789, 0.82979066],
        [0.94782609, 0.90531401, 0.92173913, 0.99935588, 0.92995169],
    ]
)
COMPONENTS = (0.00080228827, 0.00034661371, 0.00034407483, 0.00023902837)


def test_the_van_dyke_study_has_its_published_answer() -> None:
    found = obuchowski_rockette(VAN_DYKE, *COMPONENTS, cases=114)
    assert found.difference == pytest.approx(0.043800322, abs=1e-8)
    assert found.f == pytest.approx(4.4563187, rel=1e-5)
    assert found.df == pytest.approx(15.259675, rel=1e-5)
    assert found.p == pytest.approx(0.051665686, rel=1e-4)
    assert found.ci95 == pytest.approx((-0.00035885444, 0.087959499), abs=1e-6)


def small_study() -> tuple[np.ndarray, np.ndarray]:
    truth = np.array([1, 1, 1, 0, 0, 0], dtype=bool)
    without = [[3, 2, 5, 1, 2, 4], [4, 1, 4, 2, 1, 3]]
    helped = [[4, 3, 5, 1, 2, 2], [5, 4, 4, 2, 1, 3]]
    return truth, np.array([without, helped], dtype=float)


def test_the_areas_of_a_small_study_by_hand() -> None:
    truth, scores = small_study()
    found = multi_reader(truth, scores)
    # Reader 1 without: pairs 3>1,3>2,3<4 | 2>1,2=2,2<4 | 5,5,5 → (2 + 1.5 + 3) / 9; reader 2: (3 + 0.5 + 3) / 9.
    assert found.without == pytest.approx((6.5 / 9 + 6.5 / 9) / 2)
    assert found.with_ai == pytest.approx(1.0)
    assert found.difference == pytest.approx(2.5 / 9)


def test_the_jackknife_components_of_a_small_study_by_explicit_loops() -> None:
    truth, scores = small_study()
    n = len(truth)
    pseudo = np.zeros((2, 2, n))
    for i in range(2):
        for j in range(2):
            for k in range(n):
                keep = [c for c in range(n) if c != k]
                pseudo[i, j, k] = area_under_roc(scores[i, j, keep], truth[keep])
    centred = pseudo - pseudo.mean(axis=2, keepdims=True)

    def covariance(a: tuple[int, int], b: tuple[int, int]) -> float:
        return float((n - 1) / n * sum(centred[a][k] * centred[b][k] for k in range(n)))

    found = multi_reader(truth, scores)
    assert found.variance == pytest.approx(
        np.mean([covariance((i, j), (i, j)) for i in (0, 1) for j in (0, 1)])
    )
    assert found.cov1 == pytest.approx(np.mean([covariance((0, j), (1, j)) for j in (0, 1)]))
    assert found.cov2 == pytest.approx(np.mean([covariance((i, 0), (i, 1)) for i in (0, 1)]))
    assert found.cov3 == pytest.approx(np.mean([covariance((0, 0), (1, 1)), covariance((0, 1), (1, 0))]))
    matrix = jackknife_covariance(truth, scores, area_under_roc)
    assert matrix.shape == (4, 4) and matrix[0, 3] == pytest.approx(covariance((0, 0), (1, 1)))


def test_one_reader_has_a_normal_test_that_agrees_with_delong() -> None:
    from core.compute.evaluation.paired import delong

    rng = np.random.default_rng(1)
    truth = rng.random(80) < 0.5
    scores = truth + rng.normal(size=(2, 80)) * np.array([[1.2], [0.7]])
    found = multi_reader(truth, scores[:, None, :])
    theirs = delong(truth, scores[0], scores[1])
    assert found.difference == pytest.approx(theirs.difference)
    assert found.ci95 == pytest.approx(theirs.ci95, abs=0.01)
    assert np.isinf(found.df)


def test_false_alarms_of_the_multi_reader_test_stay_at_their_level() -> None:
    rng = np.random.default_rng(5)
    p = []
    for _ in range(60):
        truth = np.arange(40) < 20
        case = rng.normal(size=40)
        scores = truth + case + 0.3 * rng.normal(size=(1, 3, 1)) + rng.normal(size=(2, 3, 40))
        p.append(multi_reader(truth, scores).p)
    assert np.mean(np.array(p) < 0.05) <= stats.binom.ppf(0.999, 60, 0.05) / 60


def readings() -> list[Reading]:
    rng = np.random.default_rng(3)
    rows = []
    for case in range(40):
        truth = case < 20
        for reader in ("r1", "r2", "r3"):
            alone = float(np.clip(0.5 + (0.12 if truth else -0.12) + rng.normal(0, 0.25), 0, 1))
            helped = float(np.clip(0.5 + (0.35 if truth else -0.35) + rng.normal(0, 0.2), 0, 1))
            rows.append(Reading(reader, f"c{case}", truth, alone, helped, 30.0, 20.0))
    return rows


def test_a_reader_study_finds_the_gain_of_help() -> None:
    found = reader_study(readings())
    assert [c.metric for c in found.pooled] == ["sensitivity", "specificity"]
    assert all(c.difference > 0.1 and c.ci95[0] > 0 and c.n == 20 for c in found.pooled)
    assert found.auc is not None and found.auc.ci95[0] > 0 and found.auc.readers == 3
    assert found.seconds == (30.0, 20.0)
    assert [c.metric for c in found.per_reader["r1"]] == ["sensitivity", "specificity", "auc_roc"]
    assert set(found.as_dict()) >= {"per_reader", "pooled", "auc", "median_seconds"}


def test_cases_that_not_every_reader_read_are_said() -> None:
    found = reader_study(readings()[:-1])
    assert found.notes == ("1 cases were not read by every reader",)
    assert found.auc is not None and found.auc.cases == 39


def test_a_case_with_two_truths_is_refused() -> None:
    with pytest.raises(InputError, match="two truths"):
        reader_study([Reading("a", "1", True, 1, 1), Reading("b", "1", False, 1, 1)])
    with pytest.raises(InputError, match="no readings"):
        reader_study([])


def test_verdicts_become_scores() -> None:
    assert [score_of_verdict(v) for v in (Verdict.ACCEPT, Verdict.EDIT, Verdict.UNSURE, Verdict.REJECT)] == [
        1.0, 1.0, 0.5, 0.0,
    ]  # fmt: skip


def test_the_applications_verdicts_become_readings() -> None:
    def said(
        finding: str, verdict: Verdict, reader: str = "ab", result: str = "r1", hour: int = 8
    ) -> Decision:
        return Decision(f"{finding}{hour}", result, finding, verdict, reader, f"2026-01-01T{hour:02d}:00:00Z")

    decisions = [
        said("f1", Verdict.ACCEPT, hour=9),
        said("f1", Verdict.REJECT, hour=10),
        said("f2", Verdict.UNSURE),
        said("f1", Verdict.EDIT, result="r2"),
        said("f1", Verdict.ACCEPT, reader="cd"),
        said("f1", Verdict.ACCEPT, result="unknown"),
    ]
    unaided = {("ab", "c1"): 0.2, ("ab", "c2"): 0.7}
    rows, left_out = readings_of_verdicts(
        decisions, {"r1": "c1", "r2": "c2"}, unaided, {"c1": False, "c2": True}
    )
    # The last verdict on f1 rejects it, f2 stays unsure; reader cd read nothing without the model.
    assert rows == [Reading("ab", "c1", False, 0.2, 0.5), Reading("ab", "c2", True, 0.7, 1.0)]
    assert left_out == 1


def test_readings_are_read_from_a_table_and_a_wrong_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "study.csv"
    file.write_text("reader,case,truth,without,with,seconds_without\nr1,c1,1,0.4,0.9,12\n")
    assert read_readings(file) == [Reading("r1", "c1", True, 0.4, 0.9, 12.0)]
    file.write_text("reader,case,truth,without,with\nr1,c1,1,0.4,0.9\nr1,c2,0,1.4,0\n")
    with pytest.raises(InputError, match="Line 3 of the reader study has no number from 0 to 1 in without"):
        read_readings(file)
    file.write_text("reader,case\n")
    with pytest.raises(InputError, match="lacks the column truth"):
        read_readings(file)
