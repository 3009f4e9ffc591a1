"""Objects that others made: listed, laid over the pictures, read beside them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from app.presenters.derived import DerivedPresenter
from app.presenters.notices import NoticesPresenter
from app.presenters.reading import ReadingPresenter
from app.presenters.reading_state import Slot, ViewportState
from core.domain.derived import (
    Annotation,
    Contour,
    DerivedHeader,
    DerivedObject,
    DerivedSegmentation,
    Document,
    FractionalSegment,
    KeyObjects,
    ParametricMap,
    PresentationState,
    RegionOfInterest,
    ReportItem,
    ReportMeasurement,
    ReportPlace,
    SourceImage,
    StructureContours,
    StructuredReport,
)
from core.domain.errors import SafetyError
from core.domain.study import ObjectKind
from core.domain.volume import SeriesIssue, Volume
from core.domain.window import Window
from tests.fakes.review_engine import (
    SHAPE,
    DeferredTasks,
    FakeReviewEngine,
    geometry,
    segmentation,
    summary,
    volume,
)


def header(kind: ObjectKind, number: int = 1, **more: Any) -> DerivedHeader:
    return DerivedHeader(
        kind, f"9.{number}", "1.2", f"d{number}", "t1", "liver", "", "Lab", "2026-01-02", ("s1",), **more
    )


def loaded_volume() -> Volume:
    uids = tuple(f"1.{k}" for k in range(SHAPE[0]))
    return replace(volume(), sop_instance_uids=uids, windows=(Window(30, 60, "mine"),))


class Desk:
    """A reading area with the objects of a fake archive."""

    def __init__(self, *objects: DerivedObject) -> None:
        self.engine = FakeReviewEngine()
        self.engine.objects = list(objects)
        self.tasks = DeferredTasks()
        self.notices = NoticesPresenter()
        self.reading = ReadingPresenter()
        self.derived = DerivedPresenter(self.engine, self.tasks, self.notices, self.reading)
        self.shown: dict[Slot, ViewportState] = {}
        self.reading.attach(self)  # type: ignore[arg-type]
        self.generation = 0

    def show_layout(self, state: object) -> None:
        """The layout doesn't matter here."""

    show_scene = set_blinking = show_layout

    def show_viewport(self, slot: Slot, state: ViewportState) -> None:
        self.shown[slot] = state

    def show_readout(self, slot: Slot, text: str) -> None:
        """Nor does the readout."""

    def open(self, loaded: Volume | None = None, key: str = "s1") -> None:
        self.generation += 1
        opened = loaded or loaded_volume()
        described = replace(summary(key), series_uid=opened.series_uid)
        self.derived.begin(described, self.generation)
        self.reading.begin_series(described, self.generation)
        self.reading.show_volume(opened, self.generation)
        self.derived.take(opened)
        self.tasks.run_all()

    def show(self, uid: str = "9.1") -> None:
        self.derived.show(uid)
        self.tasks.run_all()

    @property
    def axial(self) -> ViewportState:
        return self.shown[Slot.AXIAL]


SEGMENTS = DerivedSegmentation(header(ObjectKind.SEGMENTATION), (segmentation(),))


def test_objects_are_listed_with_maker_and_date_and_not_shown_unasked() -> None:
    desk = Desk(SEGMENTS)
    desk.open()
    row = desk.derived.state.rows[0]
    assert (row.title, row.detail, row.shown) == ("Segments · liver", "Lab · 2026-01-02", False)
    assert desk.axial.overlays == () and not any(c[0] == "open_derived" for c in desk.engine.calls)


def test_labels_and_makers_are_not_told_while_identity_is_hidden() -> None:
    desk = Desk(SEGMENTS)
    desk.open()
    desk.derived.set_veiled(True)
    (line,) = desk.derived.state.lines
    assert (line.title, line.detail) == ("Segments", "2026-01-02")
    desk.derived.set_veiled(False)
    assert desk.derived.state.lines == desk.derived.state.rows


def test_segments_are_drawn_dashed_and_named_with_their_volume() -> None:
    desk = Desk(SEGMENTS)
    desk.open()
    desk.show()
    assert [layer.style.dashed for layer in desk.axial.overlays] == [True]
    assert desk.axial.labels is None, "results of our models are another layer"
    parts = desk.derived.state.rows[0].parts
    assert [part.name for part in parts] == ["left lung", "heart"]
    assert parts[0].detail == f"{SHAPE[0] * 20 * 4 * 0.02:.1f} ml"
    assert any(badge.text == "with archive objects" for badge in desk.axial.badges)


def test_a_part_and_an_object_can_be_hidden_and_everything_by_one_key() -> None:
    desk = Desk(SEGMENTS)
    desk.open()
    desk.show()
    desk.derived.toggle_part("9.1", 1)
    assert desk.axial.overlays[0].hidden == {1} and not desk.derived.state.rows[0].parts[0].visible
    desk.derived.hide_all()
    assert desk.axial.overlays == () and desk.derived.state.hidden
    desk.derived.hide_all()
    assert len(desk.axial.overlays) == 1
    desk.derived.toggle("9.1")
    assert desk.axial.overlays == () and not desk.derived.state.rows[0].shown
    desk.derived.toggle("9.1")
    assert desk.axial.overlays[0].hidden == {1}, "it comes back as it was left"
    assert sum(call[0] == "open_derived" for call in desk.engine.calls) == 1


def test_a_part_is_brought_into_view() -> None:
    desk = Desk(SEGMENTS)
    desk.open()
    desk.show()
    desk.derived.jump_to_part("9.1", 2)
    i, j, k = desk.reading.intent.cursor_ijk
    assert segmentation().labels[k, j, i] == 2


def test_volumes_are_not_told_where_geometry_is_unsafe() -> None:
    desk = Desk(SEGMENTS)
    desk.open(replace(loaded_volume(), issues=(SeriesIssue("geometry.other", "Steps differ.", True),)))
    desk.show()
    assert desk.derived.state.rows[0].parts[0].detail == "volume unsafe"


def test_fractions_are_a_map_from_0_to_1_of_the_visible_segments() -> None:
    definition = segmentation().segments[0]
    fraction = np.zeros(SHAPE, np.float32)
    fraction[:, 10:30, 8:12] = 0.7
    fractional = FractionalSegment(definition, fraction, "PROBABILITY")
    desk = Desk(replace(SEGMENTS, fractional=(fractional,), outside_voxels=12))
    desk.open()
    desk.show()
    values = desk.axial.values
    assert values is not None and (values.legend.low, values.legend.high) == ("0", "1")
    assert "probability" in values.note and "12 voxels" in desk.derived.state.rows[0].words
    assert (values.load() != 0).sum() == 20 * 4
    desk.derived.toggle_part("9.1", 1)
    assert desk.axial.values is None


def contours() -> StructureContours:
    square = np.array([[10.0, 12.0, 5], [20.0, 12.0, 5], [20.0, 30.0, 5], [10.0, 30.0, 5]])
    here = Contour(geometry().lps_of(square))
    beyond = Contour(geometry().lps_of(square + np.array([0.0, 0.0, 90.0])))
    regions = (
        RegionOfInterest(4, "PTV", (255, 0, 0), "PTV", (here, beyond)),
        RegionOfInterest(9, "cord", (0, 255, 0), "ORGAN", (here,)),
    )
    return StructureContours(header(ObjectKind.STRUCTURE_SET), regions)


def test_contours_are_exact_on_their_slice_and_rasterised_across() -> None:
    desk = Desk(contours())
    desk.open()
    desk.show()
    desk.reading.go_to_slice(5)
    lines = desk.axial.lines[0].load()
    assert len(lines) == 2 and desk.axial.overlays == ()
    grid = desk.axial.grid
    assert grid is not None
    column, row = lines[0].points[0]
    assert grid.ijk_of(column, row, desk.axial.number) == pytest.approx((10, 12, 5))
    assert len(desk.shown[Slot.CORONAL].overlays) == 1 and desk.shown[Slot.CORONAL].lines == ()
    assert "1 of 3 contours" in desk.derived.state.rows[0].words
    desk.reading.go_to_slice(6)
    assert desk.axial.lines == ()
    desk.reading.go_to_slice(5)
    desk.derived.toggle_part("9.1", 1)
    assert len(desk.axial.lines[0].load()) == 1


def test_a_parametric_map_has_a_scale_with_its_unit() -> None:
    values = np.linspace(0, 2000, SHAPE[0] * SHAPE[1] * SHAPE[2], dtype=np.float32).reshape(SHAPE)
    desk = Desk(ParametricMap(header(ObjectKind.PARAMETRIC_MAP), "ADC", "um2/s", geometry(), values))
    desk.open()
    desk.show()
    layer = desk.axial.values
    assert layer is not None and layer.legend.title == "ADC" and layer.legend.high == "1998 um2/s"
    assert "from the archive" in layer.note and layer.style.colors == "viridis"


def test_a_presentation_puts_graphics_on_its_image_and_lends_its_window() -> None:
    image = SourceImage("1.7")
    desk = Desk(
        PresentationState(
            header(ObjectKind.PRESENTATION),
            (image,),
            (Annotation(image, "point", ((4.0, 5.0),), "here"),),
            {"": Window(100, 300)},
            inverted=True,
            rotation_deg=90,
        )
    )
    desk.open()
    before = (desk.reading.intent.window, desk.reading.intent.inverted)
    desk.show()
    assert desk.reading.intent.window.center == 100 and desk.reading.intent.inverted
    desk.reading.go_to_slice(7)
    assert [mark.text for layer in desk.axial.marks for mark in layer.marks] == ["here"]
    desk.reading.show_words(lambda text: text.replace("here", "•••••"))
    assert [mark.text for layer in desk.axial.marks for mark in layer.marks] == ["•••••"], "it may be a name"
    desk.reading.show_words(str)
    assert "turned or mirrored" in desk.derived.state.rows[0].words
    desk.derived.hide("9.1")
    assert (desk.reading.intent.window, desk.reading.intent.inverted) == before and desk.axial.marks == ()


def report() -> StructuredReport:
    place = ReportPlace("point", tuple(map(tuple, geometry().lps_of([(30, 31, 9)]))))  # type: ignore[arg-type]
    items = (
        ReportItem(0, "Finding", "Nodule", value_type="CODE"),
        ReportItem(1, "Image", images=(SourceImage("1.3"),)),
        ReportItem(1, "Elsewhere", images=(SourceImage("7.7"),)),
    )
    measured = ReportMeasurement("Diameter", 8.2, "mm", "left lung", "N1", "Nodule", (place,))
    return StructuredReport(header(ObjectKind.REPORT), "CT report", items, (measured,), verified=False)


def test_a_report_is_read_beside_the_pictures_and_leads_to_its_places() -> None:
    desk = Desk(report())
    desk.open()
    desk.show()
    pane = desk.derived.state.pane
    assert pane is not None and pane.title == "CT report" and "Nobody has verified it." in pane.cautions
    assert [line.depth for line in pane.lines] == [0, 1, 1] and pane.measurements[0].value == "8.2 mm"
    desk.derived.choose(pane.measurements[0].target)
    assert desk.reading.intent.cursor_ijk == (30, 31, 9)
    assert desk.axial.marks[0].marks[0].text == "Diameter 8.2 mm"
    desk.derived.choose(pane.lines[1].target)
    assert desk.reading.intent.cursor_ijk[2] == 3
    desk.derived.close_pane()
    assert desk.derived.state.pane is None and not desk.derived.state.rows[0].shown
    assert not any(desk.axial.marks)


def test_an_image_of_another_series_opens_that_series_and_the_pane_stays() -> None:
    desk = Desk(report())
    desk.open()
    desk.show()
    other = replace(
        loaded_volume(), series_uid="s2", sop_instance_uids=tuple(f"7.{k}" for k in range(SHAPE[0]))
    )
    desk.engine.images["7.7"] = (summary("s2"), 0)
    opened: list[str] = []
    desk.derived.open_series = lambda found: opened.append(found.key)
    pane = desk.derived.state.pane
    assert pane is not None
    desk.derived.choose(pane.lines[2].target)
    desk.tasks.run_all()
    assert opened == ["s2"]
    desk.open(other, "s2")
    assert desk.reading.intent.cursor_ijk[2] == 7 and desk.derived.state.pane is not None
    desk.open()
    assert desk.derived.state.pane is None, "a series that the reader opens is read alone"


def test_an_image_that_is_nowhere_is_said() -> None:
    desk = Desk(report())
    desk.open()
    desk.show()
    pane = desk.derived.state.pane
    assert pane is not None
    desk.derived.choose(pane.lines[2].target)
    desk.tasks.run_all()
    assert "isn't in the library" in desk.notices.state.notices[-1].what


def test_an_image_of_another_time_point_brings_that_time_point() -> None:
    first = replace(loaded_volume(), time_points=2)
    second = replace(first, time_point=1, sop_instance_uids=tuple(f"7.{k}" for k in range(SHAPE[0])))
    desk = Desk(report())
    desk.open(first)
    desk.show()
    desk.engine.images["7.7"] = (summary("s1"), 1)
    desk.derived.go_to_time = lambda t: desk.reading.show_time_point((first, second)[t], desk.generation)
    pane = desk.derived.state.pane
    assert pane is not None
    desk.derived.choose(pane.lines[2].target)
    desk.tasks.run_all()
    assert desk.reading.volume is second and desk.reading.intent.cursor_ijk[2] == 7
    assert desk.derived.state.pane is not None


def test_key_images_are_gone_through_by_key() -> None:
    images = (SourceImage("1.4"), SourceImage("1.9"))
    desk = Desk(KeyObjects(header(ObjectKind.KEY_OBJECTS), "For teaching", "See both", images))
    desk.open()
    desk.show()
    seen = []
    for _ in range(3):
        desk.derived.step(1)
        seen.append(desk.reading.intent.cursor_ijk[2])
    assert seen == [4, 9, 4]
    desk.derived.step(-1)
    assert desk.reading.intent.cursor_ijk[2] == 9


def test_pages_are_drawn_for_the_width_of_the_pane() -> None:
    desk = Desk(Document(header(ObjectKind.DOCUMENT), "Letter", "application/pdf", 3))
    drawn: list[tuple[str, int, tuple[int, ...]]] = []
    desk.derived.page_drawn = lambda uid, page, pixels: drawn.append((uid, page, pixels.shape))
    desk.open()
    desk.show()
    desk.derived.set_page_width(200)
    desk.derived.turn_page(1)
    desk.tasks.run_all()
    assert drawn == [("9.1", 1, (280, 200, 3))], "the page that was left isn't shown any more"
    desk.derived.turn_page(5)
    desk.derived.zoom_page(1)
    desk.tasks.run_all()
    assert drawn[-1][1:] == (2, (350, 250, 3))


def test_a_refused_object_says_why_in_its_line() -> None:
    desk = Desk(SEGMENTS)
    desk.open()
    desk.engine.errors["open_derived"] = SafetyError("derived.frame", "It lies elsewhere.", "Check it.")
    desk.show()
    row = desk.derived.state.rows[0]
    assert (row.state, row.words, row.shown) == ("failed", "It lies elsewhere. Check it.", False)


def test_what_belongs_to_a_series_that_was_left_is_dropped() -> None:
    desk = Desk(SEGMENTS)
    desk.open()
    desk.derived.show("9.1")
    other = volume("s2")
    desk.open(other, "s2")
    assert desk.axial.overlays == () and desk.derived.state.rows == ()


def test_an_object_chosen_in_the_worklist_is_shown_and_brought_into_view() -> None:
    desk = Desk(SEGMENTS)
    desk.open()
    chosen = replace(summary("d1"), object_kind=ObjectKind.SEGMENTATION, source_series=("s1",))
    desk.derived.want(chosen)
    desk.tasks.run_all()
    assert desk.derived.state.rows[0].shown and len(desk.axial.overlays) == 1
    i, j, k = desk.reading.intent.cursor_ijk
    assert segmentation().labels[k, j, i] == 1


def test_a_report_without_its_pictures_can_be_read_alone() -> None:
    desk = Desk(report())
    desk.derived.show_alone(summary("d1"), 5)
    desk.tasks.run_all()
    assert desk.derived.state.pane is not None and desk.derived.state.pane.title == "CT report"
