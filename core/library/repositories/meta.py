"""Facts about the library itself."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from core.library.tables import MetaRow

INSTALLATION = "installation"
KEY_CHECK = "key_check"
REVISION = "revision"


class MetaRepository:
    """Key and value pairs."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._next = 0

    def get(self, key: str) -> str | None:
        """Return a value or None."""
        return self._session.scalar(select(MetaRow.value).where(MetaRow.key == key))

    def set(self, key: str, value: str) -> None:
        """Write a value."""
        self._session.merge(MetaRow(key=key, value=value))

    def revision(self) -> int:
        """Return the number that grows with each change of studies or series."""
        return int(self.get(REVISION) or 0)

    def next_revision(self) -> int:
        """Advance that number, once per transaction, and return it."""
        if not self._next:
            self._next = self.revision() + 1
            self.set(REVISION, str(self._next))
        return self._next

    def transaction_ended(self) -> None:
        """Hear that what follows belongs to another transaction, which needs a number of its own."""
        self._next = 0
