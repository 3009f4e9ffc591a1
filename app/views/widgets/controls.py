"""Buttons, labels and rows in the theme's measures."""

from __future__ import annotations

from html import escape

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QPainter, QPaintEvent, QResizeEvent
from PySide6.QtWidgets import (
    QBoxLayout,
    QComboBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLayout,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.actions.action import ActionRegistry
from app.views.theme import Theme

ACTION_PROPERTY = "actionId"


def plain_tip(text: str) -> str:
    """Return text of a file for a tool tip: Qt takes what looks like markup for markup, so that it is escaped."""
    return f"<qt>{escape(text).replace(chr(10), '<br>')}</qt>" if text else ""


def plain_entry(text: str) -> str:
    """Return text of a file for a menu or a button, where an ampersand would underline a letter."""
    return text.replace("&", "&&").replace("\t", " ")


class IconButton(QToolButton):
    """A flat button with an icon; ``set_theme`` tints it anew."""

    def __init__(
        self, theme: Theme, icon: str, tip: str, token: str = "text_dim", compact: bool = False
    ) -> None:
        super().__init__()
        self._icon_name = icon
        self._token = token
        self.setToolTip(tip)
        self.setAccessibleName(tip)
        if compact:
            self.setProperty("compact", "true")
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.set_theme(theme)

    def set_theme(self, theme: Theme) -> None:
        """Take the icon in the colours of ``theme``."""
        self._theme = theme
        size = theme.size("icon")
        self.setIconSize(QSize(size, size))
        self.setIcon(theme.icon(self._icon_name, self._token))

    def set_icon(self, icon: str, token: str = "") -> None:
        """Change the icon."""
        if (icon, token or self._token) != (self._icon_name, self._token):
            self._icon_name = icon
            self._token = token or self._token
            self.set_theme(self._theme)


class ProgressBar(QProgressBar):
    """A bar of thousandths that is painted with everything else.

    Qt's own paints the whole window at once whenever its value changes, some 8 ms each time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.setRange(0, 1000)
        self.setTextVisible(False)

    def set_fraction(self, fraction: float) -> None:
        """Show how much is done, 0…1."""
        value = round(fraction * 1000)
        if value != self.value():
            # Without updates the immediate painting is left out; allowing them again asks for one.
            self.setUpdatesEnabled(False)
            self.setValue(value)
            self.setUpdatesEnabled(True)


class IconPushButton(QPushButton):
    """A push button with text and a tinted icon."""

    def __init__(self, theme: Theme, icon: str, text: str, token: str = "text") -> None:
        super().__init__(text)
        self._icon_name = icon
        self._token = token
        self.set_theme(theme)

    def set_theme(self, theme: Theme) -> None:
        """Take the icon in the colours of ``theme``."""
        size = theme.size("icon")
        self.setIconSize(QSize(size, size))
        self.setIcon(theme.icon(self._icon_name, self._token))


def follow_keys(widget: QWidget, registry: ActionRegistry, action_id: str) -> None:
    """Let a widget's tool tip name an action and its key, also after the key scheme changes."""
    widget.setProperty(ACTION_PROPERTY, action_id)
    widget.setToolTip(registry.tool_tip(action_id))


def action_button(theme: Theme, registry: ActionRegistry, action_id: str, icon: str = "") -> IconButton:
    """Return a button that runs an action; its tool tip names the key."""
    action = registry.get(action_id)
    button = IconButton(theme, icon or action.icon, registry.tool_tip(action_id))
    follow_keys(button, registry, action_id)
    button.clicked.connect(lambda: registry.trigger(action_id))
    return button


class Label(QLabel):
    """A label of plain text with a role of the style sheet; text of files can't inject markup."""

    def __init__(self, text: str = "", role: str = "", wrap: bool = False) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setText(text)
        if role:
            self.setProperty("role", role)
        if wrap:
            self.setWordWrap(True)
            self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)

    def set_role(self, role: str) -> None:
        """Change the role and draw accordingly."""
        if self.property("role") != role:
            self.setProperty("role", role)
            repolish(self)


class BadgeButton(QToolButton):
    """A label that can be pressed, with the roles of a label."""

    def __init__(self) -> None:
        super().__init__()
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.setCursor(Qt.CursorShape.PointingHandCursor)
        self.setProperty("compact", "true")

    def set_role(self, role: str) -> None:
        """Change the role and draw accordingly."""
        if self.property("role") != role:
            self.setProperty("role", role)
            repolish(self)


class ElidedLabel(Label):
    """A one-line label that ends in … when it doesn't fit, with the whole text as tool tip."""

    def __init__(self, text: str = "", role: str = "") -> None:
        super().__init__("", role)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setText(text)

    def setText(self, text: str) -> None:
        """Set the whole text."""
        super().setText(text)
        self._update_tip()

    def _update_tip(self) -> None:
        cut = self.fontMetrics().horizontalAdvance(self.text()) > self.contentsRect().width()
        self.setToolTip(plain_tip(self.text()) if cut else "")

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._update_tip()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        area = self.contentsRect()
        text = self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, area.width())
        painter.drawText(area, int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft), text)

    def minimumSizeHint(self) -> QSize:
        return QSize(0, super().minimumSizeHint().height())


class ElidedCombo(QComboBox):
    """A choice that ends in … when it doesn't fit; its width never depends on its words."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setToolTip(name)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(6)

    def paintEvent(self, _: QPaintEvent) -> None:
        painter = QStylePainter(self)
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        room = (
            self.style()
            .subControlRect(
                QStyle.ComplexControl.CC_ComboBox, option, QStyle.SubControl.SC_ComboBoxEditField, self
            )
            .width()
        )
        option.currentText = self.fontMetrics().elidedText(
            self.currentText(), Qt.TextElideMode.ElideRight, room - 4
        )
        painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)


def repolish(widget: QWidget) -> None:
    """Let the style sheet look at a widget's properties again."""
    widget.style().unpolish(widget)
    widget.style().polish(widget)
    widget.update()


def row(
    *items: QWidget | QLayout | int, gap: int = 8, margins: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> QHBoxLayout:
    """Return a horizontal layout; an int is a stretch."""
    layout = QHBoxLayout()
    _fill(layout, items, gap, margins)
    return layout


def column(
    *items: QWidget | QLayout | int, gap: int = 8, margins: tuple[int, int, int, int] = (0, 0, 0, 0)
) -> QVBoxLayout:
    """Return a vertical layout; an int is a stretch."""
    layout = QVBoxLayout()
    _fill(layout, items, gap, margins)
    return layout


def _fill(
    layout: QBoxLayout,
    items: tuple[QWidget | QLayout | int, ...],
    gap: int,
    margins: tuple[int, int, int, int],
) -> None:
    layout.setSpacing(gap)
    layout.setContentsMargins(*margins)
    for item in items:
        if isinstance(item, int):
            layout.addStretch(item)
        elif isinstance(item, QWidget):
            layout.addWidget(item)
        else:
            layout.addLayout(item)


def panel(name: str, layout: QLayout | None = None) -> QFrame:
    """Return a frame with an object name that the style sheet knows."""
    frame = QFrame()
    frame.setObjectName(name)
    if layout is not None:
        frame.setLayout(layout)
    return frame


def clear_layout(layout: QLayout) -> None:
    """Remove and delete everything in a layout."""
    while (item := layout.takeAt(0)) is not None:
        widget, inner = item.widget(), item.layout()
        if widget is not None:
            widget.hide()
            widget.setParent(None)
            widget.deleteLater()
        elif inner is not None:
            clear_layout(inner)
