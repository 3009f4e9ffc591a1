"""Key schemes: no key does two things, every key means an action, every action has a name."""

from __future__ import annotations

import pytest

from app.actions.action import Action, ActionRegistry
from app.actions.schemes import KeyScheme, scheme_names


@pytest.mark.parametrize("name", scheme_names())
def test_no_key_does_two_things(name: str) -> None:
    assert KeyScheme.load(name).conflicts() == {}


def test_there_are_schemes_for_other_hands() -> None:
    assert set(scheme_names()) >= {"default", "horos-like", "ohif-like"}
    assert KeyScheme.load("horos-like").keys["finding.next"] == ("N",)


def test_a_conflict_is_found() -> None:
    scheme = KeyScheme("x", "X", {"a": ("N",), "b": ("n", "M")})
    assert scheme.conflicts() == {"n": ("a", "b")}


@pytest.mark.parametrize("name", scheme_names())
def test_every_key_means_an_action_of_the_window(name: str) -> None:
    from tests.fakes.window_registry import full_registry

    registry = full_registry()
    assert [action for action in KeyScheme.load(name).keys if action not in registry] == []


def test_an_action_runs_only_when_it_makes_sense() -> None:
    ran: list[str] = []
    registry = ActionRegistry()
    registry.add(Action("a.b", "Do it", "Group", lambda: ran.append("x"), enabled_when=lambda: bool(ran)))
    assert not registry.trigger("a.b")
    ran.append("ready")
    assert registry.trigger("a.b") and ran == ["ready", "x"]


def test_tool_tips_name_the_key() -> None:
    registry = ActionRegistry()
    registry.add(Action("a.b", "Do it", "Group", lambda: None))
    assert registry.tool_tip("a.b") == "Do it"
    registry.bind({"a.b": ("Ctrl+D", "D"), "unknown": ("X",)})
    assert registry.tool_tip("a.b") == "Do it (Ctrl+D)"
    assert registry.commands()[0].keys == "Ctrl+D or D"
    with pytest.raises(ValueError, match="exists"):
        registry.add(Action("a.b", "Again", "Group", lambda: None))
