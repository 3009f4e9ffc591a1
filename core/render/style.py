"""Fonts and colours for pictures without a screen: the same design tokens as the window."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from PIL import ImageFont

from core.config.resources import resource_path
from core.render.palette import Rgb
from core.render.planes import Plane


@dataclass(frozen=True)
class PageStyle:
    """Tokens of one theme. ``scale`` enlarges text and margins on large pictures."""

    colors: tuple[tuple[str, Rgb], ...]
    scale: float = 1.0

    def color(self, token: str) -> Rgb:
        """RGB of a token; raises KeyError for an unknown one."""
        return dict(self.colors)[token]

    def plane_color(self, plane: Plane | None) -> Rgb:
        """Colour of a plane's edge and lines."""
        if plane is None or plane is Plane.IMAGE:
            return self.color("control")
        return self.color(f"plane_{plane.value}")

    def px(self, length: float) -> int:
        """A length of the design grid in pixels."""
        return round(length * self.scale)

    def font(self, size: float = 13, bold: bool = False) -> Any:
        """The bundled type family in a size of the design grid."""
        return _font(self.px(size), bold)


@lru_cache(maxsize=4)
def _tokens(theme: str) -> tuple[tuple[str, Rgb], ...]:
    with resource_path(f"themes/{theme}.toml").open("rb") as file:
        colors = tomllib.load(file)["color"]
    return tuple((name, _rgb(value)) for name, value in colors.items())


def page_style(size: tuple[int, int], theme: str = "dark") -> PageStyle:
    """Style for a picture of (width, height): text grows with it, up to two and a half times."""
    return PageStyle(_tokens(theme), min(2.5, max(1.0, min(size) / 900.0)))


@lru_cache(maxsize=32)
def _font(pixels: int, bold: bool) -> Any:
    name = "Inter-SemiBold.otf" if bold else "Inter-Regular.otf"
    return ImageFont.truetype(str(resource_path(f"fonts/{name}")), max(6, pixels))


def _rgb(text: str) -> Rgb:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)
