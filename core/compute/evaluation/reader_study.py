"""Readers without and with the model's help: does it change what they see, and how fast?

Two modalities (without, with), several readers, all cases read in both. The difference of areas is tested by
Obuchowski and Rockette's method with the covariances of the jackknife and Hillis' degrees of freedom, so that it holds
for other readers and other cases than these.

Source: N. A. Obuchowski, H. E. Rockette, Commun. Stat. Simul. 1995, 24:285–308; S. L. Hillis, Stat. Med. 2007,
26:596–619 (degrees of freedom); S. L. Hillis, Stat. Med. 2014, 33:330–360 (confidence interval).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from core.compute.evaluation.bootstrap import percentile_interval, resampled
from core.compute.evaluation.paired import Comparison, mcnemar
from core.compute.evaluation.ranking import area_under_roc
from core.domain.errors import InputError
from core.domain.result import Decision, Verdict

Values = NDArray[np.float64]
COLUMNS = ("reader", "case", "truth", "without", "with")
_SECONDS = ("seconds_without", "seconds_with")


@dataclass(frozen=True)
class Reading:
    """One reader on one case: scores 0…1 (a decision is 0 or 1) and, where timed, seconds."""

    reader: str
    case: str
    truth: bool
    without: float
    with_ai: float
    seconds_without: float | None = None
    seconds_with: float | None = None


def score_of_verdict(verdict: Verdict) -> float:
    """Return a verdict on a model's finding as a score: accepted or edited 1, unsure 0.5, rejected 0."""
    return {Verdict.ACCEPT: 1.0, Verdict.EDIT: 1.0, Verdict.UNSURE: 0.5, Verdict.REJECT: 0.0}[verdict]


def readings_of_verdicts(
    decisions: Iterable[Decision],
    case_of_result: Mapping[str, str],
    unaided: Mapping[tuple[str, str], float],
    truth: Mapping[str, bool],
) -> tuple[list[Reading], int]:
    """Return readings made of the application's verdicts.

    A reader's answer with the model's help on a case is the highest score of that reader's verdicts on its findings;
    of several verdicts on one finding the last counts.

    Parameters
    ----------
    case_of_result : mapping
        Result identifier → case.
    unaided : mapping
        (reader, case) → score 0…1 from reading without the model.
    truth : mapping
        Case → whether it is positive.

    Returns
    -------
    readings, left_out
        Rows, and how many readings with the model had no unaided counterpart or no truth.
    """
    last: dict[tuple[str, str, str, str], Decision] = {}
    for decision in decisions:
        case = case_of_result.get(decision.result_id)
        if case is None:
            continue
        key = (decision.reader, case, decision.result_id, decision.finding_id)
        if key not in last or last[key].decided_utc <= decision.decided_utc:
            last[key] = decision
    helped: dict[tuple[str, str], float] = {}
    for (reader, case, *_), decision in last.items():
        score = score_of_verdict(decision.verdict)
        helped[reader, case] = max(score, helped.get((reader, case), 0.0))
    usable = [key for key in helped if key in unaided and key[1] in truth]
    rows = [Reading(r, case, truth[case], unaided[r, case], helped[r, case]) for r, case in sorted(usable)]
    return rows, len(helped) - len(usable)


def read_readings(path: Path) -> list[Reading]:
    """Read a table (CSV) with the columns reader, case, truth, without, with[, seconds_without, seconds_with].

    Raises
    ------
    InputError
        ``reader_study.columns``, ``reader_study.value`` (names line and column), ``reader_study.unreadable``.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            table = csv.DictReader(stream)
            missing = [c for c in COLUMNS if c not in (table.fieldnames or [])]
            if missing:
                raise InputError(
                    "reader_study.columns",
                    f"The reader study lacks the column {missing[0]}.",
                    f"Give the columns {', '.join(COLUMNS)}.",
                )
            return [_reading(row, line) for line, row in enumerate(table, start=2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            "reader_study.unreadable", "The reader study can't be read as CSV.", "Save it as UTF-8 CSV."
        ) from error


def _reading(row: Mapping[str, str | None], line: int) -> Reading:
    def number(column: str, low: float, high: float) -> float:
        try:
            value = float(row[column] or "")
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise InputError(
                "reader_study.value",
                f"Line {line} of the reader study has no number from {low:g} to {high:g} in {column}.",
                "Correct the line.",
            )
        return value

    seconds = [number(c, 0, 1e6) if row.get(c) else None for c in _SECONDS]
    return Reading(
        str(row["reader"]),
        str(row["case"]),
        number("truth", 0, 1) >= 0.5,
        number("without", 0, 1),
        number("with", 0, 1),
        *seconds,
    )


@dataclass(frozen=True)
class MultiReader:
    """Obuchowski–Rockette's answer.

    ``difference`` is with less without, averaged over readers. ``df`` may be infinite (fixed readers: one reader).
    """

    without: float
    with_ai: float
    difference: float
    ci95: tuple[float, float]
    p: float
    f: float
    df: float
    readers: int
    cases: int
    variance: float
    cov1: float
    cov2: float
    cov3: float
    method: str


def multi_reader(
    truth: NDArray[np.bool_],
    scores: Values,
    figure: Callable[[Values, NDArray[np.bool_]], float] = area_under_roc,
) -> MultiReader:
    """Compare two modalities read by the same readers on the same cases.

    Parameters
    ----------
    truth : numpy.ndarray
        ``(N,)`` bool.
    scores : numpy.ndarray
        ``(2, readers, N)``: without, with.
    figure : callable
        Figure of merit of scores and truth, the area under the ROC curve by default.

    Raises
    ------
    ValueError
        When shapes disagree, or a class has fewer than two cases.
    """
    truth, scores = np.asarray(truth, bool), np.asarray(scores, np.float64)
    if scores.ndim != 3 or scores.shape[0] != 2 or scores.shape[2] != len(truth):
        raise ValueError("scores are (2, readers, cases)")
    if min(truth.sum(), (~truth).sum()) < 2:
        raise ValueError("a reader study needs two cases of each truth")
    readers, n = scores.shape[1], len(truth)
    theta = np.array([[figure(s, truth) for s in modality] for modality in scores])
    error = jackknife_covariance(truth, scores, figure)
    return obuchowski_rockette(theta, *_components(error, readers), cases=n)


def obuchowski_rockette(
    theta: Values, variance: float, cov1: float, cov2: float, cov3: float, *, cases: int
) -> MultiReader:
    """Test the difference of two modalities from the readers' figures and their error covariances.

    Parameters
    ----------
    theta : numpy.ndarray
        ``(2, readers)`` figures of merit: without, with.
    variance, cov1, cov2, cov3 : float
        Error variance, and covariances of the same reader in both modalities, of different readers in one modality,
        of different readers in different modalities.
    """
    readers = theta.shape[1]
    mean = theta.mean(axis=1)
    difference = float(mean[1] - mean[0])
    if readers == 1:
        width = float(np.sqrt(max(2 * (variance - cov1), 0.0)))
        f, df = _ratio(difference**2, width**2), float("inf")
        method = "one reader, fixed: normal with jackknife variance"
    else:
        rest = theta - theta.mean(axis=0) - mean[:, None] + theta.mean()
        ms_t = readers * float(((mean - theta.mean()) ** 2).sum())
        ms_tr = float((rest**2).sum()) / (readers - 1)
        below = ms_tr + max(readers * (cov2 - cov3), 0.0)
        f = _ratio(ms_t, below)
        df = below**2 / (ms_tr**2 / (readers - 1)) if ms_tr > 1e-300 else float("inf")
        width = float(np.sqrt(2 / readers * below))
        method = "Obuchowski–Rockette with jackknife covariances, Hillis' degrees of freedom"
    if width < 1e-12:
        p, quantile = (1.0 if abs(difference) < 1e-12 else 0.0), 0.0
    else:
        law = stats.norm if np.isinf(df) else stats.t(df)
        p, quantile = float(2 * law.sf(abs(difference) / width)), float(law.isf(0.025))
    ends = (difference - quantile * width, difference + quantile * width)
    return MultiReader(
        float(mean[0]),
        float(mean[1]),
        difference,
        ends,
        p,
        f,
        df,
        readers,
        cases,
        variance,
        cov1,
        cov2,
        cov3,
        method,
    )


def _ratio(a: float, b: float) -> float:
    return a / b if b > 1e-300 else (0.0 if a < 1e-300 else float("inf"))


def jackknife_covariance(
    truth: NDArray[np.bool_], scores: Values, figure: Callable[[Values, NDArray[np.bool_]], float]
) -> Values:
    """Return the ``(2·J, 2·J)`` covariance of the figures, modality by modality, leaving out one case at a time.

    Source: J. W. Tukey 1958; (N − 1)/N times the sum of products of the deviations.
    """
    flat = scores.reshape(-1, scores.shape[2])
    n = len(truth)
    keep = ~np.eye(n, dtype=bool)
    left = np.array([[figure(s[k], truth[k]) for s in flat] for k in keep])
    centred = left - left.mean(axis=0)
    out: Values = (n - 1) / n * centred.T @ centred
    return out


def _components(error: Values, readers: int) -> tuple[float, float, float, float]:
    """Return the error variance and the covariances: same reader, same modality, neither."""
    block = error.reshape(2, readers, 2, readers)
    same = np.eye(readers, dtype=bool)
    across = (block[0, :, 1, :] + block[1, :, 0, :]) / 2
    within = (block[0, :, 0, :] + block[1, :, 1, :]) / 2
    variance, cov1 = float(within[same].mean()), float(across[same].mean())
    if readers == 1:
        return variance, cov1, 0.0, 0.0
    return variance, cov1, float(within[~same].mean()), float(across[~same].mean())


@dataclass(frozen=True)
class ReaderStudy:
    """What help changes: per reader and pooled.

    ``per_reader`` maps a reader to comparisons of sensitivity, specificity and AUC; ``pooled`` holds the sensitivity
    and specificity of all readings, with intervals over cases, and ``auc`` the multi-reader test. ``seconds`` are
    median seconds per case (without, with), None when not timed.
    """

    per_reader: dict[str, list[Comparison]]
    pooled: list[Comparison]
    auc: MultiReader | None
    seconds: tuple[float, float] | None
    readings: int
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the study for JSON."""
        return {
            "per_reader": {r: [c.as_dict() for c in rows] for r, rows in self.per_reader.items()},
            "pooled": [c.as_dict() for c in self.pooled],
            "auc": None if self.auc is None else {**vars(self.auc), "ci95": list(self.auc.ci95)},
            "median_seconds": None if self.seconds is None else list(self.seconds),
            "readings": self.readings,
            "notes": list(self.notes),
        }


def reader_study(readings: Sequence[Reading], *, threshold: float = 0.5, seed: int = 0) -> ReaderStudy:
    """Evaluate a reader study.

    A score at or above ``threshold`` counts as a positive decision. The multi-reader test uses the cases that every
    reader read; others are counted in the notes.

    Raises
    ------
    InputError
        ``reader_study.empty``, or ``reader_study.conflict`` when a reader has a case twice or readers disagree on the
        truth of one.
    """
    if not readings:
        raise InputError("reader_study.empty", "The reader study has no readings.", "Give at least one.")
    by_reader: dict[str, dict[str, Reading]] = {}
    truth: dict[str, bool] = {}
    for r in readings:
        mine = by_reader.setdefault(r.reader, {})
        if r.case in mine or truth.setdefault(r.case, r.truth) != r.truth:
            raise InputError(
                "reader_study.conflict",
                "A case of the reader study is read twice by one reader, or has two truths.",
                "Give one row per reader and case, with one truth per case.",
            )
        mine[r.case] = r
    shared = sorted(set.intersection(*(set(cases) for cases in by_reader.values())))
    notes = (
        [f"{len(truth) - len(shared)} cases were not read by every reader"]
        if len(shared) < len(truth)
        else []
    )
    per_reader = {
        name: _of_reader(list(cases.values()), threshold) for name, cases in sorted(by_reader.items())
    }
    auc = _auc(by_reader, shared, truth)
    if auc is None:
        notes.append("too few cases of one truth for a comparison of areas")
    timed = [r for r in readings if r.seconds_without is not None and r.seconds_with is not None]
    seconds = None
    if timed:
        seconds = (
            float(np.median([r.seconds_without or 0.0 for r in timed])),
            float(np.median([r.seconds_with or 0.0 for r in timed])),
        )
    pooled = [_pooled(readings, positive, threshold, seed) for positive in (True, False)]
    return ReaderStudy(
        per_reader, [c for c in pooled if c is not None], auc, seconds, len(readings), tuple(notes)
    )


def _auc(
    by_reader: Mapping[str, Mapping[str, Reading]], shared: Sequence[str], truth: Mapping[str, bool]
) -> MultiReader | None:
    y = np.array([truth[c] for c in shared], dtype=bool)
    if min(y.sum(), (~y).sum()) < 2:
        return None
    rows = [by_reader[name] for name in sorted(by_reader)]
    scores = np.array(
        [[[r[c].without for c in shared] for r in rows], [[r[c].with_ai for c in shared] for r in rows]]
    )
    return multi_reader(y, scores)


def _of_reader(readings: Sequence[Reading], threshold: float) -> list[Comparison]:
    found = []
    y = np.array([r.truth for r in readings])
    scores = np.array([[r.without for r in readings], [r.with_ai for r in readings]])
    for metric, mine in (("sensitivity", y), ("specificity", ~y)):
        if mine.any():
            right = (scores[:, mine] >= threshold) == y[mine]
            found.append(mcnemar(right[0], right[1], metric=metric))
    if min(y.sum(), (~y).sum()) >= 2:
        m = multi_reader(y, scores[:, None, :])
        found.append(Comparison("auc_roc", m.without, m.with_ai, m.difference, m.ci95, m.p, len(y), m.method))
    return found


def _pooled(readings: Sequence[Reading], positive: bool, threshold: float, seed: int) -> Comparison | None:
    """Return the pooled difference of sensitivity or specificity; cases are drawn with all their readings."""
    mine = [r for r in readings if r.truth == positive]
    if not mine:
        return None
    right = np.array(
        [[(s >= threshold) == positive for s in (r.without, r.with_ai)] for r in mine], dtype=np.float64
    )
    change = right[:, 1] - right[:, 0]

    def statistic(weights: Values) -> Values:
        out: Values = (weights @ change / np.maximum(weights.sum(axis=1), 1e-300))[:, None]
        return out

    cases = np.array([r.case for r in mine])
    value, draws = resampled(statistic, len(mine), groups=cases, resamples=4000, seed=seed)
    few = min(int((draws <= 0).sum()), int((draws >= 0).sum()))
    return Comparison(
        "sensitivity" if positive else "specificity",
        float(right[:, 0].mean()),
        float(right[:, 1].mean()),
        float(value[0]),
        percentile_interval(draws[:, 0]),
        min(1.0, 2 * (few + 1) / 4001),
        len(np.unique(cases)),
        "bootstrap over cases with all their readings",
    )
