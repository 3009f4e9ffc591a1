"""``decide``, ``export`` and ``audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from core.cli.options import HomeOption, JsonOption, OutFolder, engine_at
from core.cli.output import EXIT_REFUSED, answer
from core.domain.errors import InputError
from core.domain.result import Verdict
from core.services import record_decision, verify_audit

audit_app = typer.Typer(help="The audit log.", no_args_is_help=True, rich_markup_mode=None)


def decide_command(
    result_id: Annotated[str, typer.Argument()],
    finding: Annotated[str, typer.Option("--finding", help="Finding id.")],
    verdict: Annotated[str, typer.Option("--verdict", help="accept, reject, edit or unsure.")],
    reason: Annotated[str, typer.Option("--reason")] = "",
    mask: Annotated[Path | None, typer.Option("--mask", help="Corrected mask as NIfTI.")] = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Record a verdict on a finding."""
    try:
        chosen = Verdict(verdict)
    except ValueError as error:
        raise InputError(
            "decide.verdict", f"There is no verdict {verdict!r}.", "Use accept, reject, edit or unsure."
        ) from error
    with engine_at(home) as engine:
        decision, _ = record_decision.record_decision(engine, result_id, finding, chosen, reason, mask)
    document = {
        "decision_id": decision.decision_id,
        "verdict": decision.verdict,
        "decided_utc": decision.decided_utc,
    }
    answer(document, as_json, lambda: [f"recorded {chosen.value} as {decision.decision_id}"])


def export_command(
    result_id: Annotated[str, typer.Argument()],
    kinds: Annotated[str, typer.Option("--as", help="seg,sr,pm,nifti,pdf … separated by commas.")],
    out: OutFolder,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a result as DICOM and other objects, each read back before it counts."""
    from core.services import export_result

    wanted = [k.strip() for k in kinds.split(",") if k.strip()]
    with engine_at(home) as engine:
        files = export_result.export_result(engine, result_id, wanted, out)
    document = {
        "files": [
            {
                "kind": f.kind,
                "path": str(f.path),
                "sop_instance_uid": f.sop_instance_uid,
                "verified": f.verified,
            }
            for f in files
        ]
    }
    answer(document, as_json, lambda: [f"{f.kind:6} {f.path}" for f in files])


@audit_app.command("verify")
def audit_verify(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Verify the whole chain."""
    with engine_at(home) as engine:
        outcome = verify_audit.verify(engine)
    document = {
        "events": outcome.events,
        "ok": outcome.ok,
        "first_bad_seq": outcome.first_bad_seq,
        "reason": getattr(outcome, "reason", ""),
    }
    answer(
        document,
        as_json,
        lambda: [
            f"{outcome.events} events, "
            + ("chain intact" if outcome.ok else f"BROKEN at {outcome.first_bad_seq}")
        ],
    )
    if not outcome.ok:
        raise typer.Exit(EXIT_REFUSED)


@audit_app.command("list")
def audit_list(
    since: Annotated[str, typer.Option("--since", help="Only events from this UTC time on (ISO 8601).")] = "",
    limit: Annotated[int, typer.Option("--limit", min=1)] = 1000,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """List events, oldest first."""
    with engine_at(home) as engine:
        events = verify_audit.list_events(engine, since=since or None, limit=limit)
    answer({"events": events}, as_json, lambda: [str(e) for e in events])


@audit_app.command("export")
def audit_export(
    out: Annotated[Path, typer.Option("--out", help="File to write.")],
    kind: Annotated[str, typer.Option("--as", help="xml or csv.")] = "xml",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export the log as DICOM PS3.15 A.5 XML or CSV."""
    if kind not in ("xml", "csv"):
        raise InputError("audit.kind", f"There is no export kind {kind!r}.", "Use xml or csv.")
    with engine_at(home) as engine:
        count = verify_audit.export_events(engine, kind, out)
    answer({"events": count, "file": str(out)}, as_json, lambda: [f"wrote {count} events to {out}"])


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("decide")(decide_command)
    app.command("export")(export_command)
    app.add_typer(audit_app, name="audit")
