"""Renders the 3-D scene beside the GUI thread.

The scene, its OpenGL context and vtk itself live on one thread of their own. Requests overwrite each
other: only the newest viewpoint is drawn, however fast the mouse moves.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PySide6.QtCore import QObject, Signal

from app.presenters.reading_state import SceneState
from core.domain.errors import AppError
from core.render.palette import Rgb
from core.render.scene import Scene, Viewpoint
from core.render.scene_presets import SEGMENTS_ONLY


@dataclass(frozen=True)
class Look:
    """One picture wanted: from where, how large, and whether it may be coarse."""

    view: Viewpoint
    size: tuple[int, int]
    quick: bool


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that was drawn: ``(height, width, 3)`` uint8 RGB, with what it shows."""

    pixels: NDArray[np.uint8]
    look: Look
    content: object


class RenderThread(QObject):
    """Owns the thread. Signals arrive on the GUI thread (queued)."""

    drawn = Signal(object)
    failed = Signal(str, str)

    def __init__(self, background: Rgb, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._background = background
        self._wake = threading.Condition()
        self._state: SceneState | None = None
        self._look: Look | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None

    def request(self, state: SceneState, look: Look) -> None:
        """Draw a state from a viewpoint as soon as the thread is free; starts the thread on first use."""
        with self._wake:
            self._state, self._look = state, look
            self._wake.notify()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="overread-3d", daemon=True)
            self._thread.start()

    def stop(self, timeout_s: float = 10.0) -> None:
        """End the thread after the picture it is drawing."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)
            self._thread = None

    def _next(self) -> tuple[SceneState, Look] | None:
        with self._wake:
            while not self._stopping and (self._look is None or self._state is None):
                self._wake.wait()
            if self._stopping or self._state is None or self._look is None:
                return None
            look, self._look = self._look, None
            return self._state, look

    def _run(self) -> None:
        content: _Content | None = None
        try:
            while (work := self._next()) is not None:
                state, look = work
                if content is None:
                    content = _Content(Scene(self._background))
                content.show(state)
                pixels = content.scene.render(look.view, look.size, look.quick)
                self.drawn.emit(Picture(pixels, look, state.key))
        except AppError as error:
            self.failed.emit(error.user_message, error.remedy)
        except (MemoryError, RuntimeError, ValueError) as error:
            self.failed.emit(
                f"The 3-D view stopped ({type(error).__name__}).",
                "Open the series again; if it recurs, report it.",
            )
        finally:
            if content is not None:
                content.scene.close()


class _Content:
    """What the scene holds, so that only what changed is built again."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._volume: object = None
        self._segmentation: object = None
        self._preset: str | None = None

    def show(self, state: SceneState) -> None:
        """Bring the scene to a state."""
        if state.volume is not self._volume and state.volume is not None:
            self.scene.set_volume(state.volume)
            self._volume, self._segmentation, self._preset = state.volume, None, None
        wanted = state.segmentation if state.preset == SEGMENTS_ONLY else None
        if wanted is not None and wanted is not self._segmentation:
            self.scene.set_segments(wanted, state.colors)
            self._segmentation = wanted
        if state.preset != self._preset:
            self.scene.set_preset(state.preset)
            self._preset = state.preset
        self.scene.set_hidden(state.hidden, all_hidden=not state.show_segments)
