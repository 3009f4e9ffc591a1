"""Tags of studies, saved filters and rules of retention."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter, ValidationError
from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from core.domain.browse import RetentionRule, SavedFilter, StudyFilter
from core.domain.errors import SafetyError
from core.library.repositories.chunks import in_chunks
from core.library.tables import RetentionRuleRow, SavedFilterRow, TagRow
from core.library.vault import IdentityVault

_FILTER = TypeAdapter(StudyFilter)
_RULE = TypeAdapter(RetentionRule)


class TagRepository:
    """Which words readers put on which studies."""

    def __init__(self, session: Session, touched: set[str]) -> None:
        self._session = session
        self._touched = touched

    def add(self, study_uid: str, tag: str) -> bool:
        """Put a tag on a study; False when it has it."""
        if tag in self.by_study([study_uid]).get(study_uid, ()):
            return False
        self._session.execute(insert(TagRow).values(study_uid=study_uid, tag=tag))
        self._touched.add(study_uid)
        return True

    def remove(self, study_uid: str, tag: str) -> bool:
        """Take a tag off a study; False when it hasn't it."""
        if tag not in self.by_study([study_uid]).get(study_uid, ()):
            return False
        self._session.execute(delete(TagRow).where(TagRow.study_uid == study_uid, TagRow.tag == tag))
        self._touched.add(study_uid)
        return True

    def by_study(self, study_uids: Iterable[str] | None) -> dict[str, tuple[str, ...]]:
        """Return the sorted tags of the studies that have any; of all studies when None."""
        query = select(TagRow.study_uid, TagRow.tag).order_by(TagRow.tag)
        queries = (
            [query]
            if study_uids is None
            else [query.where(TagRow.study_uid.in_(part)) for part in in_chunks(list(study_uids))]
        )
        found: dict[str, tuple[str, ...]] = {}
        for one in queries:
            for study_uid, tag in self._session.execute(one):
                found[study_uid] = (*found.get(study_uid, ()), tag)
        return found

    def all(self) -> dict[str, int]:
        """Return every tag and how many studies have it, the most used first."""
        number = func.count()
        query = select(TagRow.tag, number).group_by(TagRow.tag).order_by(number.desc(), TagRow.tag)
        return {row[0]: row[1] for row in self._session.execute(query)}


class FilterRepository:
    """Saved filters of the browser, sealed."""

    def __init__(self, session: Session, vault: IdentityVault) -> None:
        self._session = session
        self._vault = vault

    def put(self, name: str, wanted: StudyFilter) -> SavedFilter:
        """Save a filter; one of the same name, case aside, is replaced."""
        filter_id = self._vault.reference(f"filter/{name.casefold()}")
        document = json.dumps({"name": name, "filter": asdict(wanted)}).encode("utf-8")
        self.remove(filter_id)
        sealed = self._vault.seal_bytes(_context(filter_id), document)
        self._session.execute(insert(SavedFilterRow).values(filter_id=filter_id, sealed=sealed))
        return SavedFilter(filter_id, name, wanted)

    def all(self) -> list[SavedFilter]:
        """Return all filters by name."""
        rows = self._session.execute(select(SavedFilterRow.filter_id, SavedFilterRow.sealed))
        found = [self._opened(filter_id, sealed) for filter_id, sealed in rows]
        return sorted(found, key=lambda saved: saved.name.casefold())

    def remove(self, filter_id: str) -> bool:
        """Delete a filter; False when there is no such."""
        statement = delete(SavedFilterRow).where(SavedFilterRow.filter_id == filter_id)
        return _changed(self._session.execute(statement))

    def _opened(self, filter_id: str, sealed: bytes) -> SavedFilter:
        document = json.loads(self._vault.open_bytes(_context(filter_id), sealed))
        return SavedFilter(filter_id, document["name"], _FILTER.validate_python(document["filter"]))


class RetentionRepository:
    """Rules by which studies leave the library."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def put(self, rule: RetentionRule) -> None:
        """Save a rule; one of the same name is replaced."""
        self.remove(rule.name)
        document = _RULE.dump_json(rule).decode("utf-8")
        self._session.execute(insert(RetentionRuleRow).values(name=rule.name, document=document))

    def all(self) -> list[RetentionRule]:
        """Return all rules by name.

        Raises
        ------
        SafetyError
            If a rule can't be read (``retention.rule_invalid``): what it keeps isn't known then.
        """
        documents = self._session.scalars(select(RetentionRuleRow.document).order_by(RetentionRuleRow.name))
        try:
            return [_RULE.validate_json(document) for document in documents]
        except ValidationError as error:
            raise SafetyError(
                "retention.rule_invalid",
                "A retention rule of this library can't be read.",
                "Delete the rule and make it again, or restore the library from a backup.",
            ) from error

    def remove(self, name: str) -> bool:
        """Delete a rule; False when there is no such."""
        return _changed(self._session.execute(delete(RetentionRuleRow).where(RetentionRuleRow.name == name)))


def _context(filter_id: str) -> str:
    return f"filter/{filter_id}"


def _changed(outcome: Any) -> bool:
    return bool(outcome.rowcount)
