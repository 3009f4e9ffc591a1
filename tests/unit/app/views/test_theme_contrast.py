"""Text and controls are readable in both themes: the ratios are computed, not judged by eye."""

from __future__ import annotations

import re
import tomllib

import pytest

from app.views.theme import Theme, contrast_ratio
from core.config.resources import resource_path

SURFACES = ("panel", "raised", "hover", "selection")
TEXT = ("text", "text_dim")
STATES = ("caution", "danger", "verified", "accent")


@pytest.fixture(params=["dark", "light"])
def theme(request: pytest.FixtureRequest) -> Theme:
    return Theme.load(request.param)


def test_black_on_white_has_the_ratio_of_the_definition() -> None:
    assert contrast_ratio("#000000", "#FFFFFF") == pytest.approx(21.0)
    assert contrast_ratio("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize("token", TEXT)
def test_text_is_readable_on_every_surface(theme: Theme, token: str, surface: str) -> None:
    assert contrast_ratio(theme.color(token), theme.color(surface)) >= 4.5


@pytest.mark.parametrize("surface", ["panel", "raised"])
@pytest.mark.parametrize("token", [*STATES, "text_faint"])
def test_states_are_readable_as_text(theme: Theme, token: str, surface: str) -> None:
    assert contrast_ratio(theme.color(token), theme.color(surface)) >= 4.5


@pytest.mark.parametrize("state", ["caution", "danger", "verified"])
def test_notices_are_readable_on_their_own_back(theme: Theme, state: str) -> None:
    for token in ("text", "text_dim", state):
        assert contrast_ratio(theme.color(token), theme.color(f"{state}_back")) >= 4.5


def test_text_on_the_accent_is_readable(theme: Theme) -> None:
    assert contrast_ratio(theme.color("on_accent"), theme.color("accent")) >= 4.5
    assert contrast_ratio(theme.color("on_accent"), theme.color("accent_strong")) >= 4.5


@pytest.mark.parametrize("surface", ["panel", "raised"])
@pytest.mark.parametrize("token", ["control", "focus"])
def test_controls_stand_out(theme: Theme, token: str, surface: str) -> None:
    assert contrast_ratio(theme.color(token), theme.color(surface)) >= 3.0


@pytest.mark.parametrize("surface", ["panel", "raised"])
@pytest.mark.parametrize("token", ["curve_1", "curve_2", "curve_3"])
def test_curves_stand_out(theme: Theme, token: str, surface: str) -> None:
    assert contrast_ratio(theme.color(token), theme.color(surface)) >= 3.0


@pytest.mark.parametrize("token", ["plane_axial", "plane_coronal", "plane_sagittal", "overlay_text"])
def test_marks_on_the_picture_stand_out(theme: Theme, token: str) -> None:
    assert contrast_ratio(theme.color(token), theme.color("picture")) >= 4.5


def test_both_themes_have_the_same_tokens() -> None:
    dark, light = Theme.load("dark"), Theme.load("light")
    assert dark.colors.keys() == light.colors.keys()
    assert dark.sizes == light.sizes


def test_sizes_lie_on_the_grid() -> None:
    theme = Theme.load("dark")
    free = {"font_base", "font_small", "font_title", "stroke"}
    assert [name for name, value in theme.sizes.items() if name not in free and value % 4] == []


def test_the_style_sheet_holds_no_colour_of_its_own() -> None:
    text = resource_path("themes/overread.qss").read_text("utf-8")
    assert re.findall(r"#[0-9A-Fa-f]{6}\b", text) == []


def test_a_wrong_token_is_refused() -> None:
    with pytest.raises(ValueError, match="not #rrggbb"):
        Theme("odd", {"panel": "blue"}, {}, resource_path("themes").parent)


def test_the_pictures_of_the_style_sheet_use_the_tokens(theme: Theme) -> None:
    folder = resource_path("themes/pictures")
    assert theme.color("text_dim") in (folder / f"chevron-{theme.name}.svg").read_text("utf-8")
    assert theme.color("on_accent") in (folder / f"check-{theme.name}.svg").read_text("utf-8")


def test_every_icon_has_the_same_frame_and_stroke() -> None:
    frame = 'viewBox="0 0 20 20" fill="none" stroke="currentColor" stroke-width="1.5"'
    icons = sorted(resource_path("icons").glob("*.svg"))
    assert len(icons) > 60
    assert [icon.name for icon in icons if frame not in icon.read_text("utf-8")] == []


def test_tokens_are_valid_toml() -> None:
    for name in ("dark", "light"):
        assert tomllib.loads(resource_path(f"themes/{name}.toml").read_text("utf-8"))["name"] == name
