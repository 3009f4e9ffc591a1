"""The engine: everything that services need, opened once per process."""

from __future__ import annotations

import getpass
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from core.audit.anchors import AnchorSigner
from core.audit.chain import Head
from core.audit.head_file import HeadFile
from core.audit.log import AuditContext, AuditLog
from core.config.keys import KeyStore
from core.config.locks import Hold
from core.config.paths import Paths
from core.config.sealed_file import mount, unmount
from core.config.settings import Settings, load_settings, save_settings
from core.config.temp import sweep_temp
from core.config.version import app_version
from core.domain.audit import AuditCode, AuditEvent, AuditOutcome
from core.domain.errors import EnvironmentFault
from core.library import schema
from core.library.browse_index import BrowseIndex
from core.library.database import Library, open_library
from core.library.repositories.meta import INSTALLATION, KEY_CHECK
from core.library.unit_of_work import UnitOfWork
from core.library.vault import IdentityVault

KEYRING_HEAD = "audit-head"
QUERY_INTERVAL_S = 10.0
HOLD = "library.hold"
"""Below the keys: held by each process that has the library open, so that none loses it to a restore."""
_SUMMED_AT_ONCE = 500


class Engine:
    """The opened home.

    Attributes
    ----------
    paths : Paths
        Folders and files.
    settings : Settings
        The reader's settings; change them with ``save_settings``.
    keys : KeyStore
        Derives keys; ``keys.notice`` says what a person should know about where the key lies.
    library : Library
        The database.
    vault : IdentityVault
        Seals identity.
    browse_index : BrowseIndex
        Studies in memory, for search as one types.
    actor : str
        Who acts, as verdicts and the audit trail name them.
    notices : tuple of str
        What a person should be told once (key file, settings that couldn't be read).

    Methods may be called from any thread; a unit of work stays in the thread that began it.
    """

    def __init__(
        self,
        paths: Paths,
        settings: Settings,
        keys: KeyStore,
        library: Library,
        actor: str,
        notices: tuple[str, ...] = (),
    ) -> None:
        self.paths = paths
        self.settings = settings
        self.keys = keys
        self.library = library
        self.actor = actor
        self.notices = notices
        self.vault = IdentityVault(keys.derive("vault"), keys.derive("pseudonym"))
        self.browse_index = BrowseIndex(self.vault)
        self.installation = ""
        self._audit_key = keys.derive("audit")
        self._log: AuditLog | None = None
        self._thread = threading.local()
        self._last_query_s = -QUERY_INTERVAL_S
        self._queries = 0
        self._closed = False
        self._done_once: set[str] = set()
        self._hold: Hold | None = None

    @property
    def audit_key(self) -> bytes:
        """The key of the audit chain."""
        return self._audit_key

    @property
    def signer(self) -> AnchorSigner:
        """Signs and checks anchors of this installation."""
        return AnchorSigner(self.keys.derive("audit-anchor"), self.installation)

    @property
    def head_file(self) -> HeadFile:
        """The end of the audit chain as noted outside the database."""
        return HeadFile(self.paths.keys / "audit.head", self.keys.derive("audit-head"), self.installation)

    @contextmanager
    def unit_of_work(self, *, writes: bool = True) -> Iterator[UnitOfWork]:
        """Begin a transaction; the block's end commits, an exception rolls back.

        Parameters
        ----------
        writes : bool
            False begins a transaction that only reads and waits for nobody.

        Raises
        ------
        AppError
            As ``UnitOfWork`` does.
        """
        uow = UnitOfWork(self.library, self.vault, self.paths.instances, self._log, writes=writes)
        with uow:
            outer = getattr(self._thread, "uow", None)
            self._thread.uow = uow if writes else outer
            try:
                yield uow
            finally:
                self._thread.uow = outer

    def record(
        self,
        code: AuditCode | str,
        *,
        action: str = "E",
        object_kind: str = "",
        object_ref: str = "",
        n_objects: int = 0,
        detail: Mapping[str, str | int | float | bool] | None = None,
        outcome: AuditOutcome | int = AuditOutcome.SUCCESS,
        reason: str = "",
    ) -> None:
        """Append an audit record, in this thread's unit of work when one is open, else in its own.

        Parameters
        ----------
        code : AuditCode or str
            What happened.
        object_ref : str
            A UID (it is replaced by its keyed hash) or an identifier of ours.
        detail : mapping
            Keys of ``core.audit.detail.ALLOWED_KEYS`` with short values free of identity.
        reason : str
            An error code of ours; never free text.

        Raises
        ------
        AppError
            If it can't be written: the operation then fails.
        """
        event = AuditEvent(
            AuditCode(code),
            action,
            object_kind,
            self.reference(object_ref),
            n_objects,
            dict(detail or {}),
            AuditOutcome(outcome),
            reason,
        )
        current: UnitOfWork | None = getattr(self._thread, "uow", None)
        if current is not None:
            current.record(event)
            return
        with self.unit_of_work() as uow:
            uow.record(event)

    def reference(self, identifier: str) -> str:
        """Return what the audit trail calls an object: the keyed hash of a DICOM UID, else the identifier itself."""
        looks_like_uid = bool(identifier) and set(identifier.partition("#")[0]) <= set("0123456789.")
        return self.vault.reference(identifier) if looks_like_uid else identifier

    def note_query(self, query_length: int, hits: int) -> None:
        """Count a search of the worklist; written to the audit trail at most once in ten seconds."""
        self._queries += 1
        now = time.monotonic()
        if now - self._last_query_s < QUERY_INTERVAL_S:
            return
        self._last_query_s = now
        detail = {"queries": self._queries, "query_length": query_length, "hits": hits}
        self._queries = 0
        self.record(AuditCode.QUERY, detail=detail)

    def note_access(self, study_uid: str, series_key: str, instances: int) -> None:
        """Record that a series' pictures were opened, the first time in this process."""
        if self.once(f"access/{series_key}"):
            self.record(
                AuditCode.INSTANCES_ACCESSED,
                action="R",
                object_kind="study",
                object_ref=study_uid,
                n_objects=instances,
                detail={"instances": instances},
            )

    def once(self, what: str) -> bool:
        """Return True the first time it is asked for ``what`` in this process."""
        if what in self._done_once:
            return False
        self._done_once.add(what)
        return True

    def save_settings(self, settings: Settings) -> None:
        """Write the settings file and use the new settings."""
        save_settings(self.paths.settings, settings)
        self.settings = settings

    def set_actor(self, actor: str) -> None:
        """Let verdicts and the audit trail name somebody else from now on."""
        self.actor = actor
        if self._log is not None:
            self._log.context = replace(self._log.context, user_id=actor)

    def start_audit(self, context: AuditContext) -> None:
        """Prepare the chain and record the start of the program."""
        head_file = self.head_file
        self._log = AuditLog(self._audit_key, self.signer, head_file, context, self._remember_head)
        with self.unit_of_work() as uow:
            if uow.audit.last() is None:
                head_file.create()
            self.record(AuditCode.APPLICATION_START)

    def close(self) -> None:
        """Record the end of the program, sign the chain's head and close the database. May be called twice."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._log is not None:
                self._record_stop(self._log)
        finally:
            self.release()

    def hold(self) -> None:
        """Say that this process has the library open; waits while one is being restored."""
        self._hold = Hold(self.paths.keys / HOLD)

    def release(self) -> None:
        """Close the database and what goes with it, without a record."""
        self.library.close()
        self.unmount_sealed_folders()
        if self._hold is not None:
            self._hold.close()

    def __enter__(self) -> Engine:
        """Return the engine; the block's end closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def _record_stop(self, log: AuditLog) -> None:
        with self.unit_of_work() as uow:
            if self._queries:
                self.record(AuditCode.QUERY, detail={"queries": self._queries})
            self.record(AuditCode.APPLICATION_STOP)
            log.anchor_now(uow.audit)

    def mount_sealed_folders(self) -> None:
        """Let this process read the sealed copies and results of this home until ``close``."""
        for folder, label in self._sealed_folders:
            mount(folder, self.keys.derive(label))

    def unmount_sealed_folders(self) -> None:
        """Forget their keys; ``close`` does it."""
        for folder, _ in self._sealed_folders:
            unmount(folder)

    @property
    def _sealed_folders(self) -> tuple[tuple[Path, str], ...]:
        return (
            (self.paths.instances, "instances"),
            (self.paths.results, "results"),
            (self.paths.training, "training"),
        )

    def _remember_head(self, head: Head) -> None:
        self.keys.remember(KEYRING_HEAD, self.head_file.encode(head))


def open_engine(
    home: Path | None = None, *, actor: str | None = None, configure: Callable[[Paths], None] | None = None
) -> Engine:
    """Open a home, making it when it isn't there.

    Parameters
    ----------
    home : pathlib.Path or None
        Else ``OVERREAD_HOME``, else the platform's data folder.
    actor : str or None
        Who acts; by default the reader of the settings, else the user of the operating system.
    configure : callable or None
        Called with the paths as soon as the folders exist (to start logging).

    Raises
    ------
    EnvironmentFault
        If the home can't be written, the key can't be had, or the library is newer, damaged or of another key.
    """
    paths = Paths.resolve(home)
    paths.create()
    if configure is not None:
        configure(paths)
    settings, notice = load_settings(paths.settings)
    keys = KeyStore.open(paths.keys)
    library = open_library(paths.database, keys.derive("database"))
    os_user = operating_system_user()
    engine = Engine(
        paths,
        settings,
        keys,
        library,
        actor or settings.reader_name or os_user,
        tuple(text for text in (keys.notice, notice) if text),
    )
    engine.hold()
    engine.mount_sealed_folders()
    try:
        sweep_temp(paths.temp)
        schema.prepare(library, paths.backups, paths.keys / "schema.lock")
        engine.installation = _installation(engine)
        _sum_up(engine)
        context = AuditContext.of_process(
            engine.actor, os_user, "reader", secrets.token_hex(8), app_version()
        )
        engine.start_audit(context)
    except BaseException:
        engine.release()
        raise
    return engine


def operating_system_user() -> str:
    """Return the name of the account that runs the program."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def _sum_up(engine: Engine) -> None:
    """Make sums and search words of the studies that came from an older schema; a kill loses one batch of it."""
    while True:
        with engine.unit_of_work(writes=False) as uow:
            waiting = uow.studies.not_counted(_SUMMED_AT_ONCE)
        if not waiting:
            return
        with engine.unit_of_work() as uow:
            uow.studies.recount_all(waiting)


def _installation(engine: Engine) -> str:
    """Return the library's installation identifier, and check that this key is the library's."""
    check = engine.vault.reference("key check")
    with engine.unit_of_work(writes=False) as uow:
        installation, stored = uow.meta.get(INSTALLATION), uow.meta.get(KEY_CHECK)
    if installation is None:
        with engine.unit_of_work() as uow:
            installation, stored = uow.meta.get(INSTALLATION), uow.meta.get(KEY_CHECK)
            if installation is None:
                installation, stored = secrets.token_hex(16), check
                uow.meta.set(INSTALLATION, installation)
                uow.meta.set(KEY_CHECK, check)
    if stored != check:
        raise EnvironmentFault(
            "library.wrong_key",
            "This library belongs to another key.",
            "Restore the keys folder that belongs to the library.",
        )
    return installation
