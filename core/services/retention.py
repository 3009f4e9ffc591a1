"""Rules by which studies leave the library; one acts only when somebody applies it, after a look at what it takes."""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime, timedelta

from core.domain.audit import AuditCode
from core.domain.browse import RemovedReport, RetentionRule, StudyLine
from core.domain.errors import InputError
from core.domain.study import ReadStatus
from core.services import browse
from core.services.engine import Engine
from core.services.library_files import is_ours
from core.services.remove_study import remove_studies

MOST_NAME = 80


def rules(engine: Engine) -> list[RetentionRule]:
    """Return the rules by name."""
    with engine.unit_of_work(writes=False) as uow:
        return uow.retention.all()


def save_rule(engine: Engine, rule: RetentionRule) -> None:
    """Keep a rule; one of the same name is replaced.

    Raises
    ------
    InputError
        If name, age or a status is wrong (``retention.invalid``).
    """
    _require_valid(rule)
    with engine.unit_of_work() as uow:
        uow.retention.put(rule)
        engine.record(
            AuditCode.RETENTION_RULE, action="U", object_kind="rule", detail={"days": rule.older_than_days}
        )


def delete_rule(engine: Engine, name: str) -> None:
    """Forget a rule; raises InputError (``retention.unknown``) when there is no such."""
    with engine.unit_of_work() as uow:
        if not uow.retention.remove(name):
            raise _unknown()
        engine.record(AuditCode.RETENTION_RULE, action="D", object_kind="rule")


def rule_named(engine: Engine, name: str) -> RetentionRule:
    """Return a rule; raises InputError (``retention.unknown``) when there is no such."""
    for rule in rules(engine):
        if rule.name == name:
            return rule
    raise _unknown()


def preview(engine: Engine, rule: RetentionRule) -> list[StudyLine]:
    """Return the studies that a rule would remove now, the oldest import first; nothing is changed."""
    _require_valid(rule)
    before = (datetime.now(UTC) - timedelta(days=rule.older_than_days)).isoformat(timespec="milliseconds")
    kept = {tag.casefold() for tag in rule.tags_kept}
    lines = [
        line
        for line in browse.study_lines(engine)
        if line.imported_utc < before
        and (not rule.statuses or line.status in rule.statuses)
        and not any(tag.casefold() in kept for tag in line.tags)
        and not (rule.keep_waiting and line.waiting)
    ]
    if rule.copies_only:
        with engine.unit_of_work(writes=False) as uow:
            lines = [
                line
                for line in lines
                if any(
                    is_ours(engine, stored.instance.file)
                    for stored in uow.instances.of_studies([line.study_uid])
                )
            ]
    return lines[::-1]


def apply(engine: Engine, rule: RetentionRule) -> RemovedReport:
    """Remove what ``preview`` shows.

    Raises
    ------
    AppError
        As ``remove_studies`` does; what was removed before stays removed.
    """
    lines = preview(engine, rule)
    if not lines:
        return RemovedReport()
    report = remove_studies(engine, [line.study_uid for line in lines], "retention")
    engine.record(
        AuditCode.RETENTION_APPLIED,
        action="D",
        object_kind="rule",
        n_objects=report.studies,
        detail={
            "days": rule.older_than_days,
            "studies": report.studies,
            "instances": report.instances,
            "copies": report.copies_deleted,
            "undeleted": report.undeleted,
        },
    )
    return report


def _require_valid(rule: RetentionRule) -> None:
    name = rule.name.strip()
    printable = all(unicodedata.category(c)[0] != "C" for c in name)
    unknown = set(rule.statuses) - {str(status) for status in ReadStatus}
    if not name or name != rule.name or len(name) > MOST_NAME or not printable:
        raise _invalid(f"The name of a rule has 1 to {MOST_NAME} plain characters.", "Give a short name.")
    if rule.older_than_days < 1:
        raise _invalid("A rule's age is at least one day.", "Give the number of days since the import.")
    if unknown:
        raise _invalid(
            "A rule names a reading status that doesn't exist.", f"Use {', '.join(map(str, ReadStatus))}."
        )


def _invalid(message: str, remedy: str) -> InputError:
    return InputError("retention.invalid", message, remedy)


def _unknown() -> InputError:
    return InputError("retention.unknown", "There is no such retention rule.", "List the rules.")
