"""The study browser as a real window: keyboard and mouse, filters, marks, priors, hidden identity, many studies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QPoint, Qt
from PySide6.QtGui import QContextMenuEvent, QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLineEdit, QMenu

from app.bootstrap import Application, Start
from core.domain.study import ObjectKind, PatientIdentity, ReadStatus
from tests.fakes.browser_engine import derived_series, many_lines
from tests.fakes.review_engine import FakeReviewEngine, result, study, summary

pytestmark = pytest.mark.gui
Wait = Callable[..., None]
NO, SHIFT, CTRL = (
    Qt.KeyboardModifier.NoModifier,
    Qt.KeyboardModifier.ShiftModifier,
    Qt.KeyboardModifier.ControlModifier,
)


@pytest.fixture
def engine() -> FakeReviewEngine:
    fake = FakeReviewEngine()
    seg = derived_series("d1", "t1", ObjectKind.SEGMENTATION, "s1", description="Lobes")
    fake.studies = [
        study("t1", "P-1", summary("s1", "t1"), summary("s2", "t1", description="Lung kernel"), seg),
        study("t0", "P-1", summary("s0", "t0"), date="2024-05"),
        study("t9", "P-2", summary("s9", "t9", description="Kopf"), date="2025-02"),
    ]
    fake.patients["t0"] = fake.patients["t1"]
    fake.patients["t9"] = PatientIdentity("Łukasiewicz^<b>Jan</b>", "ID-9", "19600101", "M", "A-9")
    return fake


@pytest.fixture
def start(qt_application: QApplication) -> Iterator[Callable[[FakeReviewEngine], Application]]:
    """Return a function that starts the window over an engine; it is closed at the end."""
    started: list[Application] = []

    def begin(engine: FakeReviewEngine) -> Application:
        application = Application(qt_application, Start(), lambda _start, _publish: engine)
        application.window.resize(1280, 800)
        application.show()
        application.window.activateWindow()
        started.append(application)
        return application

    yield begin
    for application in started:
        application.window.close()
        application.window.deleteLater()


@pytest.fixture
def browser(
    start: Callable[[FakeReviewEngine], Application], engine: FakeReviewEngine, wait_until: Wait
) -> Application:
    running = start(engine)
    wait_until(lambda: at(running, "series:s9") >= 0, "the worklist")
    wait_until(lambda: running.window.isActiveWindow(), "the active window")
    return running


@pytest.fixture
def large(start: Callable[[FakeReviewEngine], Application], wait_until: Wait) -> Application:
    """Return the window over a library of 10,000 studies."""
    fake = FakeReviewEngine()
    fake.studies, fake.lines = [], many_lines(10_000)
    running = start(fake)
    wait_until(lambda: running.worklist.state.found == 10_000, "the worklist")
    wait_until(lambda: running.window.isActiveWindow(), "the active window")
    return running


def at(application: Application, key: str) -> int:
    """Return the number of a line, or -1."""
    index = application.worklist_panel.tree.model().index_of(key)
    return index.row() if index.isValid() else -1


def current(application: Application) -> str:
    """Return the key of the current line."""
    row = application.worklist_panel.tree.current_row()
    return row.key if row else ""


def press(application: Application, key: Qt.Key, modifier: Qt.KeyboardModifier = NO) -> None:
    """Press a key where the focus is, as a keyboard does."""
    QTest.keyClick(application.window.focusWidget() or application.window, key, modifier)


def type_search(application: Application, text: str) -> None:
    """Put the cursor into the search with its key and type."""
    application.reading_area.setFocus()
    press(application, Qt.Key.Key_Slash)
    assert application.top_bar.search.hasFocus()
    QTest.keyClicks(application.top_bar.search, text)


def entries(menu: QMenu) -> dict[str, object]:
    """Return the entries of a menu by their text without keys."""
    return {action.text().partition("\t")[0]: action for action in menu.actions() if action.text()}


def everything_visible(application: Application) -> str:
    """Return the texts, tool tips and accessible names of the whole window, lists included."""
    window, pieces = application.window, [application.window.windowTitle()]
    for widget in window.findChildren(object):
        for getter in ("text", "toolTip", "accessibleName", "placeholderText", "windowTitle", "title"):
            read = getattr(widget, getter, None)
            if callable(read) and not (isinstance(widget, QLineEdit) and getter == "text"):
                try:
                    pieces.append(str(read()))
                except TypeError:
                    continue
    for view in (application.worklist_panel.tree, application.worklist_panel.priors_list):
        model = view.model()
        roles = (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole, Qt.ItemDataRole.AccessibleTextRole)
        pieces += [
            str(model.index(row, 0).data(int(role))) for row in range(model.rowCount()) for role in roles
        ]
    pieces += [application.top_bar.search.displayText()]
    return " ".join(pieces)


def test_a_study_is_found_and_opened_without_the_mouse(browser: Application, wait_until: Wait) -> None:
    type_search(browser, "kopf")
    wait_until(lambda: browser.worklist.state.found == 1, "the study")
    press(browser, Qt.Key.Key_Down)
    assert browser.worklist_panel.tree.hasFocus()
    assert current(browser) == "patient:P-2"
    press(browser, Qt.Key.Key_Down)
    press(browser, Qt.Key.Key_Down)
    assert current(browser) == "series:s9"
    press(browser, Qt.Key.Key_Return)
    wait_until(lambda: browser.worklist.state.current_series == "s9", "the open series")
    press(browser, Qt.Key.Key_Escape)
    assert browser.reading_area.hasFocus()
    assert browser.worklist.state.query == "kopf"


def test_escape_clears_the_search_and_goes_back_to_the_picture(
    browser: Application, wait_until: Wait
) -> None:
    browser.opener.open_series("s1")
    wait_until(lambda: browser.reading.volume is not None, "the picture")
    type_search(browser, "nobody")
    wait_until(lambda: browser.worklist.state.found == 0, "the empty list")
    assert browser.worklist_panel.filters.clear.isVisible()
    press(browser, Qt.Key.Key_Escape)
    assert browser.reading_area.hasFocus() and browser.top_bar.search.text() == ""
    wait_until(lambda: browser.worklist.state.found == 3, "the whole list")
    assert browser.reading.volume is not None
    assert not browser.worklist_panel.filters.clear.isVisible()


def test_arrows_fold_and_unfold(browser: Application, wait_until: Wait) -> None:
    press(browser, Qt.Key.Key_W)
    press(browser, Qt.Key.Key_Home)
    assert current(browser) == "patient:P-1"
    press(browser, Qt.Key.Key_Left)
    assert at(browser, "study:t1") < 0
    press(browser, Qt.Key.Key_Right)
    press(browser, Qt.Key.Key_Right)
    assert current(browser) == "study:t1"
    press(browser, Qt.Key.Key_Left)
    assert at(browser, "series:s1") < 0
    press(browser, Qt.Key.Key_Right)
    wait_until(lambda: at(browser, "series:s1") > 0, "the series")
    press(browser, Qt.Key.Key_Right)
    assert current(browser) == "series:s1"
    press(browser, Qt.Key.Key_Left)
    assert current(browser) == "study:t1"
    press(browser, Qt.Key.Key_End)
    assert current(browser) == "series:s9"


def test_letters_go_to_a_patient_and_decide_nothing(browser: Application, engine: FakeReviewEngine) -> None:
    press(browser, Qt.Key.Key_W)
    press(browser, Qt.Key.Key_Home)
    for letter in (Qt.Key.Key_L, Qt.Key.Key_U):
        press(browser, letter)
    assert current(browser) == "patient:P-2"
    press(browser, Qt.Key.Key_Y)
    assert engine.recorded == [] and not browser.identity.hidden


def test_objects_are_listed_under_their_source(browser: Application) -> None:
    assert at(browser, "series:d1") == at(browser, "series:s1") + 1
    row = browser.worklist.state.rows[at(browser, "series:d1")]
    assert row.depth == 3 and browser.worklist.words(row).icon == "segment"


def test_a_prior_is_opened_with_the_mouse_and_with_keys(browser: Application, wait_until: Wait) -> None:
    browser.opener.open_series("s1")
    wait_until(lambda: browser.worklist_panel.priors_list.count() == 1, "the prior")
    browser.reading_area.setFocus()
    press(browser, Qt.Key.Key_O)
    wait_until(lambda: browser.worklist.state.current_study == "t0", "the prior by its key")
    wait_until(lambda: browser.top_bar._newer.isVisible(), "the mark of a prior")
    assert browser.top_bar._newer.text() == "Prior · newest is 2026-01"
    browser.reading_area.setFocus()
    press(browser, Qt.Key.Key_W, SHIFT)
    assert browser.worklist_panel.priors_list.hasFocus()
    press(browser, Qt.Key.Key_Return)
    wait_until(lambda: browser.worklist.state.current_study == "t1", "the newer study")
    assert not browser.top_bar._newer.isVisible()
    priors = browser.worklist_panel.priors_list
    wait_until(lambda: priors.count() == 1, "the prior again")
    spot = priors.visualItemRect(priors.item(0)).center()
    QTest.mouseClick(priors.viewport(), Qt.MouseButton.LeftButton, pos=spot)
    wait_until(lambda: browser.worklist.state.current_study == "t0", "the prior by the mouse")


def test_opening_makes_a_study_in_progress(
    browser: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    browser.opener.open_study("t9")
    wait_until(lambda: engine.study_line("t9").status is ReadStatus.IN_PROGRESS, "the status")
    wait_until(lambda: browser.worklist.line("t9").status is ReadStatus.IN_PROGRESS, "the shown status")


def test_several_studies_are_marked_with_keys(
    browser: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    tree = browser.worklist_panel.tree
    press(browser, Qt.Key.Key_W)
    for key in ("study:t1", "study:t9"):
        spot = tree.visualRect(tree.model().index_of(key)).center()
        QTest.mouseClick(tree.viewport(), Qt.MouseButton.LeftButton, NO if key == "study:t1" else CTRL, spot)
    wait_until(lambda: set(browser.marks.studies) == {"t1", "t9"}, "the choice")
    press(browser, Qt.Key.Key_3, CTRL)
    wait_until(lambda: engine.marks == dict.fromkeys(("t1", "t9"), ReadStatus.REVIEWED), "the status")


def test_shift_selects_whatever_the_key_scheme_says(browser: Application, wait_until: Wait) -> None:
    tree = browser.worklist_panel.tree
    press(browser, Qt.Key.Key_W)
    press(browser, Qt.Key.Key_End)
    press(browser, Qt.Key.Key_Up)
    press(browser, Qt.Key.Key_Up, SHIFT)
    press(browser, Qt.Key.Key_Up, SHIFT)
    assert len(tree.selected_rows()) == 3
    assert browser.marks.studies == ("t0", "t9")
    press(browser, Qt.Key.Key_A, CTRL)
    assert browser.marks.studies == ("t1", "t0", "t9")


def test_a_tag_is_asked_for_in_its_place(
    browser: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    press(browser, Qt.Key.Key_W)
    press(browser, Qt.Key.Key_Home)
    press(browser, Qt.Key.Key_T, CTRL)
    question = browser.worklist_panel.question
    assert question.answer.hasFocus() and QApplication.activeModalWidget() is None
    QTest.keyClicks(question.answer, "teaching")
    press(browser, Qt.Key.Key_Return)
    wait_until(lambda: engine.tags == {"t1": ("teaching",), "t0": ("teaching",)}, "the tag")
    assert browser.worklist_panel.tree.hasFocus() and not question.isVisible()
    press(browser, Qt.Key.Key_T, CTRL)
    press(browser, Qt.Key.Key_Escape)
    assert not question.isVisible() and browser.worklist_panel.tree.hasFocus()


def test_the_menu_key_offers_what_can_be_done(
    browser: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    asked: list[tuple[str, ...]] = []
    browser.marks.delete_requested = asked.append
    press(browser, Qt.Key.Key_W)
    tree = browser.worklist_panel.tree
    tree.setCurrentIndex(tree.model().index_of("study:t9"))
    event = QContextMenuEvent(QContextMenuEvent.Reason.Keyboard, QPoint(), QPoint(), NO)
    QApplication.sendEvent(tree, event)
    menu = browser.worklist_panel._menu
    assert menu.isVisible()
    found = entries(menu)
    assert {"Open", "Mark as reviewed", "Tags", "Delete from the library…"} <= found.keys()
    menu.close()
    found["Mark as reviewed"].trigger()  # type: ignore[attr-defined]
    found["Delete from the library…"].trigger()  # type: ignore[attr-defined]
    assert asked == [("t9",)]
    wait_until(lambda: engine.marks.get("t9") is ReadStatus.REVIEWED, "the status")


def test_filters_are_chosen_saved_used_and_deleted(browser: Application, wait_until: Wait) -> None:
    bar = browser.worklist_panel.filters
    bar.status.menu().aboutToShow.emit()
    entries(bar.status.menu())["Unread"].trigger()  # type: ignore[attr-defined]
    browser.worklist.search("kopf")
    wait_until(lambda: browser.worklist.state.found == 1, "the study")
    assert bar.status.text() == "Unread" and bar._found.text() == "1 of 3 studies"
    assert browser.top_bar.search.text() == "kopf"
    browser.reading_area.setFocus()
    press(browser, Qt.Key.Key_S, CTRL | SHIFT)
    QTest.keyClicks(browser.worklist_panel.question.answer, "Heads & more")
    press(browser, Qt.Key.Key_Return)
    wait_until(lambda: len(browser.worklist.state.saved) == 1, "the saved filter")
    QTest.mouseClick(bar.clear, Qt.MouseButton.LeftButton)
    wait_until(lambda: browser.worklist.state.found == 3, "the whole list")
    assert browser.top_bar.search.text() == ""
    press(browser, Qt.Key.Key_K, CTRL)
    QTest.keyClicks(browser.window.focusWidget(), "filter: heads")
    press(browser, Qt.Key.Key_Return)
    wait_until(lambda: browser.worklist.state.found == 1, "the filter of the palette")
    bar.more.menu().aboutToShow.emit()
    forget = next(a.menu() for a in bar.more.menu().actions() if a.text() == "Delete a saved filter")
    entries(forget)["Heads && more"].trigger()  # type: ignore[attr-defined]
    wait_until(lambda: browser.worklist.state.saved == (), "the deletion")


def test_details_and_order_are_kept(browser: Application, engine: FakeReviewEngine, wait_until: Wait) -> None:
    menu = browser.worklist_panel.columns_button.menu()
    menu.aboutToShow.emit()
    entries(menu)["Name"].trigger()  # type: ignore[attr-defined]
    wait_until(lambda: browser.worklist.order()[0] == "t9", "the order by name")
    menu.aboutToShow.emit()
    entries(menu)["Series and pictures"].trigger()  # type: ignore[attr-defined]
    wait_until(lambda: "counts" in engine.chosen.worklist_columns, "the kept details")
    assert engine.chosen.worklist_sort == "name"


def test_one_key_hides_who_the_patients_are(browser: Application, wait_until: Wait) -> None:
    browser.opener.open_series("s1")
    wait_until(lambda: browser.worklist_panel.priors_list.count() == 1, "the prior")
    type_search(browser, "muster")
    wait_until(lambda: browser.worklist.state.found == 2, "the search")
    browser._arrange_worklist(("patient_id", "birth_date", "age_sex", "accession"), "imported")
    before = everything_visible(browser)
    assert all(text in before for text in ("Muster", "ID-1", "1970-01-01", "A-1", "muster"))
    press(browser, Qt.Key.Key_F12)
    after = everything_visible(browser)
    assert not any(text in after for text in ("Muster", "Erika", "ID-1", "1970", "A-1", "muster"))
    assert "P-1" in after
    press(browser, Qt.Key.Key_F12)
    assert "Muster, Erika" in everything_visible(browser)


def test_hidden_identity_stays_hidden_after_the_next_start(
    browser: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    press(browser, Qt.Key.Key_F12)
    wait_until(lambda: engine.chosen.identity_hidden, "the setting")


def test_names_of_files_are_never_markup(browser: Application) -> None:
    index = browser.worklist_panel.tree.model().index_of("patient:P-2")
    assert "&lt;b&gt;Jan" in str(index.data(int(Qt.ItemDataRole.ToolTipRole)))
    assert "<b>Jan" in str(index.data(int(Qt.ItemDataRole.AccessibleTextRole)))


def test_what_waits_is_reached_from_the_top_bar(
    browser: Application, engine: FakeReviewEngine, wait_until: Wait
) -> None:
    engine.results = [replace(result("r9", "s9"), study_uid="t9")]
    browser.worklist.refresh_waiting()
    wait_until(lambda: browser.top_bar._waiting.isVisible(), "the badge")
    QTest.mouseClick(browser.top_bar._waiting, Qt.MouseButton.LeftButton)
    wait_until(lambda: browser.worklist.state.current_series == "s9", "the series that waits")


def test_an_import_of_two_patients_is_a_caution(browser: Application, wait_until: Wait) -> None:
    browser.imports.import_sample()
    wait_until(lambda: not browser.imports.busy, "the import")
    wait_until(
        lambda: any("2 different patients" in n.what for n in browser.notices.state.notices), "the caution"
    )


def test_ten_thousand_studies_are_listed_and_walked(large: Application, wait_until: Wait) -> None:
    tree = large.worklist_panel.tree
    rows = len(large.worklist.state.rows)
    assert rows > 15_000 and tree.model().rowCount() == rows
    press(large, Qt.Key.Key_W)
    press(large, Qt.Key.Key_End)
    assert tree.currentIndex().row() == rows - 1
    press(large, Qt.Key.Key_Home)
    assert tree.currentIndex().row() == 0
    type_search(large, "okafor")
    wait_until(lambda: large.worklist.state.found == 1000, "the search")
    assert large.worklist_panel.filters._found.text() == "1,000 of 10,000 studies"
    press(large, Qt.Key.Key_Escape)
    wait_until(lambda: large.worklist.state.found == 10_000, "the whole list")


def test_the_place_in_the_list_is_kept_when_a_study_is_unfolded(large: Application, wait_until: Wait) -> None:
    tree = large.worklist_panel.tree
    engine: FakeReviewEngine = large.engine  # type: ignore[assignment]
    tree.scrollTo(tree.model().index(9000, 0))
    place = tree.verticalScrollBar().value()
    row = next(r for r in large.worklist.state.rows[9000:] if r.kind == "study")
    engine.studies = [study(row.uid, "P", summary("sx", row.uid))]
    tree.setCurrentIndex(tree.model().index_of(row.key))
    large.worklist.set_unfolded(row, True)
    wait_until(lambda: at(large, "series:sx") > 0, "the series")
    assert tree.verticalScrollBar().value() == pytest.approx(place, abs=200)
    assert current(large) == row.key


def test_colour_thumbnails_are_drawn(browser: Application, engine: FakeReviewEngine) -> None:
    red = np.zeros((64, 64, 3), dtype=np.uint8)
    red[..., 0] = 220
    browser.worklist_panel._on_thumbnail("s1", red)
    tree = browser.worklist_panel.tree
    spot = tree.visualRect(tree.model().index_of("series:s1"))
    QApplication.sendPostedEvents(None, QEvent.Type.UpdateRequest)
    colour = tree.viewport().grab(spot).toImage().pixelColor(8 + 24 + 4 + 10, 16)
    assert colour.red() > 150 and colour.blue() < 60


def fill_library(home: Path) -> None:
    """Put three studies of two invented patients into a library, without files."""
    from core.domain.study import StudySummary
    from core.services.engine import open_engine

    erika = PatientIdentity("Zzmarker^Erika", "ID-1", "19700101", "F", "A-1")
    jan = PatientIdentity("Yamada^Tarou=山田^太郎", "ID-2", "19600101", "M", "A-2")
    with open_engine(home, actor="test") as engine, engine.unit_of_work() as uow:
        for uid, identity, month in (
            ("1.1", erika, "2026-01"),
            ("1.2", erika, "2024-05"),
            ("1.3", jan, "2025-02"),
        ):
            pseudonym = engine.vault.pseudonym(identity, uid)
            day = f"2026-01-0{uid[-1]}T00:00:00+00:00"
            line = StudySummary(uid, pseudonym, "CT thorax", (), "unread", (), month, day)
            uow.studies.add(line, identity)
            key = f"{uid}.7"
            uow.series.put(replace(summary(key, uid), series_uid=key), "dicom")


def test_a_real_library_is_searched_marked_and_filtered(
    qt_application: QApplication, tmp_path: Path, wait_until: Wait
) -> None:
    fill_library(tmp_path / "home")
    running = Application(qt_application, Start(home=tmp_path / "home"))
    try:
        running.show()
        wait_until(lambda: running.worklist.state.total == 3, "the studies")
        wait_until(lambda: at(running, "series:1.3.7") >= 0, "the series")
        running.worklist.search("山田")
        wait_until(lambda: running.worklist.order() == ["1.3"], "the study found by its ideographic name")
        running.marks.choose(["1.3"])
        running.marks.set_status(ReadStatus.REVIEWED)
        running.marks.toggle_tag("teaching")
        wait_until(lambda: running.worklist.state.tags == ("teaching",), "the tag")
        running.marks.toggle_tag("yamada")
        wait_until(lambda: bool(running.notices.state.notices), "the refusal of a tag that names the patient")
        running.worklist.narrow(statuses=("reviewed",))
        running.saved_filters.save("Done")
        wait_until(lambda: len(running.worklist.state.saved) == 1, "the saved filter")
        running.worklist.clear_filters()
        wait_until(lambda: running.worklist.state.found == 3, "all studies")
        running.saved_filters.use(running.worklist.state.saved[0].filter_id)
        wait_until(lambda: running.worklist.order() == ["1.3"], "the studies of the filter")
        running.worklist.set_current(summary("1.1.7", "1.1"))
        running.worklist.clear_filters()
        wait_until(lambda: [p.uid for p in running.worklist.state.priors] == ["1.2"], "the prior")
        running.marks.undo()
        running.marks.undo()
        wait_until(lambda: running.worklist.line("1.3").status is ReadStatus.UNREAD, "the marks taken back")
    finally:
        running.window.close()
        running.window.deleteLater()


def corners(running: Application) -> list[str]:
    return [state.corners.top_left for state in running.reading._shown.values()]


def test_viewports_show_no_name_while_identity_is_hidden(
    start: Callable[[FakeReviewEngine], Application], engine: FakeReviewEngine, wait_until: Wait
) -> None:
    named = summary("s1", "t1", description="Thorax MUSTER Erika")
    engine.studies = [study("t1", "P-1", named)]
    running = start(engine)
    wait_until(lambda: running.worklist.line("t1") is not None, "the study")
    running.opener.open_study("t1")
    wait_until(lambda: running.reading.volume is not None, "the volume")
    running.reading.show_volume(replace(running.reading.volume, description=named.description))
    assert any("MUSTER" in text for text in corners(running))
    running.identity.set_hidden(True)
    assert corners(running) and not any("MUSTER" in t or "Erika" in t for t in corners(running))
    assert all("Thorax" in text for text in corners(running))
    running.reading.begin_series(named, 99)
    notice = running.reading._shown_layout.notice
    assert notice is not None and "Thorax" in notice.detail and "Erika" not in notice.detail
    running.identity.set_hidden(False)
    notice = running.reading._shown_layout.notice
    assert notice is not None and "Erika" in notice.detail, "shown again at once"
    running.identity.set_hidden(True)
    running.tags.inspect(replace(named, key="s9"))
    assert "Erika" not in running.tags.state.elsewhere and "Thorax" in running.tags.state.elsewhere
    assert running.worklist.text_of("unknown study", "Erika") == "", "what can't be masked isn't shown"
    masked = running.worklist.text_of("t1", "at\nErika\nleft")
    assert masked.startswith("at\n") and masked.endswith("\nleft") and "Erika" not in masked


def test_reading_status_tags_and_filters_survive_a_restart(
    qt_application: QApplication, tmp_path: Path, wait_until: Wait
) -> None:
    """Over the real engine: opening, keys, undo, and then the same window started again on the same library."""
    fill_library(tmp_path / "home")

    def begin() -> Application:
        running = Application(qt_application, Start(home=tmp_path / "home"))
        running.window.resize(1280, 800)
        running.show()
        running.window.activateWindow()
        wait_until(lambda: running.worklist.state.total == 3, "the studies")
        wait_until(lambda: at(running, "series:1.3.7") >= 0, "the series")
        return running

    def status(running: Application, uid: str) -> ReadStatus:
        line = running.worklist.line(uid)
        assert line is not None
        return ReadStatus(line.status)

    def end(running: Application) -> None:
        running.window.close()
        running.window.deleteLater()

    first = begin()
    try:
        assert {status(first, uid) for uid in ("1.1", "1.2", "1.3")} == {ReadStatus.UNREAD}
        first.opener.open_study("1.1")
        wait_until(lambda: status(first, "1.1") is ReadStatus.IN_PROGRESS, "opening begins the reading")
        tree = first.worklist_panel.tree
        tree.setCurrentIndex(tree.model().index_of("study:1.2"))
        tree.setFocus()
        keys = {name: first.registry.keys_of(f"study.status.{name}") for name in ("reviewed", "in_progress")}
        assert all(keys.values()), "each status has a key"
        QTest.keySequence(first.window.focusWidget(), QKeySequence(keys["reviewed"][0]))
        wait_until(lambda: status(first, "1.2") is ReadStatus.REVIEWED, "the key")
        tree.setCurrentIndex(tree.model().index_of("study:1.3"))
        first.marks.toggle_tag("teaching")
        wait_until(lambda: first.worklist.state.tags == ("teaching",), "the tag")
        QTest.keySequence(first.window.focusWidget(), QKeySequence(keys["reviewed"][0]))
        wait_until(lambda: status(first, "1.3") is ReadStatus.REVIEWED, "the key again")
        first.registry.trigger("study.undo")
        wait_until(lambda: status(first, "1.3") is ReadStatus.UNREAD, "the key taken back")
        first.worklist.narrow(statuses=("unread",), tags=("teaching",))
        first.saved_filters.save("To teach")
        wait_until(lambda: len(first.worklist.state.saved) == 1, "the saved filter")
    finally:
        end(first)

    again = begin()
    try:
        found = [status(again, uid) for uid in ("1.1", "1.2", "1.3")]
        assert found == [ReadStatus.IN_PROGRESS, ReadStatus.REVIEWED, ReadStatus.UNREAD]
        row = again.worklist.state.rows[at(again, "study:1.3")]
        assert again.worklist.words(row).chips == ("teaching",) and again.worklist.state.tags == ("teaching",)
        (kept,) = again.worklist.state.saved
        assert kept.name == "To teach"
        again.saved_filters.use(kept.filter_id)
        wait_until(lambda: again.worklist.order() == ["1.3"], "the studies of the filter")
    finally:
        end(again)
