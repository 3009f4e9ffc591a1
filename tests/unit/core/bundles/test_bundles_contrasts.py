"""Which series of a study a model of several contrasts takes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from core.bundles.contrasts import contrast_of
from core.bundles.fit import contrasts_for, fit
from core.bundles.manifest import Manifest, Requirements
from core.domain.errors import InputError
from core.domain.study import SeriesKind, SeriesSummary
from tests.fakes.multitask_bundles import multitask_manifest


def series(key: str, description: str, **changes: Any) -> SeriesSummary:
    whole = SeriesSummary(
        key=key,
        series_uid=key,
        study_uid="1",
        modality="MR",
        description=description,
        body_part="HEAD",
        instances=100,
        frames=100,
        kind=SeriesKind.VOLUME,
        shape_kji=(100, 256, 256),
        spacing_kji_mm=(2.0, 1.0, 1.0),
        regular=True,
        frame_of_reference_uid="9.9",
    )
    return dataclasses.replace(whole, **changes)


def model(*inputs: str, missing: str = "zeros") -> Manifest:
    return multitask_manifest(
        inputs=inputs, missing_inputs=missing, requirements=Requirements(modalities=("MR",), min_slices=4)
    )


T1, T2 = series("a", "t1_mprage_sag_p2_iso"), series("b", "Ax T2 TSE")
FLAIR, DWI = series("c", "T2_FLAIR_dark-fluid"), series("d", "ep2d_diff_3scan_trace_p2")


@pytest.mark.parametrize(
    ("description", "contrast"),
    [
        ("t1_mprage_sag_p2_iso", "T1"),
        ("3D T1 BRAVO", "T1"),
        ("T1W_3D_TFE", "T1"),
        ("MPRAGE post Gd", "T1C"),
        ("Ax T1 +C", "T1C"),
        ("t1ce", "T1C"),
        ("Ax T2 TSE", "T2"),
        ("T2W_TSE", "T2"),
        ("T2_FLAIR_dark-fluid", "FLAIR"),
        ("Sag CUBE FLAIR", "FLAIR"),
        ("T1 FLAIR", "T1"),
        ("PD_TSE", "PD"),
        ("Proton density", "PD"),
        ("ep2d_diff_3scan_trace_p2", "DWI"),
        ("ep2d_diff_3scan_trace_p2_ADC", "ADC"),
        ("DWI b1000", "DWI"),
        ("Ax SWAN", "SWI"),
        ("T2* GRE", "SWI"),
        ("Localizer", ""),
        ("", ""),
        ("posterior fossa", ""),
    ],
)
def test_descriptions_name_their_contrast(description: str, contrast: str) -> None:
    assert contrast_of(description) == contrast


def test_all_contrasts_of_a_study_are_taken_the_one_asked_for_first() -> None:
    manifest = model("T1", "T2", "FLAIR")
    found = contrasts_for(manifest, FLAIR, (T1, T2, FLAIR, DWI))
    assert {name: one.key for name, one in found.series.items()} == {"FLAIR": "c", "T1": "a", "T2": "b"}
    assert next(iter(found.series)) == "FLAIR" and found.missing == () and not found.objection
    answer = fit(manifest, FLAIR, (T1, T2, FLAIR, DWI))
    assert answer.fits and "takes T1, T2 and FLAIR of this study" in answer.why


def test_a_missing_contrast_is_said_or_refuses() -> None:
    answer = fit(model("T1", "T2", "FLAIR"), T1, (T1, DWI))
    assert answer.fits and "takes T1 of this study. T2 and FLAIR are missing: it runs without." in answer.why
    strict = fit(model("T1", "T2", missing="refuse"), T1, (T1, DWI))
    assert not strict.fits and strict.why == "Made for T1, T2 together; this study has no T2."
    assert fit(model("T1", "T2", missing="refuse"), T1, (T1, T2)).fits


def test_a_series_of_another_contrast_does_not_fit() -> None:
    answer = fit(model("T1", "T2"), DWI, (T1, T2, DWI))
    assert not answer.fits and answer.why == "Made for T1, T2; this series is DWI."


def test_a_nameless_series_is_taken_for_the_first_input_and_that_is_said() -> None:
    nameless = series("e", "NIfTI volume")
    answer = fit(model("T1", "T2"), nameless, (nameless,))
    assert answer.fits and "was taken for T1: its description names no contrast" in answer.why


def test_only_series_of_the_same_place_that_fit_by_themselves_are_taken() -> None:
    elsewhere = dataclasses.replace(T2, key="x", frame_of_reference_uid="1.1")
    gaps = dataclasses.replace(T2, key="y", regular=False)
    assert contrasts_for(model("T1", "T2"), T1, (T1, elsewhere, gaps)).missing == ("T2",)
    unknown = dataclasses.replace(T2, frame_of_reference_uid=None)
    assert contrasts_for(model("T1", "T2"), T1, (T1, unknown)).missing == ()


def test_the_finest_of_several_is_taken() -> None:
    thick = dataclasses.replace(T2, key="t", spacing_kji_mm=(5.0, 0.5, 0.5))
    fine = dataclasses.replace(T2, key="f", spacing_kji_mm=(0.9, 0.9, 0.9))
    assert contrasts_for(model("T1", "T2"), T1, (T1, thick, fine)).series["T2"].key == "f"


def test_the_reader_goes_before_the_descriptions() -> None:
    manifest = model("T1", "T2")
    study = (T1, T2, DWI)
    assert contrasts_for(manifest, T1, study, {"t2": "d"}).series["T2"].key == "d"
    assert contrasts_for(manifest, T1, study, {"T2": ""}).missing == ("T2",)
    assert contrasts_for(manifest, DWI, study, {"T1": "d"}).series["T1"].key == "d"
    for wrong, sentence in (({"PD": "d"}, "no input “PD”"), ({"T2": "nowhere"}, "not in the study")):
        with pytest.raises(InputError, match=sentence):
            contrasts_for(manifest, T1, study, wrong)


def test_names_outside_the_table_are_looked_for_as_words() -> None:
    manifest = model("phase-1", "phase-2")
    first, second = series("a", "CT phase 1 thin"), series("b", "CT phase 2 thin")
    found = contrasts_for(manifest, second, (first, second))
    assert {name: one.key for name, one in found.series.items()} == {"phase-2": "b", "phase-1": "a"}
