"""The corrected mask of an edited finding: type its path or choose the file."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtWidgets import QLineEdit, QWidget

from app.actions.action import ActionRegistry
from app.presenters.finding_rows import FindingRow
from app.views.theme import Theme
from app.views.widgets.controls import Label, action_button, column, row

_LONGEST_PATH = 4096
_ASKS = "Corrected mask file (NIfTI), Enter keeps it"
_WHY = (
    "Export the result as NIfTI, correct it in your editor, and give the file here.\n"
    "It must lie on the grid of the result; it is copied into the library."
)


class MaskLine(QWidget):
    """Hidden unless an edited segment is selected; ``give`` takes the path."""

    def __init__(self, theme: Theme, give: Callable[[str], None], registry: ActionRegistry) -> None:
        super().__init__()
        self._give = give
        self._finding = ""
        self.path = QLineEdit()
        self.path.setMaxLength(_LONGEST_PATH)
        self.path.setPlaceholderText(_ASKS)
        self.path.setAccessibleName("Corrected mask file")
        self.path.setToolTip(_WHY)
        self.path.setAcceptDrops(False)
        self.path.returnPressed.connect(self._on_entered)
        self._state = Label("", "faint", wrap=True)
        choose = action_button(theme, registry, "finding.mask", "folder")
        line = row(self.path, choose, gap=4)
        line.setStretch(0, 1)
        self.setLayout(column(line, self._state, gap=4))
        self.hide()

    def show_row(self, finding: FindingRow | None) -> None:
        """Show the line for an edited segment, or hide it."""
        self.setVisible(finding is not None)
        if finding is None:
            return
        if finding.id != self._finding:
            self._finding = finding.id
            self.path.clear()
        given = finding.corrected
        self._state.setText(
            "Your mask is kept ✓ The picture still shows the model's."
            if given
            else "No mask yet: the model can't learn from this edit."
        )
        self._state.set_role("verified" if given else "faint")

    def _on_entered(self) -> None:
        if self.path.text().strip():
            self._give(self.path.text())
            self.path.clear()
