"""Exporting results on radiographs and on studies that are not DICOM."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.domain.errors import InputError
from core.domain.explanation import Explanation
from core.domain.geometry import VolumeGeometry
from core.domain.result import ClassProbability, Finding, ModelResult
from core.domain.segmentation import Segmentation
from core.domain.volume import Volume
from core.formats.nifti import write_nifti
from core.phantom.acquisition import cr_acquisition
from core.phantom.dicom import PhantomSubject, write_study
from core.services.engine import Engine, open_engine
from core.services.export_result import export_result
from core.services.import_study import import_paths
from core.services.load_volume import load_volume
from core.services.record_decision import record_decision
from core.services.results import store_explanation, store_result
from tests.fakes.marked_phantom import MODEL, SEGMENTS, grid, labels
from tests.fakes.validators import dciodvfy_errors


def imported(engine: Engine, path: Path) -> tuple[str, str, Volume]:
    study = import_paths(engine, [path]).studies[0]
    series = study.series[0]
    return study.study_uid, series.series_uid, load_volume(engine, series.key)


def test_a_classified_radiograph(tmp_path: Path) -> None:
    geometry = VolumeGeometry.from_axes((1, 32, 24), (0.8, 0.8, 0.8), np.eye(3), (0.0, 0.0, 0.0))
    pixels = np.arange(32 * 24, dtype=np.int16).reshape(1, 32, 24)
    write_study(pixels, geometry, cr_acquisition(), PhantomSubject(), key="cr", out=tmp_path / "cr")
    with open_engine(tmp_path / "home", actor="Rita") as engine:
        study_uid, series_uid, volume = imported(engine, tmp_path / "cr")
        classes = (ClassProbability("CXR", 0.9), ClassProbability("Hand", 0.1))
        finding = Finding("c1", "CXR", "class", score=0.9)
        store_result(
            engine,
            ModelResult(
                "r2",
                study_uid,
                series_uid,
                MODEL,
                "classification",
                "cpu",
                classes=classes,
                findings=(finding,),
            ),
        )
        heat = np.linspace(0, 1, 32 * 24, dtype=np.float32).reshape(1, 32, 24)
        store_explanation(
            engine, "r2", Explanation(volume.geometry, heat, "gradcam", "CXR", "layer", (6.0, 6.0, 0.8))
        )
        record_decision(engine, "r2", "c1", "accept")
        files = export_result(engine, "r2", ["sr", "pm", "kos", "pdf"], tmp_path / "out")
        assert [f.kind for f in files] == ["sr", "pm", "kos", "pdf", "encapsulated-pdf"]
        assert all(f.verified for f in files)
        assert [dciodvfy_errors(f.path) for f in files if f.path.suffix == ".dcm"] == [[], [], [], []]
        with pytest.raises(InputError) as error:
            export_result(engine, "r2", ["seg"], tmp_path / "out")
        assert error.value.code == "export.no_label_map"


def test_a_study_that_is_not_dicom_gives_nifti_and_pdf_only(tmp_path: Path) -> None:
    voxels = (labels().astype(np.int16) * 100).astype(np.int16)
    write_nifti(tmp_path / "in" / "t1.nii.gz", grid(), voxels)
    with open_engine(tmp_path / "home", actor="Rita") as engine:
        study_uid, series_uid, volume = imported(engine, tmp_path / "in")
        result = ModelResult("r3", study_uid, series_uid, MODEL, "segmentation", "cpu")
        store_result(engine, result, Segmentation(volume.geometry, labels(), SEGMENTS))
        files = export_result(engine, "r3", ["nifti", "pdf", "csv"], tmp_path / "out")
        assert [f.kind for f in files] == ["nifti", "pdf", "csv"]
        for kind in ("seg", "sr"):
            with pytest.raises(InputError) as error:
                export_result(engine, "r3", [kind], tmp_path / "out")
            assert "nifti" in error.value.remedy
