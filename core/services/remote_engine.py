"""Model servers as engines: connect one, try it, forget it. Each change goes to the audit trail.

What is known of a server's model lies below the home in ``engines``; its token in the keyring, or sealed there where
this computer has no keyring. The settings name the server, its address and the model it was seen to have.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from core.bundles.manifest import Manifest, parse_manifest
from core.config import keyring_port
from core.config.atomic import atomic_write_bytes
from core.config.settings import RemoteEngine, ServedModel
from core.domain.audit import AuditCode
from core.domain.errors import AppError, EnvironmentFault, InputError, SafetyError
from core.jobs import server_refusals as refusals
from core.jobs.messages import ServerSpec
from core.jobs.server_address import ServerAddress, checked_address
from core.jobs.server_client import Patience, ServerClient
from core.services.engine import Engine
from core.services.served_manifest import manifest_of

FOLDER = "engines"
HEALTHY, LOADING, OTHER_MODEL, UNREACHABLE = "healthy", "loading", "other-model", "unreachable"
_SETTING = "remote_engines"
_OWNER_ONLY = 0o600
_MAX_AUDIT = 160


@dataclass(frozen=True)
class EngineRow:
    """A server as panels and the command line show it; the token is never part of it.

    ``verified`` is what the server says of the model's signature: this computer can't check it. ``knows_needs`` is
    False when the server doesn't say which series its model was made for.
    """

    name: str
    url: str
    model_id: str
    model_version: str
    model_title: str
    sha256: str
    ca_file: str = ""
    allow_plain: bool = False
    verified: bool = False
    knows_needs: bool = True


@dataclass(frozen=True)
class EngineState:
    """How a server is. ``state`` is one of the constants above, ``words`` a sentence for the reader."""

    name: str
    state: str
    words: str
    device: str = ""

    @property
    def ready(self) -> bool:
        """Whether a run may be sent now."""
        return self.state == HEALTHY


@dataclass(frozen=True)
class KnownModel:
    """What is kept of a server's model."""

    manifest: Manifest
    card: str
    verified: bool
    knows_needs: bool


def connect_engine(
    engine: Engine,
    name: str,
    url: str,
    token: str = "",
    *,
    ca_file: str = "",
    allow_plain: bool = False,
    patience: Patience | None = None,
) -> EngineRow:
    """Ask a server for its model and use it as an engine from now on; replaces the server of that name.

    Parameters
    ----------
    token : str
        Empty keeps the token of the server of that name, if its address is the same.
    ca_file : str
        PEM file of the authority that signed the server's certificate.
    allow_plain : bool
        Let pictures travel unencrypted to another computer.

    Raises
    ------
    AppError
        ``engine.…``: the entry is wrong, the server can't be reached, or doesn't know the token. Nothing is changed.
    """
    name = name.strip()
    path = str(Path(ca_file).expanduser().absolute()) if ca_file else ""
    address = checked_address(name, url, "", ca_file=path or None, allow_plain=allow_plain)
    token = token.strip() or _token_for(engine, address)
    address = checked_address(name, url, token, ca_file=path or None, allow_plain=allow_plain)
    info = ServerClient(address, patience).model_info()
    manifest, knows = manifest_of(engine, info, name)
    try:
        served = ServedModel(id=info.id, version=info.version, sha256=info.sha256, title=info.title[:120])
    except ValueError:
        raise refusals.not_understood(name, "its model's identity") from None
    entry = RemoteEngine(name=name, url=address.url, ca_file=path, allow_plain=allow_plain, model=served)
    known = _known_by(engine, name) is not None
    _record(engine, entry, "U" if known else "C")
    _keep_token(engine, name, token)
    _keep_model(engine, name, KnownModel(manifest, info.card, info.verified, knows))
    _save(engine, [*(one for one in engine.settings.remote_engines if one.name != name), entry])
    return row_of(engine, entry)


def reconnect_engine(engine: Engine, name: str, *, patience: Patience | None = None) -> EngineRow:
    """Take the model that a connected server has now; see ``connect_engine``."""
    entry = find_engine(engine, name)
    return connect_engine(
        engine, name, entry.url, ca_file=entry.ca_file, allow_plain=entry.allow_plain, patience=patience
    )


def list_engines(engine: Engine) -> list[EngineRow]:
    """Return the servers in use, by name; nothing is asked of them."""
    return [row_of(engine, one) for one in engine.settings.remote_engines]


def check_engine(engine: Engine, name: str, *, patience: Patience | None = None) -> EngineState:
    """Ask a server how it is, whether it knows the token, and whether it has the model that was listed.

    Raises
    ------
    InputError
        ``engine.unknown``. What is wrong with the server is part of the answer.
    """
    entry = find_engine(engine, name)
    try:
        client = ServerClient(_address(engine, entry), patience)
        info = client.model_info()
        health = client.health()
    except AppError as error:
        return EngineState(name, UNREACHABLE, f"{error.user_message} {error.remedy}".strip())
    listed = entry.model
    if (info.id, info.version, info.sha256) != (listed.id, listed.version, listed.sha256):
        return EngineState(
            name,
            OTHER_MODEL,
            f"It now serves {info.id} {info.version} instead of {listed.id} {listed.version}"
            + (", with other weights." if info.version == listed.version else ".")
            + " Nothing is sent until you connect it again.",
        )
    if not health.model_loaded:
        return EngineState(name, LOADING, "Reachable, but its model isn't ready yet.")
    device = "".join(sign for sign in health.device[:20] if sign.isprintable())
    return EngineState(
        name, HEALTHY, f"Ready: {listed.title} {listed.version} on its {device or 'device'}.", device
    )


def health_of(engine: Engine, name: str, *, patience: Patience | None = None) -> EngineState:
    """Return whether a server answers at all; needs no token."""
    entry = find_engine(engine, name)
    try:
        health = ServerClient(
            _address(engine, entry), patience or Patience(short_s=3.0, connect_s=2.0)
        ).health()
    except AppError as error:
        return EngineState(name, UNREACHABLE, error.user_message)
    if not health.model_loaded:
        return EngineState(name, LOADING, f"{name} is loading its model.")
    return EngineState(name, HEALTHY, "", health.device[:20])


def forget_engine(engine: Engine, name: str) -> None:
    """Use a server no longer, and forget its token. Results that it made stay.

    Raises
    ------
    InputError
        ``engine.unknown``.
    """
    entry = find_engine(engine, name)
    _record(engine, entry, "D")
    _save(engine, [one for one in engine.settings.remote_engines if one.name != name])
    if keyring_port.is_available():
        keyring_port.remove(_keyring_entry(engine, name))
    for suffix in (".token", ".json"):
        _file(engine, name, suffix).unlink(missing_ok=True)


def find_engine(engine: Engine, name: str) -> RemoteEngine:
    """Return the entry of a server; raises InputError ``engine.unknown``."""
    entry = _known_by(engine, name)
    if entry is None:
        known = ", ".join(one.name for one in engine.settings.remote_engines) or "none"
        raise InputError(
            "engine.unknown",
            f"There is no engine “{name[:40]}”.",
            f"Connected are: {known}. Add one in Settings or by “overread engine add”.",
        )
    return entry


def spec_of(engine: Engine, entry: RemoteEngine) -> ServerSpec:
    """Return what the worker needs to reach a server, its token included."""
    return ServerSpec(
        entry.name,
        entry.url,
        entry.model.id,
        entry.model.version,
        entry.model.sha256,
        entry.ca_file or None,
        entry.allow_plain,
        _token(engine, entry.name),
    )


def known_model(engine: Engine, entry: RemoteEngine) -> KnownModel:
    """Return what is kept of a server's model.

    Raises
    ------
    EnvironmentFault
        ``engine.forgotten`` when it is gone or isn't that of the settings.
    """
    try:
        document = json.loads(_file(engine, entry.name, ".json").read_text("utf-8"))
        manifest = parse_manifest(json.dumps(document["manifest"]).encode())
        if (manifest.id, manifest.version) != (entry.model.id, entry.model.version):
            raise ValueError
        return KnownModel(
            manifest, str(document["card"]), document["verified"] is True, document["knows_needs"] is True
        )
    except (OSError, ValueError, KeyError, TypeError, InputError) as error:
        raise EnvironmentFault(
            "engine.forgotten",
            f"What is known of the model of {entry.name} is gone or damaged.",
            "Connect it again in Settings, or by “overread engine test NAME --accept”.",
        ) from error


def row_of(engine: Engine, entry: RemoteEngine) -> EngineRow:
    """Return the row of a server."""
    verified, knows = False, True
    try:
        known = known_model(engine, entry)
        verified, knows = known.verified, known.knows_needs
    except EnvironmentFault:
        knows = False
    model = entry.model
    return EngineRow(
        entry.name,
        entry.url,
        model.id,
        model.version,
        model.title,
        model.sha256,
        entry.ca_file,
        entry.allow_plain,
        verified,
        knows,
    )


def _address(engine: Engine, entry: RemoteEngine) -> ServerAddress:
    return checked_address(
        entry.name,
        entry.url,
        _token(engine, entry.name),
        ca_file=entry.ca_file or None,
        allow_plain=entry.allow_plain,
    )


def _known_by(engine: Engine, name: str) -> RemoteEngine | None:
    return next((one for one in engine.settings.remote_engines if one.name == name), None)


def _save(engine: Engine, entries: list[RemoteEngine]) -> None:
    ordered = tuple(sorted(entries, key=lambda one: one.name.casefold()))
    engine.save_settings(engine.settings.model_copy(update={_SETTING: ordered}))


def _record(engine: Engine, entry: RemoteEngine, action: str) -> None:
    engine.record(
        AuditCode.SECURITY_CONFIGURATION,
        action=action,
        detail={
            "setting": "remote engine",
            "as": entry.name,
            "to": entry.url[:_MAX_AUDIT],
            "model_id": entry.model.id,
            "model_version": entry.model.version,
            "model_sha256": entry.model.sha256,
        },
    )


def _file(engine: Engine, name: str, suffix: str) -> Path:
    return engine.paths.root / FOLDER / (hashlib.sha256(name.encode()).hexdigest()[:16] + suffix)


def _keyring_entry(engine: Engine, name: str) -> str:
    return f"{engine.installation}/engine/{name}"


def _token_for(engine: Engine, address: ServerAddress) -> str:
    """Return the known token of a server of the same address; another address never gets it."""
    entry = _known_by(engine, address.name)
    return _token(engine, address.name) if entry is not None and entry.url == address.url else ""


def _token(engine: Engine, name: str) -> str:
    if keyring_port.is_available() and (found := keyring_port.read(_keyring_entry(engine, name))):
        return found
    try:
        sealed = _file(engine, name, ".token").read_bytes()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise _unreadable(name) from error
    try:
        return engine.vault.open_text(f"engine/{name}", sealed)
    except SafetyError as error:
        raise _unreadable(name) from error


def _unreadable(name: str) -> EnvironmentFault:
    return EnvironmentFault(
        "engine.token_lost", f"The token of {name} can't be read.", "Enter it again in Settings."
    )


def _keep_token(engine: Engine, name: str, token: str) -> None:
    file = _file(engine, name, ".token")
    if keyring_port.is_available():
        keyring_port.write(_keyring_entry(engine, name), token)
        file.unlink(missing_ok=True)
        return
    _write(file, engine.vault.seal_text(f"engine/{name}", token))


def _keep_model(engine: Engine, name: str, known: KnownModel) -> None:
    document = {
        "manifest": known.manifest.model_dump(mode="json"),
        "card": known.card,
        "verified": known.verified,
        "knows_needs": known.knows_needs,
    }
    _write(_file(engine, name, ".json"), json.dumps(document).encode())


def _write(file: Path, data: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(file, data, mode=_OWNER_ONLY)
    except OSError as error:
        raise EnvironmentFault(
            "engine.not_kept",
            f"The engine can't be kept ({error.strerror or type(error).__name__}).",
            "Free space on the disk of the data folder.",
        ) from error
