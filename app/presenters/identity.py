"""Whether the screen may say who the patients are: one truth for all panels."""

from __future__ import annotations

from dataclasses import dataclass

from app.presenters.ports import Presenter
from core.domain.person_name import folded, search_text
from core.domain.study import PatientIdentity

_MASK = "•••"
_LETTERS_OF_A_NAME = 3


@dataclass(frozen=True)
class IdentityState:
    """Whether names, IDs, birth dates and accession numbers are hidden."""

    hidden: bool = False


class IdentityPresenter(Presenter[IdentityState]):
    """Attach a view (``show_state(IdentityState)``) to follow it, or ask ``hidden`` when drawing."""

    def __init__(self, hidden: bool = False) -> None:
        super().__init__(IdentityState(hidden))

    @property
    def hidden(self) -> bool:
        """Whether identity is hidden now."""
        return self.state.hidden

    def toggle(self) -> None:
        """Hide, or show again."""
        self.set_hidden(not self.hidden)

    def set_hidden(self, hidden: bool) -> None:
        """Hide or show."""
        self._publish(IdentityState(hidden))


def without_identity(text: str, identity: PatientIdentity) -> str:
    """Return ``text`` with every word that also occurs in name, ID, accession number or physician masked.

    Descriptions are written by hand; some hold the patient's name.
    """
    known = " ".join(
        (
            search_text(identity.patient_name),
            search_text(identity.referring_physician),
            folded(identity.patient_id),
            folded(identity.accession_number),
        )
    )
    words = {word for word in known.replace(",", " ").split() if len(word) >= _LETTERS_OF_A_NAME}
    shown = []
    for word in text.split(" "):
        bare = folded(word).strip(",.;:()[]")
        hides = bare in words or any(
            part in words for part in bare.replace("-", " ").replace("_", " ").split()
        )
        shown.append(_MASK if bare and hides else word)
    return " ".join(shown)
