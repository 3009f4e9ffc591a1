"""One window per data folder: a second start hands its files to the first window and ends."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QDir, QLockFile, QObject
from PySide6.QtNetwork import QLocalServer, QLocalSocket

_CONNECT_MS = 500
_ANSWER_MS = 5000
_TRIES = 20
_TRY_MS = 150
_LIMIT = 1 << 20
_DONE = b"ok\n"


@dataclass(frozen=True)
class Request:
    """What a second start wants of the first window; ``files`` are absolute."""

    files: tuple[Path, ...] = ()
    sample: bool = False

    def encoded(self) -> bytes:
        """Return one line of JSON."""
        return (
            json.dumps({"files": [os.fspath(f) for f in self.files], "sample": self.sample}).encode() + b"\n"
        )

    @classmethod
    def decoded(cls, line: bytes) -> Request:
        """Read ``encoded``; raises ValueError for anything else."""
        document = json.loads(line)
        if not isinstance(document, dict) or not isinstance(document.get("files"), list):
            raise ValueError("not a request")
        files = [Path(file) for file in document["files"] if isinstance(file, str)]
        return cls(tuple(file for file in files if file.is_absolute()), document.get("sample") is True)


class SingleInstance(QObject):
    """Claims a data folder for this process, or reaches the process that has it.

    A lock file says who has the folder; its owner's death frees it, so that a socket left behind by a crash is
    replaced and never believed.

    Parameters
    ----------
    home : Path
        The data folder; need not exist.
    """

    def __init__(self, home: Path, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.name = server_name(home)
        self.received: Callable[[Request], None] = lambda _: None
        self._lock = QLockFile(str(Path(QDir.tempPath()) / f"{self.name}.lock"))
        # Only the owner's death makes a lock stale: a window may stay open for weeks.
        self._lock.setStaleLockTime(0)
        self._sockets: list[QLocalSocket] = []
        self._server = QLocalServer(self)
        self._server.setSocketOptions(QLocalServer.SocketOption.UserAccessOption)
        self._server.newConnection.connect(self._on_connection)

    def claim(self, request: Request) -> bool:
        """Return True if this process is the first; else the first one got ``request`` if it answers.

        A first process that doesn't answer (it hangs, or belongs to another account) isn't joined by a second
        window: two of them would write the same library without knowing of each other's jobs.
        """
        for _ in range(_TRIES):
            if self._lock.tryLock(_TRY_MS):
                self._listen()
                return True
            if self._hand_over(request):
                return False
        return False

    def release(self) -> None:
        """Give the folder back; called at the end."""
        self._server.close()
        self._lock.unlock()

    def _listen(self) -> None:
        QLocalServer.removeServer(self.name)
        self._server.listen(self.name)

    def _hand_over(self, request: Request) -> bool:
        socket = QLocalSocket()
        socket.connectToServer(self.name)
        if not socket.waitForConnected(_CONNECT_MS):
            return False
        socket.write(request.encoded())
        socket.flush()
        answered = socket.waitForReadyRead(_ANSWER_MS) and bytes(socket.readAll().data()) == _DONE
        socket.disconnectFromServer()
        return answered

    def _on_connection(self) -> None:
        while (socket := self._server.nextPendingConnection()) is not None:
            socket.setReadBufferSize(_LIMIT)
            self._sockets.append(socket)
            socket.readyRead.connect(self._read)
            socket.disconnected.connect(self._forget)
        self._read()

    def _read(self) -> None:
        for socket in [s for s in self._sockets if s.canReadLine()]:
            try:
                request = Request.decoded(bytes(socket.readLine().data()))
            except ValueError:
                socket.disconnectFromServer()
                continue
            socket.write(_DONE)
            socket.flush()
            self.received(request)

    def _forget(self) -> None:
        gone = [s for s in self._sockets if s.state() is QLocalSocket.LocalSocketState.UnconnectedState]
        self._sockets = [socket for socket in self._sockets if socket not in gone]
        for socket in gone:
            socket.deleteLater()


def server_name(home: Path) -> str:
    """Return the name of the socket of a data folder and an account."""
    key = f"{getpass.getuser()}\n{os.path.normcase(home.expanduser().resolve())}"
    return f"overread-{hashlib.sha256(key.encode()).hexdigest()[:20]}"
