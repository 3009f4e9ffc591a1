"""Which series of a study are the contrasts that a model takes, by the words that scanners write into descriptions.

The words are those of the usual sequences of the vendors' protocols; a series whose description names none of them
is no contrast of anything, until the reader says which it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from core.bundles.manifest import Manifest
from core.domain.errors import InputError
from core.domain.study import SeriesSummary

_WORDS = re.compile(r"[a-z]+\d*[a-z*]*|\d+")
_MEDIUM = frozenset(
    "gd gad gado ce postcontrast contrast kontrast km post t1c t1ce t1gd t1post".split()  # noqa: SIM905
)
_T1 = frozenset(
    "t1 t1w t1n t1c t1ce t1gd t1post dt1 mprage rage bravo spgr fspgr flash vibe".split()  # noqa: SIM905
)
# In this order: a FLAIR is T2-weighted too, an ADC map is made of diffusion images.
_SEQUENCES: tuple[tuple[str, frozenset[str]], ...] = (
    ("ADC", frozenset({"adc", "dadc", "eadc"})),
    ("DWI", frozenset({"dwi", "diff", "diffusion", "dti", "trace", "tracew", "b1000", "b800", "resolve"})),
    ("SWI", frozenset({"swi", "swan", "venobold", "t2*", "t2star", "qsm"})),
    ("FLAIR", frozenset({"flair", "t2flair", "flairt2", "tirm", "dark"})),
    ("PD", frozenset({"pd", "pdw", "proton", "dp"})),
)
_T2 = frozenset({"t2", "t2w", "t2n", "dt2"})


@dataclass(frozen=True)
class Assignment:
    """Which series is which input of a model.

    Attributes
    ----------
    series : dict of str to SeriesSummary
        Input → series; the one that was asked for is the first, the answer lies on its grid.
    missing : tuple of str
        Inputs without a series.
    notes : tuple of str
        What was taken for granted, in sentences.
    objection : str
        Why the model can't be run; empty when it can.
    """

    series: dict[str, SeriesSummary]
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    objection: str = ""


def contrast_of(description: str) -> str:
    """Return the contrast that a description names: ``T1``, ``T1C`` (with contrast medium), ``T2``, ``FLAIR``, ``PD``,
    ``DWI``, ``ADC``, ``SWI``; empty when it names none.
    """
    words = set(_WORDS.findall(description.casefold().replace("_", " ")))
    for name, known in _SEQUENCES:
        if words & known and not (name == "FLAIR" and words & {"t1"}):
            return name
    if words & _T1:
        plus = "+c" in description.casefold().replace(" ", "") or "c+" in description.casefold()
        return "T1C" if plus or words & _MEDIUM else "T1"
    return "T2" if words & _T2 else ""


def assign_contrasts(
    manifest: Manifest,
    asked: SeriesSummary,
    study: Sequence[SeriesSummary],
    fits: Callable[[SeriesSummary], bool],
    chosen: Mapping[str, str] | None = None,
) -> Assignment:
    """Find the series of a study for each input of a model.

    Parameters
    ----------
    asked : SeriesSummary
        The series on which the model is to be run.
    study : sequence of SeriesSummary
        All series of its study.
    fits : callable
        Whether a series by itself meets the model's requirements.
    chosen : mapping of str to str, optional
        Input → key of the series that the reader says it is; goes before the descriptions. An empty key leaves the
        input out.

    Raises
    ------
    InputError
        ``run.contrast`` for an input or a series that doesn't exist.
    """
    given = _chosen(manifest, study, chosen or {})
    names = {key: name for name, series in given.items() if series is not None for key in (series.key,)}
    own, notes = names.get(asked.key, ""), []
    if not own:
        own, note = _input_of(manifest, asked, set(given))
        notes += [note] if note else []
    if not own:
        wanted = ", ".join(manifest.inputs)
        seen = contrast_of(asked.description) or "none of them"
        return Assignment({}, manifest.inputs, (), f"Made for {wanted}; this series is {seen}.")
    found = {own: asked}
    for name in manifest.inputs:
        if name in found:
            continue
        series = given[name] if name in given else _best(name, asked, study, fits, set(names))
        if series is not None:
            found[name] = series
    missing = tuple(name for name in manifest.inputs if name not in found)
    objection = ""
    if missing and manifest.missing_inputs != "zeros":
        objection = f"Made for {', '.join(manifest.inputs)} together; this study has no {', '.join(missing)}."
    return Assignment(found, missing, tuple(notes), objection)


def _chosen(
    manifest: Manifest, study: Sequence[SeriesSummary], chosen: Mapping[str, str]
) -> dict[str, SeriesSummary | None]:
    inputs = {name.casefold(): name for name in manifest.inputs}
    found: dict[str, SeriesSummary | None] = {}
    for name, key in chosen.items():
        if name.casefold() not in inputs:
            raise InputError(
                "run.contrast",
                f"{manifest.title} has no input “{name}”.",
                f"Its inputs are {', '.join(manifest.inputs)}."
                if manifest.inputs
                else "It takes one series.",
            )
        series = next((one for one in study if key in (one.key, one.series_uid)), None)
        if series is None and key:
            raise InputError(
                "run.contrast",
                f"The series that was named for {name} is not in the study of the series that the model is run on.",
                "Choose a series of the same study.",
            )
        found[inputs[name.casefold()]] = series
    return found


def _input_of(manifest: Manifest, series: SeriesSummary, taken: set[str]) -> tuple[str, str]:
    """Return the input that a series is by its description, and what was taken for granted."""
    free = [name for name in manifest.inputs if name not in taken]
    for name in free:
        if _matches(name, series.description):
            return name, ""
    if not free or contrast_of(series.description):
        return "", ""
    return free[0], f"the series was taken for {free[0]}: its description names no contrast"


def _matches(name: str, description: str) -> bool:
    """Whether a description is of an input; names outside the table must stand in it as a word."""
    kind = contrast_of(name)
    if kind:
        return contrast_of(description) == kind
    plain = re.sub(r"[^a-z0-9]+", " ", name.casefold()).strip()
    return bool(plain) and f" {plain} " in f" {re.sub(r'[^a-z0-9]+', ' ', description.casefold())} "


def _best(
    name: str,
    asked: SeriesSummary,
    study: Sequence[SeriesSummary],
    fits: Callable[[SeriesSummary], bool],
    taken: set[str],
) -> SeriesSummary | None:
    """Return the finest fitting series of that contrast in the frame of reference of the series asked for."""
    possible = [
        series
        for series in study
        if series.key != asked.key
        and series.key not in taken
        and _matches(name, series.description)
        and _same_place(series, asked)
        and fits(series)
    ]
    return min(possible, key=lambda one: (_voxel_mm3(one), one.series_number or 0, one.key), default=None)


def _same_place(one: SeriesSummary, other: SeriesSummary) -> bool:
    """Whether two frames of reference may be one; overlap is looked at when the voxels are there."""
    first, second = one.frame_of_reference_uid, other.frame_of_reference_uid
    return not first or not second or first == second


def _voxel_mm3(series: SeriesSummary) -> float:
    return prod(series.spacing_kji_mm) if series.spacing_kji_mm else float("inf")
