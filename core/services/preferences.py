"""What a reader may change while the program runs."""

from __future__ import annotations

from pydantic import ValidationError

from core.config.settings import Settings
from core.domain.audit import AuditCode
from core.domain.errors import InputError
from core.services.engine import Engine, operating_system_user

# What changes how results are read or whose name stands beside them; looks alone are nobody's business.
_AUDITED = ("reader_name", "ai_hidden_until_asked")


def change_settings(
    engine: Engine,
    *,
    theme: str | None = None,
    key_scheme: str | None = None,
    ai_hidden_until_asked: bool | None = None,
    corner_texts: bool | None = None,
    reader_name: str | None = None,
    worklist_columns: tuple[str, ...] | None = None,
    worklist_sort: str | None = None,
    identity_hidden: bool | None = None,
) -> Settings:
    """Change some settings, keep them in the settings file and let them take effect.

    None leaves a setting as it is. A changed name of the reader, and the mode in which results stay hidden until
    they are asked for, go to the audit trail before the file is written.

    Returns
    -------
    Settings
        What holds from now on.

    Raises
    ------
    InputError
        If a value isn't allowed (``settings.invalid``).
    AppError
        If the audit trail or the file can't be written.
    """
    present = engine.settings
    wanted = {
        "theme": theme,
        "key_scheme": key_scheme,
        "ai_hidden_until_asked": ai_hidden_until_asked,
        "reader_name": None if reader_name is None else reader_name.strip(),
        "worklist_columns": worklist_columns,
        "worklist_sort": worklist_sort,
        "identity_hidden": identity_hidden,
    }
    changed = {
        name: value for name, value in wanted.items() if value is not None and value != getattr(present, name)
    }
    document = {**present.model_dump(), **changed}
    if corner_texts is not None:
        document["overlay"] = {**document["overlay"], "corner_texts": corner_texts}
    settings = _checked(document)
    if settings == present:
        return present
    for name in _AUDITED:
        if name in changed:
            _record(engine, name, changed[name])
    engine.save_settings(settings)
    if "reader_name" in changed:
        engine.set_actor(settings.reader_name or operating_system_user())
    return settings


def _checked(document: dict[str, object]) -> Settings:
    try:
        return Settings.model_validate(document)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise InputError(
            "settings.invalid", f"The setting “{place}” can't have this value.", "Choose another value."
        ) from error


def _record(engine: Engine, name: str, value: object) -> None:
    detail: dict[str, str | int | float | bool] = {"setting": name}
    # The names of readers stand in the trail as who acts; here it is enough that the name was changed.
    if isinstance(value, bool):
        detail["to"] = value
    engine.record(AuditCode.SOFTWARE_CONFIGURATION, action="U", detail=detail)
