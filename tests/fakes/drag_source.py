"""A small window from which files are dragged, as from a file manager: ``python tests/fakes/drag_source.py X Y FILE…``.

Prints its place on the screen when it is there, and how each drag ended.
"""

from __future__ import annotations

import json
import sys

from PySide6.QtCore import QMimeData, Qt, QTimer, QUrl
from PySide6.QtGui import QDrag, QMouseEvent
from PySide6.QtWidgets import QApplication, QLabel

SIZE = 120


class Source(QLabel):
    """Starts a drag when it is pulled."""

    def __init__(self, files: list[str]) -> None:
        super().__init__("drag me")
        self._files = files
        self._pressed = False
        self.setFixedSize(SIZE, SIZE)
        self.setWindowFlags(Qt.WindowType.FramelessWindowHint | Qt.WindowType.WindowStaysOnTopHint)

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802
        self._pressed = event.button() is Qt.MouseButton.LeftButton

    def mouseMoveEvent(self, _: QMouseEvent) -> None:  # noqa: N802
        if not self._pressed:
            return
        self._pressed = False
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(file) for file in self._files])
        drag = QDrag(self)
        drag.setMimeData(data)
        ended = drag.exec(Qt.DropAction.CopyAction | Qt.DropAction.MoveAction)
        tell("dropped", action=ended.name)


def tell(event: str, **more: object) -> None:
    """Print a line."""
    sys.stdout.write(json.dumps({"event": event, **more}) + "\n")
    sys.stdout.flush()


def main() -> int:
    """Show the window until it is killed."""
    application = QApplication(["drag-source"])
    source = Source(sys.argv[3:])
    source.move(int(sys.argv[1]), int(sys.argv[2]))
    source.show()
    QTimer.singleShot(300, lambda: tell("ready", x=source.x(), y=source.y(), size=SIZE))
    return application.exec()


if __name__ == "__main__":
    sys.exit(main())
