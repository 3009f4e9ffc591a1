"""The look as data: colours and sizes from design tokens, one style sheet, tinted icons."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from string import Template

from PySide6.QtCore import QByteArray, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontDatabase, QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from core.config.resources import resource_path

FONT_FAMILY = "Inter"
# Inter has no CJK glyphs. Named here, a name in Kanji looks the same whatever the platform would guess.
_CJK_FAMILIES = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans CJK KR",
    "Yu Gothic",
    "Meiryo",
    "Microsoft YaHei",
    "Malgun Gothic",
    "PingFang SC",
    "Hiragino Sans",
    "Apple SD Gothic Neo",
)
_FONT_FILES = ("Inter-Regular.otf", "Inter-Medium.otf", "Inter-SemiBold.otf")
_SCALES = (1, 2, 3)
_TOKEN = re.compile(r"^#[0-9A-Fa-f]{6}$")


class Theme:
    """Design tokens of one theme and what is made of them.

    Parameters
    ----------
    name : str
        ``"dark"`` or ``"light"``.
    colors : mapping
        Token name → ``"#rrggbb"`` (sRGB).
    sizes : mapping
        Token name → length in device-independent pixels.
    folder : Path
        The resources folder, for the style sheet's pictures and the icons.

    Notes
    -----
    Icons and style sheet need a QGuiApplication; the tokens alone do not.
    """

    def __init__(self, name: str, colors: Mapping[str, str], sizes: Mapping[str, int], folder: Path) -> None:
        wrong = [token for token, value in colors.items() if not _TOKEN.match(value)]
        if wrong:
            raise ValueError(f"theme {name}: not #rrggbb: {wrong}")
        self.name = name
        self.colors = dict(colors)
        self.sizes = dict(sizes)
        self._folder = folder
        self._icons: dict[tuple[str, str], QIcon] = {}
        self._pixmaps: dict[tuple[str, str, int, float], QPixmap] = {}

    @classmethod
    def load(cls, name: str = "dark") -> Theme:
        """Read ``resources/themes/<name>.toml``."""
        tokens = tomllib.loads(resource_path(f"themes/{name}.toml").read_text("utf-8"))
        return cls(tokens["name"], tokens["color"], tokens["size"], resource_path("themes").parent)

    def color(self, token: str) -> str:
        """Return a colour as ``"#rrggbb"``; raises KeyError for an unknown token."""
        return self.colors[token]

    def qcolor(self, token: str, alpha: int = 255) -> QColor:
        """Return a colour with ``alpha`` 0…255."""
        color = QColor(self.colors[token])
        color.setAlpha(alpha)
        return color

    def size(self, token: str) -> int:
        """Return a length in device-independent pixels; raises KeyError for an unknown token."""
        return self.sizes[token]

    def font(self, token: str = "font_base", weight: QFont.Weight = QFont.Weight.Normal) -> QFont:
        """Return the one type family at a size token, with tabular figures where Qt offers them."""
        font = QFont(list(self.font_families))
        font.setPixelSize(self.size(token))
        font.setWeight(weight)
        if hasattr(font, "setFeature"):
            font.setFeature(QFont.Tag("tnum"), 1)
        return font

    @cached_property
    def font_family(self) -> str:
        """The bundled family if it loads, else the platform's."""
        for file in _FONT_FILES:
            QFontDatabase.addApplicationFont(str(self._folder / "fonts" / file))
        if FONT_FAMILY in QFontDatabase.families():
            return FONT_FAMILY
        return QFontDatabase.systemFont(QFontDatabase.SystemFont.GeneralFont).family()

    @cached_property
    def font_families(self) -> tuple[str, ...]:
        """The one family, then those of its CJK stand-ins that this machine has."""
        found = set(QFontDatabase.families())
        return (self.font_family, *(family for family in _CJK_FAMILIES if family in found))

    def stylesheet(self) -> str:
        """Return the style sheet with all tokens filled in; raises KeyError if one is missing."""
        template = Template((self._folder / "themes" / "overread.qss").read_text("utf-8"))
        pictures = self._folder / "themes" / "pictures"
        return template.substitute(
            self.colors,
            **{f"n_{token}": value for token, value in self.sizes.items()},
            font_families=", ".join(f'"{family}"' for family in self.font_families),
            closed=(pictures / f"closed-{self.name}.svg").as_posix(),
            chevron_down=(pictures / f"chevron-{self.name}.svg").as_posix(),
            check_mark=(pictures / f"check-{self.name}.svg").as_posix(),
        )

    def icon(self, name: str, token: str = "text_dim") -> QIcon:
        """Return an icon of ``resources/icons`` tinted with a colour token, sharp at 1, 2 and 3 × scale."""
        key = (name, token)
        if key not in self._icons:
            self._icons[key] = self._make_icon(name, token)
        return self._icons[key]

    def _make_icon(self, name: str, token: str) -> QIcon:
        icon = QIcon()
        size = self.size("icon")
        states = (
            (QIcon.Mode.Normal, QIcon.State.Off, token),
            (QIcon.Mode.Normal, QIcon.State.On, "text" if token == "text_dim" else token),
            (QIcon.Mode.Disabled, QIcon.State.Off, "text_disabled"),
        )
        for mode, state, tint in states:
            for scale in _SCALES:
                icon.addPixmap(self.pixmap(name, tint, size, float(scale)), mode, state)
        return icon

    def pixmap(self, name: str, token: str = "text_dim", size: int = 0, scale: float = 1.0) -> QPixmap:
        """Return one picture of an icon, ``size`` px wide, for a screen of ``scale`` device pixels per px.

        ``token`` may also be a colour as ``"#rrggbb"``, for icons on surfaces that are alike in all themes.
        """
        size = size or self.size("icon")
        key = (name, token, size, scale)
        if key not in self._pixmaps:
            self._pixmaps[key] = self._render(name, token, size, scale)
        return self._pixmaps[key]

    def _render(self, name: str, token: str, size: int, scale: float) -> QPixmap:
        source = (self._folder / "icons" / f"{name}.svg").read_text("utf-8")
        color = token if _TOKEN.match(token) else self.color(token)
        renderer = QSvgRenderer(QByteArray(source.replace("currentColor", color).encode()))
        pixels = round(size * scale)
        pixmap = QPixmap(QSize(pixels, pixels))
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        renderer.render(painter)
        painter.end()
        pixmap.setDevicePixelRatio(scale)
        return pixmap


def contrast_ratio(first: str, second: str) -> float:
    """Return the contrast of two sRGB colours, 1…21.

    Source: W3C WCAG 2.1, definitions of relative luminance and contrast ratio.
    """
    lighter, darker = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(color: str) -> float:
    channels = [int(color[i : i + 2], 16) / 255.0 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
