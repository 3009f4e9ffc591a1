"""The menu of a right click on a viewport."""

from __future__ import annotations

from PySide6.QtGui import QAction, QActionGroup, QGuiApplication
from PySide6.QtWidgets import QMenu, QWidget

from app.presenters.reading import ReadingPresenter
from app.presenters.reading_state import Layout

_LAYOUTS = (
    (Layout.QUAD, "Four viewports"),
    (Layout.MPR, "Three planes"),
    (Layout.STACK, "One stack"),
    (Layout.SCENE, "3-D"),
)


def viewport_menu(presenter: ReadingPresenter, viewport: QWidget) -> QMenu:
    """Build the menu: windows, view, layout, copy. The caller shows it."""
    menu = QMenu(viewport)
    _add_presets(menu, presenter)
    menu.addSeparator()
    for text, run in (
        ("Invert", presenter.invert),
        ("Fit", presenter.fit),
        ("Reset", presenter.reset),
        ("Hide or show texts", presenter.toggle_texts),
    ):
        menu.addAction(text).triggered.connect(lambda _=False, run=run: run())
    menu.addSeparator()
    _add_layouts(menu, presenter)
    menu.addSeparator()
    menu.addAction("Copy picture").triggered.connect(lambda _=False: copy_picture(viewport))
    return menu


def scene_menu(presenter: ReadingPresenter, viewport: QWidget) -> QMenu:
    """Build the menu of the 3-D view: presets, layout, copy."""
    menu = QMenu(viewport)
    for identifier, title in presenter.scene_presets():
        menu.addAction(title).triggered.connect(lambda _=False, name=identifier: presenter.want_scene(name))
    menu.addSeparator()
    _add_layouts(menu, presenter)
    menu.addSeparator()
    menu.addAction("Copy picture").triggered.connect(lambda _=False: copy_picture(viewport))
    return menu


def copy_picture(viewport: QWidget) -> None:
    """Put the viewport's picture, without patient identity, on the clipboard."""
    QGuiApplication.clipboard().setPixmap(viewport.grab())


def _add_presets(menu: QMenu, presenter: ReadingPresenter) -> None:
    for preset in presenter.presets:
        action = menu.addAction(f"{preset.name}\t{preset.key}")
        action.triggered.connect(lambda _=False, key=preset.key: presenter.preset(key))
    for number, window in enumerate(presenter.file_windows(), 1):
        action = menu.addAction(f"Of the file: {window.name or f'window {number}'}")
        action.triggered.connect(lambda _=False, chosen=window: presenter.set_window(chosen))
    menu.addAction("Automatic window\t0").triggered.connect(lambda _=False: presenter.preset(0))


def _add_layouts(menu: QMenu, presenter: ReadingPresenter) -> None:
    group = QActionGroup(menu)
    reason = presenter.single_plane_reason()
    if reason:
        menu.addAction(reason).setEnabled(False)
    for layout, text in _LAYOUTS:
        action = QAction(text, menu, checkable=True)
        action.setChecked(presenter.intent.layout is layout)
        action.setEnabled(not reason or layout is Layout.STACK)
        action.triggered.connect(lambda _=False, name=layout.value: presenter.set_layout(name))
        group.addAction(action)
        menu.addAction(action)
