"""Engines on other computers: off by default, told in words, and marked among the models."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import MagicMock

import pytest

from app.presenters.models import ModelsPresenter
from app.presenters.notices import NoticesPresenter
from app.presenters.ports import View
from app.presenters.ports_remote import EngineForm, EngineWords
from app.presenters.remote_engines import RemoteEnginesPresenter, RemoteEnginesState
from core.domain.errors import EnvironmentFault
from tests.fakes.remote_engines import READING_ROOM
from tests.fakes.review_engine import OFFER, DeferredTasks, FakeReviewEngine, summary, volume

FORM = EngineForm("reading-room", "https://reading-room.example:8000", "t" * 32)
REMOTE = replace(OFFER, id="server:reading-room/thorax-ct", server="reading-room", estimate_s=None)


class Section:
    """The presenter with a mock of its view."""

    def __init__(self) -> None:
        self.engine, self.tasks, self.notices = FakeReviewEngine(), DeferredTasks(), NoticesPresenter()
        self.presenter = RemoteEnginesPresenter(self.engine, self.tasks, self.notices)
        self.view = MagicMock(spec=View)
        self.presenter.attach(self.view)
        self.presenter.changed = MagicMock()

    @property
    def shown(self) -> RemoteEnginesState:
        state = self.view.show_state.call_args.args[0]
        assert isinstance(state, RemoteEnginesState)
        return state


@pytest.fixture
def section() -> Section:
    return Section()


def test_nothing_is_connected_until_somebody_does_it(section: Section) -> None:
    section.presenter.load()
    section.tasks.run_all()
    assert section.presenter.state.engines == () and section.shown.words.startswith("Off.")


def test_a_connected_server_is_listed_and_the_models_are_asked_again(section: Section) -> None:
    section.presenter.connect(FORM)
    assert section.shown.busy and section.shown.words == "Asking the server…"
    section.tasks.run_all()
    assert [engine.name for engine in section.shown.engines] == ["reading-room"]
    assert "Thorax organs 1.0.0" in section.shown.words and section.shown.level == "verified"
    assert not section.shown.busy
    section.presenter.changed.assert_called_once_with()  # type: ignore[attr-defined]
    assert "t" * 32 not in repr(FORM)


def test_what_is_wrong_is_said_in_the_section_with_its_remedy(section: Section) -> None:
    section.engine.errors["connect_engine"] = EnvironmentFault(
        "engine.unreachable", "It can't be reached.", "Check."
    )
    section.presenter.connect(FORM)
    section.tasks.run_all()
    assert (section.shown.level, section.shown.words) == ("danger", "It can't be reached. Check.")
    assert section.notices.state.notices == () and section.shown.engines == ()
    section.presenter.connect(replace(FORM, url=" "))
    assert section.shown.level == "caution"


def test_a_test_tells_how_the_server_is_and_a_removal_what_stays(section: Section) -> None:
    section.engine.servers = [READING_ROOM]
    section.presenter.load()
    section.tasks.run_all()
    assert section.shown.words == "On. One server is connected."
    section.engine.server_words = EngineWords(
        "reading-room", "danger", "reading-room doesn't know the token."
    )
    section.presenter.test("reading-room")
    section.presenter.test("reading-room")
    section.tasks.run_all()
    assert [call[0] for call in section.engine.calls].count("check_engine") == 1
    assert (section.shown.level, section.shown.words) == ("danger", "reading-room doesn't know the token.")
    section.presenter.remove("reading-room")
    section.tasks.run_all()
    assert section.shown.engines == () and "Results that it made stay." in section.shown.words
    section.presenter.changed.assert_called_once_with()  # type: ignore[attr-defined]


def test_a_server_that_does_not_say_what_its_model_was_made_for_is_a_caution(section: Section) -> None:
    section.engine.connect_engine = lambda _: replace(READING_ROOM, knows_needs=False)  # type: ignore[method-assign]
    section.presenter.connect(FORM)
    section.tasks.run_all()
    assert section.shown.level == "caution" and "read its card" in section.shown.words


def test_a_model_of_a_server_says_where_it_runs_and_when_the_server_is_away() -> None:
    engine, tasks = FakeReviewEngine(), DeferredTasks()
    engine.offers = [OFFER, REMOTE]
    engine.troubles = {"reading-room": "reading-room can't be reached."}
    models = ModelsPresenter(engine, tasks, NoticesPresenter())
    models.set_series(summary())
    tasks.run_some(1)
    tasks.run_some(1)
    here, there = models.state.rows
    assert (here.server, here.trouble, there.server, there.trouble) == ("", "", "reading-room", "")
    assert there.detail.startswith("on reading-room · fits")
    tasks.run_all()
    assert models.state.rows[1].trouble == "reading-room can't be reached."
    assert models.state.rows[0].trouble == ""
    models.set_volume(volume())
    models.run(REMOTE.id)
    tasks.run_all()
    assert ("submit_run", REMOTE.id, "s1") in engine.calls


def test_a_result_of_a_server_says_why_no_heat_map_is_offered() -> None:
    engine, tasks = FakeReviewEngine(), DeferredTasks()
    engine.offers = [replace(REMOTE, explain_methods=(), explain_why="It runs on another computer.")]
    models = ModelsPresenter(engine, tasks, NoticesPresenter())
    models.set_series(summary())
    tasks.run_all()
    served = models.offer_for("thorax-ct")
    assert served is not None and served.explain_why == "It runs on another computer."
    assert models.offer("thorax-ct") is None, "a run must name its server"
    engine.offers.append(OFFER)
    models.set_series(summary())
    tasks.run_all()
    assert models.offer_for("thorax-ct") == OFFER


def test_no_server_is_asked_while_none_is_connected() -> None:
    engine, tasks = FakeReviewEngine(), DeferredTasks()
    models = ModelsPresenter(engine, tasks, NoticesPresenter())
    models.set_series(summary())
    tasks.run_all()
    assert "unreachable" not in [call[0] for call in engine.calls]
