"""The models that fit: what each is, whether it is signed, how long it takes, Run, progress, Cancel."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QPushButton, QVBoxLayout, QWidget

from app.actions.action import ActionRegistry
from app.presenters.models import ModelRow, ModelsPresenter, ModelsState
from app.presenters.ports import seconds_in_words
from app.views.theme import Theme
from app.views.widgets.content_height import ContentHeight
from app.views.widgets.controls import (
    ElidedLabel,
    IconButton,
    Label,
    ProgressBar,
    clear_layout,
    column,
    follow_keys,
    panel,
    row,
)
from app.views.widgets.section import Section

_HIGHEST, _LOWEST = 248, 88


class ModelCard(QFrame):
    """One model."""

    def __init__(
        self, theme: Theme, model: ModelRow, run: Callable[[], None], cancel: Callable[[str], None]
    ) -> None:
        super().__init__()
        self.setObjectName("card")
        self._cancel = cancel
        self._job_id = ""
        name, token, tip = _badge(model)
        badge = Label()
        badge.setPixmap(theme.pixmap(name, token, scale=self.devicePixelRatioF()))
        badge.setToolTip(tip)
        title = ElidedLabel(model.title)
        self._detail = ElidedLabel("", "faint")
        self.run_button = QPushButton("Run")
        self.run_button.setProperty("role", "primary")
        self._tip = f"Run {model.title} on the open series"
        if model.server:
            self._tip = (
                f"Have {model.server} run {model.title}.\nVoxels and geometry are sent there, no identity."
            )
        self.run_button.setToolTip(self._tip)
        self.run_button.clicked.connect(run)
        self._stop = IconButton(theme, "close", "Cancel (Ctrl+.)")
        self._stop.clicked.connect(lambda: cancel(self._job_id))
        self._progress = ProgressBar()
        heading = row(badge, title, gap=8)
        heading.setStretch(1, 1)
        self._inputs = ElidedLabel("", "faint")
        words = column(heading, self._detail, self._inputs, gap=4)
        line = row(words, self.run_button, self._stop, gap=8)
        line.setStretch(0, 1)
        self.setLayout(column(line, self._progress, gap=8, margins=(12, 8, 8, 8)))

    def update_row(self, model: ModelRow, can_run: bool) -> None:
        """Draw what changes: the job and whether the model may run."""
        job = model.job
        self._job_id = job.job_id if job else ""
        self.run_button.setVisible(job is None)
        self.run_button.setEnabled(can_run)
        self._inputs.setVisible(bool(model.inputs))
        self._inputs.setText(model.inputs)
        self._inputs.set_role("caution" if model.incomplete else "faint")
        if model.inputs:
            self.run_button.setToolTip(f"{self._tip}\n{model.why}")
        self._stop.setVisible(job is not None)
        self._progress.setVisible(job is not None)
        troubled = job is None and bool(model.trouble)
        self._detail.set_role("caution" if troubled else "faint")
        if job is None:
            self._detail.setText(model.trouble or f"{model.version} · {model.detail}")
            return
        left = seconds_in_words(job.eta_seconds).removeprefix("~")
        phase = job.phase or ("waiting" if job.state == "queued" else "starting")
        self._detail.setText(" · ".join(part for part in (phase, f"{left} left" if left else "") if part))
        self._progress.set_fraction(job.fraction)


def _badge(model: ModelRow) -> tuple[str, str, str]:
    """Return icon, colour and words of what vouches for a model."""
    if model.server:
        return "server", "text_dim", f"Runs on {model.server}, which vouches for its files"
    if model.verified:
        return "signed", "verified", "Signed: its files are as published"
    return "unsigned", "caution", "Unsigned: nobody vouches for it"


class ModelsPanel(QWidget):
    """Draws the models; ``cancel`` is called with a job's id."""

    def __init__(
        self,
        presenter: ModelsPresenter,
        theme: Theme,
        registry: ActionRegistry,
        cancel: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._presenter = presenter
        self._theme = theme
        self._registry = registry
        self._cancel = cancel
        self.cards: dict[str, ModelCard] = {}
        self._shown: tuple[tuple[str, str, bool], ...] = ()
        self._cards_layout = QVBoxLayout()
        self._cards_layout.setSpacing(8)
        self._message = Label("", "dim", wrap=True)
        self._others_button = QPushButton()
        self._others_button.setProperty("role", "link")
        self._others_button.clicked.connect(self._toggle_others)
        self._others = Label("", "faint", wrap=True)
        self._others.hide()
        self.improve = QPushButton("Improve model…")
        self.improve.setProperty("role", "link")
        follow_keys(self.improve, registry, "training.improve")
        self.improve.clicked.connect(lambda: registry.trigger("training.improve"))
        body = panel(
            "plain",
            column(
                self._message,
                self._cards_layout,
                row(self._others_button, 1, self.improve, gap=8),
                self._others,
                1,
                gap=8,
                margins=(12, 8, 12, 8),
            ),
        )
        scroll = ContentHeight(body, _HIGHEST, _LOWEST)
        self._scroll = scroll
        self.section = Section(theme, "Models", scroll)
        self.setLayout(column(self.section, gap=0))
        presenter.attach(self)

    def set_theme(self, theme: Theme) -> None:
        """Draw with another theme."""
        self._theme = theme
        self._shown = ()
        self.show_state(self._presenter.state)

    def focus_first(self) -> None:
        """Go to the first Run button."""
        for card in self.cards.values():
            card.run_button.setFocus(Qt.FocusReason.ShortcutFocusReason)
            return

    def show_state(self, state: ModelsState) -> None:
        """Draw the state; cards are made anew only when other models fit."""
        wanted = tuple((model.id, model.version, model.verified) for model in state.rows)
        if wanted != self._shown:
            self._make_cards(state)
            self._shown = wanted
        for model in state.rows:
            self.cards[model.id].update_row(model, state.can_run)
        self._message.setVisible(bool(state.message))
        self._message.setText(state.message)
        self._show_others(state)
        self._scroll.updateGeometry()
        self.section.set_count(str(len(state.rows)) if state.rows else "")

    def _make_cards(self, state: ModelsState) -> None:
        clear_layout(self._cards_layout)
        self.cards = {}
        for model in state.rows:
            self.cards[model.id] = self._card(model)
            self._cards_layout.addWidget(self.cards[model.id])

    def _card(self, model: ModelRow) -> ModelCard:
        return ModelCard(self._theme, model, lambda: self._presenter.run(model.id), self._cancel)

    def _show_others(self, state: ModelsState) -> None:
        number = len(state.others)
        self._others_button.setVisible(number > 0)
        words = "1 model doesn't fit" if number == 1 else f"{number} models don't fit"
        self._others_button.setText(f"{words}: why?")
        self._others.setText("\n".join(f"{title}: {why}" for title, why in state.others))
        # Without a fitting model the reasons are the answer, so they are seen at once.
        if number and not state.rows:
            self._others.show()
        elif not number:
            self._others.hide()

    def _toggle_others(self) -> None:
        self._others.setVisible(self._others.isHidden())
        self._scroll.updateGeometry()
