"""``remove``, ``retention``, ``backup`` and ``check``: keeping the library in order."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from core.cli.options import HomeOption, JsonOption, engine_at
from core.cli.output import EXIT_REFUSED, TerminalProgress, answer
from core.config.paths import Paths
from core.domain.browse import RetentionRule, StudyLine
from core.services import backup, check_library, remove_study, retention

retention_app = typer.Typer(
    help="Rules by which studies leave the library; none acts by itself.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
backup_app = typer.Typer(
    help=f"Backups of the index. {backup.WHAT_TO_KEEP}", no_args_is_help=True, rich_markup_mode=None
)
RuleName = Annotated[str, typer.Argument(help="Name of the rule.")]


def remove_command(
    study_uids: Annotated[list[str], typer.Argument(help="Study Instance UIDs.")],
    reason: Annotated[
        str, typer.Option("--reason", help=f"{', '.join(remove_study.REASONS)}, or other words.")
    ],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove studies with copies, thumbnails and results. Linked files and the audit trail stay."""
    with engine_at(home) as engine:
        report = remove_study.remove_studies(engine, study_uids, reason)
    answer(
        report,
        as_json,
        lambda: [
            f"{report.studies} studies, {report.instances} instances and {report.results} results removed; "
            f"{report.copies_deleted} copies deleted, {report.files_left} linked files left where they are"
        ],
    )


@retention_app.command("list")
def list_rules_command(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List the rules."""
    with engine_at(home) as engine:
        rules = retention.rules(engine)
    answer({"rules": rules}, as_json, lambda: [_rule_line(rule) for rule in rules] or ["No rules."])


@retention_app.command("add")
def add_rule_command(
    name: RuleName,
    older_than_days: Annotated[int, typer.Option("--older-than-days", help="Days since the import.")],
    status: Annotated[
        list[str] | None,
        typer.Option("--status", help="unread, in_progress, reviewed (the default); may be repeated."),
    ] = None,
    any_status: Annotated[bool, typer.Option("--any-status", help="Studies of each reading status.")] = False,
    keep_tag: Annotated[
        list[str] | None, typer.Option("--keep-tag", help="Studies with this tag stay; may be repeated.")
    ] = None,
    copies_only: Annotated[
        bool, typer.Option("--copies-only", help="Only studies of which the library holds copies.")
    ] = False,
    also_waiting: Annotated[
        bool, typer.Option("--also-waiting", help="Also studies with results that wait for a verdict.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a rule; one of the same name is replaced. Nothing is removed until it is applied."""
    rule = RetentionRule(
        name=name,
        older_than_days=older_than_days,
        statuses=() if any_status else tuple(status or ("reviewed",)),
        tags_kept=tuple(keep_tag or ()),
        copies_only=copies_only,
        keep_waiting=not also_waiting,
    )
    with engine_at(home) as engine:
        retention.save_rule(engine, rule)
        found = retention.preview(engine, rule)
    answer(
        {"rule": rule, "studies": len(found)},
        as_json,
        lambda: [_rule_line(rule), f"{len(found)} studies would be removed now"],
    )


@retention_app.command("remove")
def remove_rule_command(name: RuleName, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Forget a rule; no study is removed."""
    with engine_at(home) as engine:
        retention.delete_rule(engine, name)
    answer({"removed": name}, as_json, lambda: ["The rule is gone; the studies stay."])


@retention_app.command("preview")
def preview_command(name: RuleName, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """List what a rule would remove now."""
    with engine_at(home) as engine:
        lines = retention.preview(engine, retention.rule_named(engine, name))
    answer(
        {"studies": [_study(line) for line in lines]},
        as_json,
        lambda: (
            [
                f"{line.patient_key}  {'/'.join(line.modalities):8} {line.imported_utc[:10]}  {line.study_uid}"
                for line in lines
            ]
            or ["Nothing."]
        ),
    )


@retention_app.command("apply")
def apply_command(name: RuleName, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Remove what the preview lists."""
    with engine_at(home) as engine:
        report = retention.apply(engine, retention.rule_named(engine, name))
    answer(report, as_json, lambda: [f"{report.studies} studies removed, {report.freed_bytes} bytes freed"])


@backup_app.command("make")
def make_command(
    folder: Annotated[
        Path | None, typer.Option("--folder", help="Where to; another disk is the better place.")
    ] = None,
    daily: Annotated[
        bool, typer.Option("--daily", help="Once a day into the home's folder, older ones thinned out.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a backup while work goes on, read it again and check it."""
    with engine_at(home) as engine:
        file = backup.daily_backup(engine) if daily else backup.make_backup(engine, folder)
    answer(
        {"file": file, "note": backup.WHAT_TO_KEEP},
        as_json,
        lambda: [f"wrote {file}" if file else "The backup of today is there already.", backup.WHAT_TO_KEEP],
    )


@backup_app.command("list")
def list_backups_command(
    folder: Annotated[Path | None, typer.Option("--folder", help="By default the home's backups.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List backups, the newest first. The library isn't opened, so that a damaged one doesn't matter."""
    found = backup.list_backups(Paths.resolve(home), folder)
    answer(
        {"backups": found},
        as_json,
        lambda: (
            [
                f"{info.made_utc}  {info.kind:9} schema {info.schema} {info.size_bytes:>10}  {info.file}"
                for info in found
            ]
            or ["No backups."]
        ),
    )


@backup_app.command("restore")
def restore_command(
    file: Annotated[Path, typer.Argument(help="The backup.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a backup in the place of the library, which is kept beside it. Close the window first."""
    done = backup.restore_backup(home, file)
    answer(
        done,
        as_json,
        lambda: [
            f"{done.studies} studies restored, {done.missing_files} files not where they were",
            f"{done.not_in_backup} studies came later: import them again",
            f"{done.removed_again} studies had been removed since and were removed again",
            f"the former library is {done.replaced}" if done.replaced else "there was no library before",
        ],
    )


def check_command(
    full: Annotated[bool, typer.Option("--full", help="Every seal and every file's digest.")] = False,
    orphans: Annotated[
        bool, typer.Option("--delete-orphans", help="Delete files of the library that belong to no study.")
    ] = False,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check pages, seals, sums, audit trail and files of the library."""
    with engine_at(home) as engine:
        if orphans:
            check_library.delete_orphans(engine)
        check = check_library.check_library(engine, full=full, progress=TerminalProgress())

    def lines() -> list[str]:
        head = f"{check.studies} studies, {check.instances} instances, {check.events} audit records: "
        rows = [head + ("all is well" if check.ok else "SOMETHING IS WRONG")]
        rows += [f"  {f.message} ({f.count}) {f.remedy}" for f in check.findings]
        rows += [f"  missing {file}" for file in check.missing_files]
        return rows + [f"  orphan {file}" for file in check.orphans]

    answer(check, as_json, lines)
    if not check.ok:
        raise typer.Exit(EXIT_REFUSED)


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("remove")(remove_command)
    app.add_typer(retention_app, name="retention")
    app.add_typer(backup_app, name="backup")
    app.command("check")(check_command)


def _study(line: StudyLine) -> dict[str, Any]:
    """Return a line without the patient's identity."""
    return {
        "study_uid": line.study_uid,
        "pseudonym": line.patient_key,
        "modalities": list(line.modalities),
        "status": str(line.status),
        "tags": list(line.tags),
        "instances": line.instance_count,
        "imported_utc": line.imported_utc,
    }


def _rule_line(rule: RetentionRule) -> str:
    parts = [f"{rule.name}: {rule.older_than_days} days after the import"]
    parts.append(f"status {' or '.join(rule.statuses)}" if rule.statuses else "any status")
    if rule.tags_kept:
        parts.append(f"kept: {', '.join(rule.tags_kept)}")
    if rule.copies_only:
        parts.append("copies only")
    if not rule.keep_waiting:
        parts.append("also with results that wait")
    return ", ".join(parts)
