"""The filters above the worklist, and the line that says that something is filtered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from PySide6.QtCore import QPoint, QSize, Qt
from PySide6.QtGui import QActionGroup
from PySide6.QtWidgets import QMenu, QPushButton, QSizePolicy, QToolButton, QWidget

from app.actions.action import ActionRegistry
from app.presenters.saved_filters import SavedFilters, filter_in_words
from app.presenters.worklist import WorklistPresenter
from app.presenters.worklist_state import WorklistState
from app.presenters.worklist_words import STATUS_WORDS
from app.views.theme import Theme
from app.views.widgets.controls import ElidedLabel, column, plain_entry, plain_tip, repolish, row
from core.domain.study import ReadStatus

PERIODS: tuple[tuple[int | None, str], ...] = (
    (None, "Any time"),
    (0, "Today"),
    (7, "7 days"),
    (30, "30 days"),
)


class _Facet(QToolButton):
    """A button that names a facet, or what is chosen of it; its menu is made when it is opened."""

    def __init__(self, name: str, tip: str, fill: Callable[[QMenu], None]) -> None:
        super().__init__()
        self._name = name
        self._tip = tip
        self._fill = fill
        self.setProperty("role", "facet")
        self.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        menu = QMenu(self)
        menu.aboutToShow.connect(self._on_show)
        self.setMenu(menu)
        self.set_chosen(())

    def _on_show(self) -> None:
        self.menu().clear()
        self._fill(self.menu())

    def set_chosen(self, chosen: Sequence[str]) -> None:
        """Show what is chosen; nothing shows the facet's name."""
        text = self._name
        if chosen:
            text = chosen[0] if len(chosen) == 1 else f"{chosen[0]} +{len(chosen) - 1}"
        self.setText(plain_entry(text))
        words = f"{self._tip}: {', '.join(chosen)}" if chosen else self._tip
        self.setToolTip(plain_tip(words))
        self.setAccessibleName(words)
        active = "true" if chosen else "false"
        if self.property("active") != active:
            self.setProperty("active", active)
            repolish(self)

    def sizeHint(self) -> QSize:
        return QSize(0, super().sizeHint().height())


class FilterBar(QWidget):
    """Day of import, status, modality, and more; below it, how much of the library is listed."""

    def __init__(
        self, theme: Theme, registry: ActionRegistry, presenter: WorklistPresenter, saved: SavedFilters
    ) -> None:
        super().__init__()
        self._registry = registry
        self._presenter = presenter
        self._saved = saved
        self.period = _Facet("Import", "Day of the import", self._fill_period)
        self.status = _Facet("Status", "Reading status", self._fill_status)
        self.modality = _Facet("Modality", "Modality", self._fill_modality)
        self.more = _Facet("More", "Tags, waiting results, saved filters", self._fill_more)
        self._found = ElidedLabel("", "faint")
        self.clear = QPushButton("Clear filters")
        self.clear.setProperty("role", "link")
        self.clear.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.clear.clicked.connect(lambda: registry.trigger("filter.clear"))
        self._line = QWidget()
        self._line.setLayout(row(self._found, self.clear, gap=4, margins=(4, 0, 0, 0)))
        facets = row(self.period, self.status, self.modality, self.more, gap=4)
        self.setLayout(column(facets, self._line, gap=0, margins=(8, 8, 8, 4)))

    def show_state(self, state: WorklistState) -> None:
        """Show what is chosen and how much is left."""
        wanted = state.wanted
        days = dict(PERIODS).get(wanted.imported_within_days, f"{wanted.imported_within_days} days")
        self.period.set_chosen(() if wanted.imported_within_days is None else (days,))
        self.status.set_chosen([STATUS_WORDS[ReadStatus(status)] for status in wanted.statuses])
        self.modality.set_chosen(wanted.modalities)
        self.more.set_chosen((*wanted.tags, *(("waiting",) if wanted.waiting_only else ())))
        self._line.setVisible(state.filtered and state.loaded)
        self._found.setText(f"{state.found:,} of {state.total:,} studies")
        self._found.setAccessibleName(
            f"{self._found.text()}: {filter_in_words(wanted, state.identity_hidden)}"
        )

    # -- menus ---------------------------------------------------------------------------------------

    def _fill_period(self, menu: QMenu) -> None:
        group = QActionGroup(menu)
        for days, title in PERIODS:
            entry = menu.addAction("Imported at any time" if days is None else f"Imported: {title.lower()}")
            entry.setCheckable(True)
            entry.setChecked(self._presenter.state.wanted.imported_within_days == days)
            group.addAction(entry)
            entry.triggered.connect(
                lambda _=False, days=days: self._presenter.narrow(imported_within_days=days)
            )

    def _fill_status(self, menu: QMenu) -> None:
        pairs = [(status.value, words) for status, words in STATUS_WORDS.items()]
        self._choices(menu, "statuses", pairs)

    def _fill_modality(self, menu: QMenu) -> None:
        modalities = self._presenter.state.modalities
        self._choices(menu, "modalities", [(modality, modality) for modality in modalities])

    def _choices(self, menu: QMenu, field: str, choices: Sequence[tuple[str, str]]) -> None:
        chosen: tuple[str, ...] = getattr(self._presenter.state.wanted, field)
        for value, title in choices:
            entry = menu.addAction(plain_entry(title))
            entry.setCheckable(True)
            entry.setChecked(value in chosen)
            entry.triggered.connect(lambda on, value=value: self._choose(field, value, on))
        if not choices:
            menu.addAction("Nothing to choose from").setEnabled(False)
        elif chosen:
            menu.addSeparator()
            menu.addAction("All of them").triggered.connect(lambda: self._presenter.narrow(**{field: ()}))

    def _choose(self, field: str, value: str, on: bool) -> None:
        chosen: tuple[str, ...] = getattr(self._presenter.state.wanted, field)
        others = tuple(one for one in chosen if one != value)
        self._presenter.narrow(**{field: (*others, value) if on else others})

    def _fill_more(self, menu: QMenu) -> None:
        state = self._presenter.state
        waiting = menu.addAction("Only studies with waiting results")
        waiting.setCheckable(True)
        waiting.setChecked(state.wanted.waiting_only)
        waiting.triggered.connect(lambda on: self._presenter.narrow(waiting_only=on))
        self._choices(menu.addMenu("Tags"), "tags", [(tag, tag) for tag in state.tags])
        menu.addSeparator()
        saved = self._saved.titled()
        for one, title in saved:
            menu.addAction(plain_entry(title)).triggered.connect(
                lambda _=False, one=one: self._saved.use(one.filter_id)
            )
        self._action(menu, "filter.save")
        if saved:
            forget = menu.addMenu("Delete a saved filter")
            for one, title in saved:
                forget.addAction(plain_entry(title)).triggered.connect(
                    lambda _=False, one=one: self._saved.delete(one.name)
                )
        menu.addSeparator()
        self._action(menu, "filter.clear")

    def _action(self, menu: QMenu, action_id: str) -> None:
        action = self._registry.get(action_id)
        keys = self._registry.keys_of(action_id)
        entry = menu.addAction(f"{action.title}\t{keys[0]}" if keys else action.title)
        entry.setEnabled(action.enabled_when())
        entry.triggered.connect(lambda: self._registry.trigger(action_id))


def pop_up(button: QToolButton) -> None:
    """Open a button's menu below it, for the keyboard."""
    button.menu().popup(button.mapToGlobal(QPoint(0, button.height())))
