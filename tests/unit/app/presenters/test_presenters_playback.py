"""Time points and cine: what is shown when, what is loaded ahead, what a slow machine says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.presenters.notices import NoticesPresenter
from app.presenters.playback import FRAMES, STACK, TIME, PlaybackPresenter
from app.presenters.reading import ReadingPresenter
from app.presenters.reading_state import Slot
from app.presenters.time_points import TimePointStore
from core.domain.errors import EnvironmentFault
from core.domain.study import SeriesKind
from core.domain.volume import SeriesIssue, Volume
from core.domain.window import Window
from tests.fakes.review_engine import SHAPE, DeferredTasks, FakeReviewEngine, summary, volume

SIZE = volume().voxels.nbytes


class Clock:
    def __init__(self) -> None:
        self.interval = 0

    def start(self, interval_ms: int) -> None:
        self.interval = interval_ms

    def stop(self) -> None:
        self.interval = 0


class Desk:
    """A reading area, its time line and an engine whose answers come when the test lets them."""

    def __init__(self, time_points: int = 1, budget_bytes: int = 100 * SIZE) -> None:
        self.engine = FakeReviewEngine()
        self.engine.time_points = time_points
        self.tasks = DeferredTasks()
        self.notices = NoticesPresenter()
        self.reading = ReadingPresenter()
        self.store = TimePointStore(self.engine, self.tasks, budget_bytes)
        self.playback = PlaybackPresenter(self.notices, self.reading, self.store)
        self.clock = Clock()
        self.playback.set_clock(self.clock)
        self.generation = 0

    def open(self, loaded: Volume | None = None, **changes: object) -> None:
        self.generation += 1
        shown = loaded or replace(volume(), time_points=self.engine.time_points)
        opened = replace(summary(), time_points=shown.time_points, **changes)  # type: ignore[arg-type]
        self.playback.begin(opened, self.generation)
        self.reading.begin_series(opened, self.generation)
        self.reading.show_volume(shown, self.generation)
        self.playback.take(shown)

    @property
    def shown(self) -> int:
        assert self.reading.volume is not None
        return self.reading.volume.time_point

    @property
    def loaded(self) -> list[int]:
        return [call[2] for call in self.engine.calls if call[0] == "load_time_point"]


def cine(times_ms: tuple[float, ...]) -> Volume:
    flat = replace(volume(), frame_times_ms=times_ms, issues=(SeriesIssue("geometry.no_position", "None."),))
    return replace(flat, modality="US")


def test_a_stack_has_no_time_line_until_it_is_played() -> None:
    desk = Desk()
    desk.open()
    assert desk.playback.state.kind == STACK and not desk.playback.state.visible
    desk.playback.toggle()
    assert desk.playback.state.visible and desk.playback.state.playing and desk.clock.interval > 0


def test_another_time_point_keeps_slice_zoom_and_window() -> None:
    desk = Desk(time_points=3)
    desk.open()
    desk.tasks.run_all()
    desk.reading.go_to_slice(7)
    desk.reading.zoom(Slot.AXIAL, 2.0, (400, 400), (200, 200))
    desk.reading.set_window(Window(11, 22))
    before = desk.reading.intent
    desk.playback.step_time(1)
    assert desk.shown == 1 and desk.reading.intent == before
    assert desk.playback.state.words == "t 2/3"


def test_neighbours_are_loaded_ahead_one_at_a_time() -> None:
    desk = Desk(time_points=5)
    desk.open()
    assert desk.store.loading == 1
    desk.tasks.run_all()
    assert desk.loaded == [1, 4, 2, 3] and set(desk.store.kept) == {0, 1, 2, 3, 4}


def test_no_more_is_kept_than_the_budget_holds() -> None:
    desk = Desk(time_points=20, budget_bytes=4 * SIZE + 10)
    desk.open()
    desk.tasks.run_all()
    assert len(desk.store.kept) == 4 and 0 in desk.store.kept
    for _ in range(9):
        desk.playback.step_time(1)
        desk.tasks.run_all()
        assert len(desk.store.kept) <= 4
    assert desk.shown == 9 and {9, 10, 11} <= set(desk.store.kept)


def test_one_time_point_is_kept_even_when_it_is_larger_than_the_budget() -> None:
    desk = Desk(time_points=3, budget_bytes=10)
    desk.open()
    desk.tasks.run_all()
    assert desk.loaded == [] and desk.store.kept == (0,)
    desk.playback.step_time(1)
    desk.tasks.run_all()
    assert desk.shown == 1 and desk.store.kept == (1,)


def test_the_old_picture_keeps_its_name_until_the_new_one_is_there() -> None:
    desk = Desk(time_points=9, budget_bytes=2 * SIZE)
    desk.open()
    desk.tasks.run_all()
    desk.playback.go_to(6)
    assert desk.shown == 0 and desk.playback.state.words == "t 1/9" and desk.playback.state.loading == 7
    desk.tasks.run_all()
    assert desk.shown == 6 and desk.playback.state.loading == 0


def test_quick_steps_load_only_where_the_reader_stops() -> None:
    desk = Desk(time_points=9, budget_bytes=2 * SIZE)
    desk.open()
    desk.tasks.run_all()
    for _ in range(5):
        desk.playback.step_time(1)
    desk.tasks.run_all()
    assert desk.shown == 5


def test_a_time_point_of_a_series_that_was_left_is_dropped() -> None:
    desk = Desk(time_points=3)
    desk.open()
    desk.playback.step_time(1)
    other = replace(volume("s2"), time_points=3)
    desk.open(other, key="s2", series_uid="s2")
    desk.tasks.run_all()
    assert desk.shown == 0 and desk.reading.volume is other


def test_a_time_point_that_cannot_be_read_is_said() -> None:
    desk = Desk(time_points=3)
    desk.open()
    desk.engine.errors["load_time_point"] = EnvironmentFault(
        "file.missing", "A file is gone.", "Put it back."
    )
    desk.playback.step_time(1)
    desk.tasks.run_all()
    assert desk.shown == 0 and desk.playback.state.loading == 0
    assert desk.notices.state.notices[-1].what == "A file is gone."


def test_frames_come_when_the_recording_says() -> None:
    desk = Desk()
    times = tuple(float(t) for t in (0, 100, 200, 800, *range(900, 900 + 100 * (SHAPE[0] - 4), 100)))
    desk.open(cine(times), kind=SeriesKind.CINE)
    assert desk.playback.state.kind == FRAMES and desk.playback.state.stated
    desk.playback.slide_to(0)
    desk.playback.toggle()
    seen = []
    for now in (0.0, 150.0, 250.0, 500.0, 790.0, 810.0):
        desk.playback.tick(now)
        seen.append(desk.playback.state.position)
    assert seen == [0, 1, 2, 2, 2, 3]


def test_cine_loops_and_keeps_its_tempo_when_ticks_are_late() -> None:
    desk = Desk()
    desk.open(cine(tuple(50.0 * n for n in range(SHAPE[0]))), kind=SeriesKind.CINE)
    desk.playback.slide_to(0)
    desk.playback.toggle()
    desk.playback.tick(1000.0)
    desk.playback.tick(1000.0 + 50.0 * 10 + 1)
    assert desk.playback.state.position == 10, "ten frames are due, the nine between are left out"
    desk.playback.tick(1000.0 + 50.0 * (SHAPE[0] + 2) + 1)
    assert desk.playback.state.position == 2


def test_a_machine_that_is_too_slow_says_how_fast_it_is() -> None:
    desk = Desk()
    desk.open(cine(tuple(20.0 * n for n in range(SHAPE[0]))), kind=SeriesKind.CINE)
    desk.playback.toggle()
    for n in range(20):
        now = 1000.0 + 100.0 * n
        desk.playback.tick(now)
        desk.playback.painted(now + 1)
    assert desk.playback.state.behind and desk.playback.state.actual == pytest.approx(10.0, abs=0.5)
    desk.playback.stop()
    assert not desk.playback.state.behind and desk.clock.interval == 0


def test_speed_changes_within_limits() -> None:
    desk = Desk()
    desk.open()
    base = desk.playback.state.rate
    desk.playback.faster(1)
    assert desk.playback.state.rate == pytest.approx(1.5 * base)
    for _ in range(20):
        desk.playback.faster(-1)
    assert desk.playback.state.rate == pytest.approx(0.1 * base)
    desk.playback.set_rate(1000.0)
    assert desk.playback.state.rate == 120.0


def test_playing_over_time_waits_for_what_is_still_read() -> None:
    desk = Desk(time_points=4, budget_bytes=2 * SIZE)
    desk.open()
    desk.tasks.run_all()
    desk.playback.toggle()
    desk.playback.tick(0.0)
    desk.playback.tick(450.0)
    assert desk.playback.state.loading == 3 and desk.shown == 0
    desk.playback.tick(5000.0)
    assert desk.shown == 0, "nothing is skipped while nothing can be shown"
    desk.tasks.run_all()
    assert desk.shown == 2


def test_scrolling_by_hand_moves_the_line_and_a_hand_on_the_slider_stops_playing() -> None:
    desk = Desk()
    desk.open(cine(tuple(50.0 * n for n in range(SHAPE[0]))), kind=SeriesKind.CINE)
    desk.reading.scroll(2)
    assert desk.playback.state.position == SHAPE[0] // 2 + 2
    desk.playback.toggle()
    desk.playback.slide_to(4)
    assert not desk.playback.state.playing and desk.playback.state.words == f"frame 5/{SHAPE[0]}"


def test_opening_another_series_stops_everything() -> None:
    desk = Desk(time_points=3)
    desk.open()
    desk.playback.toggle()
    assert desk.playback.state.kind == TIME and desk.playback.state.playing
    desk.playback.begin(summary("s2"), 9)
    assert not desk.playback.state.playing and not desk.playback.state.visible and desk.clock.interval == 0
    desk.playback.toggle()
    assert not desk.playback.state.playing


def test_a_cancelled_load_is_no_error() -> None:
    desk = Desk(time_points=9, budget_bytes=2 * SIZE)
    desk.open()
    desk.playback.go_to(5)
    desk.playback.go_to(7)
    desk.tasks.run_all()
    assert desk.shown == 7 and desk.notices.state.notices == ()
