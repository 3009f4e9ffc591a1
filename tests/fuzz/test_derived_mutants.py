"""Changed bytes in derived objects: only our own errors come out, soon, and nothing grows."""

from __future__ import annotations

import contextlib
import io
import time
from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from reportlab.pdfgen import canvas

from core.dicom.derived.document import draw_page
from core.dicom.derived.grid import TargetGrid
from core.dicom.derived.identity import read_header
from core.dicom.derived.open_object import open_object
from core.dicom.derived.rasterize import contours_as_segmentation
from core.domain.derived import Document, StructureContours
from core.domain.errors import AppError
from tests.fakes.data import data_path
from tests.fakes.derived_files import SOURCE_SERIES, frames_of_labels, grid_of, write_seg_file
from tests.fakes.dicom_files import UID_ROOT, empty_dataset, save
from tests.fakes.marked_phantom import grid, labels, write_marked
from tests.fuzz.test_dicom_mutants import mutate

MUTANTS = 150
LONGEST_S = 10.0


def survive(path: Path, target: TargetGrid | None) -> None:
    """Open one file with and without images below it; AppError is a fine answer."""
    began = time.monotonic()
    with contextlib.suppress(AppError):
        read_header(path)
    for over in (target, None):
        with contextlib.suppress(AppError):
            opened = open_object(path, over)
            if isinstance(opened, StructureContours):
                contours_as_segmentation(opened, grid())
            if isinstance(opened, Document):
                draw_page(path, 0, 50)
    assert time.monotonic() - began < LONGEST_S


def riot(whole: bytes, path: Path, target: TargetGrid | None, seed: int, count: int = MUTANTS) -> None:
    random = np.random.default_rng(seed)
    for _ in range(count):
        path.write_bytes(mutate(whole, random))
        survive(path, target)


@pytest.mark.parametrize("kind, bits", [("BINARY", 1), ("FRACTIONAL", 8), ("LABELMAP", 16)])
def test_mutants_of_segmentations(tmp_path: Path, kind: str, bits: int) -> None:
    own, truth = grid(), labels()
    if kind == "LABELMAP":
        frames = [(0, plane, own, k) for k, plane in enumerate(truth)]
    else:
        frames = frames_of_labels(truth, own, (2, 5))
    path = write_seg_file(tmp_path / "seg.dcm", frames, (2, 5), kind=kind, bits=bits)
    riot(path.read_bytes(), path, TargetGrid(own, SOURCE_SERIES), bits)


@pytest.mark.parametrize("name", ["liver_rle", "liver_deflate", "liver_expb", "parametric_map_float"])
def test_mutants_of_real_objects(tmp_path: Path, name: str) -> None:
    whole = data_path(f"core/dicom/pydicom-data-zoo/{name}.dcm").read_bytes()
    target = grid_of(sorted(data_path("core/dicom/seg-liver-dcmqi/ct-3slice").glob("*.dcm")))
    riot(whole, tmp_path / "mutant.dcm", target, len(name), 60)


@pytest.mark.parametrize("name", ["rtstruct.dcm", "test-SR.dcm", "reportsi.dcm"])
def test_mutants_of_objects_that_come_with_pydicom(tmp_path: Path, name: str) -> None:
    source = get_testdata_file(name, download=False)
    if source is None:
        pytest.skip(f"pydicom brings no {name}")
    riot(Path(str(source)).read_bytes(), tmp_path / "mutant.dcm", TargetGrid(grid()), len(name))


def test_mutants_of_a_presentation_state(tmp_path: Path) -> None:
    phantom = write_marked(tmp_path / "ct")
    images = [dcmread(file) for file in phantom.study.files]
    layer = hd.pr.GraphicLayer("MARKS", order=1)
    mark = hd.pr.GraphicObject("POLYLINE", np.array([[1.5, 2.5], [5.0, 6.0]]), units="PIXEL")
    drawn = hd.pr.GraphicAnnotation(referenced_images=images, graphic_layer=layer, graphic_objects=[mark])
    state = hd.pr.GrayscaleSoftcopyPresentationState(
        images, f"{UID_ROOT}.11", 1, f"{UID_ROOT}.11.1", 1, "Maker", "Model", "1", "1", "LOOK",
        graphic_annotations=[drawn], graphic_layers=[layer],
    )  # fmt: skip
    path = tmp_path / "gsps.dcm"
    state.save_as(path)
    riot(path.read_bytes(), path, None, 3)


def test_mutants_of_a_document(tmp_path: Path) -> None:
    stream = io.BytesIO()
    drawing = canvas.Canvas(stream, pagesize=(100, 100))
    drawing.drawString(10, 50, "page")
    drawing.save()
    data = empty_dataset("1.2.840.10008.5.1.4.1.1.104.1", f"{UID_ROOT}.12.1")
    data.MIMETypeOfEncapsulatedDocument = "application/pdf"
    data.EncapsulatedDocument = stream.getvalue() + b"\n" * (len(stream.getvalue()) % 2)
    path = save(data, tmp_path / "document.dcm")
    riot(path.read_bytes(), path, None, 4)
