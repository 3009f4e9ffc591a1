"""Derived objects of the library: found under their source, opened over it, written for other programs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from core.domain.audit import AuditCode
from core.domain.derived import DerivedSegmentation, Document, ParametricMap, StructureContours
from core.domain.errors import EnvironmentFault, InputError, SafetyError
from core.domain.explanation import Explanation
from core.domain.geometry import VolumeGeometry
from core.domain.segmentation import Segmentation
from core.domain.study import ObjectKind
from core.export.kos import write_kos
from core.export.pm import write_parametric_map
from core.export.seg import SegmentAuthor, write_seg
from core.export.source import read_source
from core.export.sr import write_sr
from core.formats.nifti import read_nifti
from core.phantom.acquisition import cr_acquisition
from core.phantom.dicom import PhantomSubject, write_study
from core.services import derived_objects, export_derived, verify_audit
from core.services.derived_sources import open_over
from core.services.engine import Engine
from core.services.import_study import import_paths
from core.services.load_volume import load_volume
from tests.fakes.data import data_path
from tests.fakes.dicom_files import write_stack
from tests.fakes.engines import make_engine
from tests.fakes.marked_phantom import MODEL, SEGMENTS, MarkedPhantom, facts, grid, write_marked


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with make_engine(tmp_path) as opened:
        yield opened


@pytest.fixture
def phantom(tmp_path: Path) -> MarkedPhantom:
    return write_marked(tmp_path / "ct")


def written(phantom: MarkedPhantom, out: Path) -> Path:
    """Write a SEG, a report and key images of the phantom."""
    source = read_source(phantom.study.files, phantom.geometry)
    seg = write_seg(
        phantom.segmentation, source, out, result_id="result-1", author=SegmentAuthor(MODEL),
        tracking_keys=facts(phantom).tracking_keys(),
    )  # fmt: skip
    write_sr(facts(phantom), source, out, seg=seg)
    write_kos(facts(phantom), source, out)
    return seg.file.path


@pytest.mark.parametrize("mode", ["link", "copy"])
def test_objects_are_listed_under_their_source_and_opened_over_it(
    engine: Engine, phantom: MarkedPhantom, tmp_path: Path, mode: str
) -> None:
    seg = written(phantom, tmp_path / "made")
    import_paths(engine, [tmp_path / "ct", tmp_path / "made"], mode=mode)
    headers = derived_objects.derived_of(engine, phantom.study.series_uid)
    kinds = {header.kind for header in headers}
    assert kinds == {ObjectKind.SEGMENTATION, ObjectKind.REPORT, ObjectKind.KEY_OBJECTS}
    uid = str(dcmread(seg).SOPInstanceUID)
    opened = derived_objects.open_derived(engine, uid)
    assert isinstance(opened, DerivedSegmentation) and opened.header.issues == ()
    volume = load_volume(engine, phantom.study.series_uid)
    (layer,) = opened.layers
    assert layer.geometry.same_grid_as(volume.geometry)
    liver = next(s.value for s in layer.segments if s.label == "Liver")
    assert (layer.labels == liver).sum() == (phantom.segmentation.labels == 2).sum()
    marked = volume.voxels[layer.labels == liver]
    assert (marked // 100 == 2).all()
    by_series = derived_objects.open_derived(engine, opened.header.series_uid)
    assert by_series.header.sop_instance_uid == uid
    own = derived_objects.derived_of(engine, opened.header.series_uid)
    assert [header.sop_instance_uid for header in own] == [uid]


@pytest.mark.parametrize("spoil", ["tilt", "gap"])
def test_a_segmentation_follows_the_straightened_display(engine: Engine, tmp_path: Path, spoil: str) -> None:
    phantom = write_marked(
        tmp_path / "ct", grid(tilt_deg=15.0 if spoil == "tilt" else 0.0, shape_kji=(9, 9, 11))
    )
    seg = written(phantom, tmp_path / "made")
    if spoil == "gap":
        heights = {file: float(dcmread(file).ImagePositionPatient[2]) for file in phantom.study.files}
        sorted(heights, key=lambda file: heights[file])[4].unlink()
    import_paths(engine, [tmp_path / "ct", tmp_path / "made"], mode="link")
    volume = load_volume(engine, phantom.study.series_uid)
    target = derived_objects.grid_of(engine, phantom.study.series_uid)
    assert target.geometry.same_grid_as(volume.geometry)
    assert target.sop_instance_uids == volume.sop_instance_uids
    opened = derived_objects.open_derived(engine, str(dcmread(seg).SOPInstanceUID))
    assert isinstance(opened, DerivedSegmentation)
    (layer,) = opened.layers
    for label, value in (("Liver", 2), ("Spleen", 5)):
        k, j, i = np.nonzero(phantom.segmentation.labels == value)
        wanted = phantom.geometry.lps_of(np.column_stack([i, j, k])).mean(axis=0)
        number = next(s.value for s in layer.segments if s.label == label)
        k, j, i = np.nonzero(layer.labels == number)
        found = layer.geometry.lps_of(np.column_stack([i, j, k])).mean(axis=0)
        assert np.linalg.norm(found - wanted) <= 0.5 * min(phantom.geometry.spacing_ijk_mm)


def test_an_object_without_its_source_keeps_its_own_grid_and_says_so(
    engine: Engine, phantom: MarkedPhantom, tmp_path: Path
) -> None:
    seg = written(phantom, tmp_path / "made")
    import_paths(engine, [seg], mode="link")
    opened = derived_objects.open_derived(engine, str(dcmread(seg).SOPInstanceUID))
    assert isinstance(opened, DerivedSegmentation)
    assert [issue.code for issue in opened.header.issues] == ["derived.source_missing"]


def test_over_a_stranger_an_object_is_refused(engine: Engine, phantom: MarkedPhantom, tmp_path: Path) -> None:
    seg = written(phantom, tmp_path / "made")
    write_stack(tmp_path / "other", np.zeros((3, 8, 10), np.int16))
    import_paths(engine, [tmp_path / "ct", seg, tmp_path / "other"], mode="link")
    stranger = str(dcmread(next((tmp_path / "other").iterdir())).SeriesInstanceUID)
    with pytest.raises(SafetyError, match="another frame of reference"):
        derived_objects.open_derived(engine, str(dcmread(seg).SOPInstanceUID), stranger)


def test_a_damaged_object_is_listed_with_the_reason(
    engine: Engine, phantom: MarkedPhantom, tmp_path: Path
) -> None:
    seg = written(phantom, tmp_path / "made")
    uid = str(dcmread(seg).SOPInstanceUID)
    import_paths(engine, [tmp_path / "ct", seg], mode="link")
    seg.write_bytes(seg.read_bytes()[:700])
    (header,) = derived_objects.derived_of(engine, phantom.study.series_uid)
    assert header.kind is ObjectKind.SEGMENTATION and header.issues
    seg.unlink()
    with pytest.raises(EnvironmentFault, match="gone"):
        derived_objects.open_derived(engine, uid)


def test_an_unknown_object_is_refused(engine: Engine) -> None:
    with pytest.raises(InputError, match="no such object"):
        derived_objects.open_derived(engine, "1.2.3")


def test_several_sources_list_the_object_under_each(
    engine: Engine, phantom: MarkedPhantom, tmp_path: Path
) -> None:
    seg = written(phantom, tmp_path / "made")
    data = dcmread(seg)
    other = Dataset()
    other.SeriesInstanceUID = "1.2.3.4"
    other.ReferencedInstanceSequence = Items([])
    data.ReferencedSeriesSequence = Items([other, *data.ReferencedSeriesSequence])
    data.save_as(seg)
    import_paths(engine, [tmp_path / "ct", seg], mode="link")
    (header,) = derived_objects.derived_of(engine, phantom.study.series_uid)
    assert header.source_series == ("1.2.3.4", phantom.study.series_uid)
    opened = derived_objects.open_derived(engine, header.sop_instance_uid)
    assert opened.header.issues == ()


def test_opening_is_audited_once_and_writing_each_time(
    engine: Engine, phantom: MarkedPhantom, tmp_path: Path
) -> None:
    seg = written(phantom, tmp_path / "made")
    import_paths(engine, [tmp_path / "ct", seg], mode="link")
    uid = str(dcmread(seg).SOPInstanceUID)
    for _ in range(2):
        export_derived.show_derived(engine, uid, out=tmp_path / "out")
    codes = [event.event_code for event in verify_audit.list_events(engine, since=None, limit=100)]
    assert codes.count(AuditCode.INSTANCES_ACCESSED) == 1 and codes.count(AuditCode.EXPORT) == 2


def test_a_segmentation_is_written_as_nifti(engine: Engine, phantom: MarkedPhantom, tmp_path: Path) -> None:
    seg = written(phantom, tmp_path / "made")
    import_paths(engine, [tmp_path / "ct", seg], mode="link")
    document = export_derived.show_derived(engine, str(dcmread(seg).SOPInstanceUID), out=tmp_path / "out")
    assert [Path(file).name for file in document["files"]] == ["segmentation.nii.gz", "segmentation.json"]
    back = read_nifti(tmp_path / "out" / "segmentation.nii.gz")
    truth = phantom.segmentation.labels
    assert {int((back.voxels == v).sum()) for v in (1, 2)} == {int((truth == v).sum()) for v in (2, 5)}
    told = json.loads((tmp_path / "out" / "segmentation.json").read_text(encoding="utf-8"))
    for segment in told["layers"][0]["segments"]:
        value = {"Liver": 2, "Spleen": 5}[segment["label"]]
        k, j, i = np.nonzero(truth == value)
        wanted = phantom.geometry.lps_of(np.column_stack([i, j, k])).mean(axis=0)
        assert np.allclose(segment["centroid_lps_mm"], wanted, atol=1e-3)


def test_structures_are_written_on_the_grid_of_their_images(engine: Engine, tmp_path: Path) -> None:
    folder = data_path("core/dicom/rtstruct-phantom-rtutils")
    import_paths(engine, [folder / "ct_1.dcm", folder / "ct_2.dcm", folder / "rt.dcm"], mode="link")
    uid = str(dcmread(folder / "rt.dcm").SOPInstanceUID)
    assert isinstance(derived_objects.open_derived(engine, uid), StructureContours)
    document = export_derived.show_derived(engine, uid, out=tmp_path / "out")
    back = read_nifti(tmp_path / "out" / "structures.nii.gz")
    assert back.geometry.shape_kji == (2, 512, 512) and back.voxels.sum() == 1443
    assert document["structures"][0]["contours"] == 2


def test_objects_on_a_radiograph_lie_on_its_pixels(engine: Engine, tmp_path: Path) -> None:
    geometry = VolumeGeometry.from_axes((1, 12, 10), (0.8, 0.8, 0.8), np.eye(3), (0.0, 0.0, 0.0))
    pixels = np.arange(120, dtype=np.int16).reshape(1, 12, 10)
    study = write_study(pixels, geometry, cr_acquisition(), PhantomSubject(), key="cr", out=tmp_path / "cr")
    source = read_source(study.files, geometry)
    truth = np.zeros((1, 12, 10), np.uint8)
    truth[0, 2:5, 7:9] = 2
    heat = np.random.default_rng(0).random((1, 12, 10), dtype=np.float32)
    explanation = Explanation(geometry, heat, "gradcam", "Liver", "layer", (2.0, 2.0, 2.0))
    segmentation = Segmentation(geometry, truth, SEGMENTS)
    write_seg(segmentation, source, tmp_path / "made", result_id="r", author=SegmentAuthor(MODEL))
    write_parametric_map(explanation, source, tmp_path / "made", model=MODEL)
    import_paths(engine, [tmp_path / "cr", tmp_path / "made"], mode="link")
    headers = derived_objects.derived_of(engine, study.series_uid)
    opened = {h.kind: derived_objects.open_derived(engine, h.sop_instance_uid) for h in headers}
    seg, found = opened[ObjectKind.SEGMENTATION], opened[ObjectKind.PARAMETRIC_MAP]
    assert isinstance(seg, DerivedSegmentation) and isinstance(found, ParametricMap)
    assert np.array_equal(seg.layers[0].labels > 0, truth > 0)
    assert np.array_equal(found.values, heat)
    volume = load_volume(engine, study.series_uid)
    assert not volume.positioned
    for header in headers:
        shown = open_over(engine, header.sop_instance_uid, volume)
        if isinstance(shown, ParametricMap):
            assert np.array_equal(shown.values, heat) and shown.header.issues == ()
        else:
            assert isinstance(shown, DerivedSegmentation)
            assert np.array_equal(shown.layers[0].labels > 0, truth > 0)


def test_a_page_is_drawn_through_the_service(engine: Engine, tmp_path: Path) -> None:
    from tests.unit.core.dicom.derived.test_derived_maps import document, pdf

    import_paths(engine, [document(tmp_path, pdf())], mode="copy")
    (series,) = [s for study in engine_studies(engine) for s in study]
    opened = derived_objects.open_derived(engine, series)
    assert isinstance(opened, Document) and opened.pages == 2
    assert derived_objects.render_page(engine, series, 0, 100).shape == (150, 100, 3)
    told = export_derived.show_derived(engine, series, out=tmp_path / "out")
    assert [Path(file).name for file in told["files"]] == ["page-001.png", "page-002.png"]


def engine_studies(engine: Engine) -> list[list[str]]:
    with engine.unit_of_work(writes=False) as uow:
        return [[s.key for s in found] for found in uow.series.by_study(None).values()]
