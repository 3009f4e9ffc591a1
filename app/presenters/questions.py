"""Questions that need exactly one answer. They wait beside the pictures; until then nothing is done.

A notice tells and is dismissed; a question is answered, once, with one of its choices (HOUSE.md 4.7).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count

from app.presenters.ports import Presenter

Answered = Callable[[str, str], None]


@dataclass(frozen=True)
class Choice:
    """One possible answer; ``role`` is ``"primary"``, ``"danger"`` or empty."""

    id: str
    title: str
    role: str = ""
    tip: str = ""


@dataclass(frozen=True)
class Question:
    """What is asked; with ``secret`` a text comes with the answer that is not shown on screen."""

    id: int
    what: str
    why: str = ""
    choices: tuple[Choice, ...] = ()
    level: str = "info"
    secret: bool = False


@dataclass(frozen=True)
class QuestionsState:
    """Oldest question first; ``focus`` is the question to which the reader's own act led, or 0."""

    questions: tuple[Question, ...] = ()
    focus: int = 0


class QuestionsPresenter(Presenter[QuestionsState]):
    """Keeps questions until each has its answer."""

    def __init__(self) -> None:
        super().__init__(QuestionsState())
        self._ids = count(1)
        self._answered: dict[int, Answered] = {}

    def ask(
        self,
        what: str,
        why: str,
        choices: tuple[Choice, ...],
        answered: Answered,
        *,
        level: str = "info",
        secret: bool = False,
        at_once: bool = False,
    ) -> int:
        """Ask; ``answered(choice, text)`` is called once. Returns the question's id.

        Parameters
        ----------
        at_once : bool
            The reader has just asked for this: it may take the focus. Everything else never does.
        """
        question = Question(next(self._ids), what, why, choices, level, secret)
        self._answered[question.id] = answered
        focus = question.id if at_once else self.state.focus
        self._publish(QuestionsState((*self.state.questions, question), focus))
        return question.id

    def answer(self, question_id: int, choice: str, text: str = "") -> None:
        """Answer a question; a second answer finds no question any more."""
        answered = self._answered.pop(question_id, None)
        if answered is None:
            return
        self._drop(question_id)
        answered(choice, text)

    def withdraw(self, question_id: int) -> None:
        """Take a question back that nobody needs to answer any more."""
        if self._answered.pop(question_id, None) is not None:
            self._drop(question_id)

    def attend(self) -> None:
        """Go to the oldest question."""
        if self.state.questions:
            self._publish(replace(self.state, focus=0))
            self._publish(replace(self.state, focus=self.state.questions[0].id))

    def _drop(self, question_id: int) -> None:
        left = tuple(q for q in self.state.questions if q.id != question_id)
        focus = 0 if self.state.focus == question_id else self.state.focus
        self._publish(QuestionsState(left, focus))
