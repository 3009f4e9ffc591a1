"""Where Overread keeps its files.

Everything lies under one folder, the home: ``--home``, else ``OVERREAD_HOME``, else the platform's data
folder.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from core.domain.errors import EnvironmentFault

HOME_VARIABLE = "OVERREAD_HOME"


@dataclass(frozen=True)
class Paths:
    """Folders and files of one home.

    No name below the home is made from patient identity: instances are named by a hash of their UID, results
    by a random identifier.
    """

    root: Path

    @classmethod
    def resolve(cls, home: Path | None = None) -> Paths:
        """Return the paths of ``home``, else of ``OVERREAD_HOME``, else of the platform's data folder."""
        if home is not None:
            return cls(Path(home).expanduser().absolute())
        from_environment = os.environ.get(HOME_VARIABLE, "")
        if from_environment:
            return cls(Path(from_environment).expanduser().absolute())
        import platformdirs

        return cls(Path(platformdirs.user_data_dir("overread", appauthor=False)))

    @property
    def database(self) -> Path:
        """The index, encrypted by SQLCipher."""
        return self.root / "library.db"

    @property
    def backups(self) -> Path:
        """Copies of the index made before a migration; encrypted as the index is."""
        return self.root / "backups"

    @property
    def instances(self) -> Path:
        """Imported copies (``--copy``), named by the hash of their SOP Instance UID."""
        return self.root / "instances"

    @property
    def results(self) -> Path:
        """One folder per model result."""
        return self.root / "results"

    @property
    def bundles(self) -> Path:
        """Model bundles added by the user."""
        return self.root / "bundles"

    @property
    def versions(self) -> Path:
        """Promoted versions of models, one folder per model and version; none is ever changed."""
        return self.root / "versions"

    @property
    def pointers(self) -> Path:
        """Names the promoted versions in use, for commands that don't open the library."""
        return self.versions / "current.json"

    @property
    def training(self) -> Path:
        """One folder per training: sealed cases, and the run with its checkpoints."""
        return self.root / "training"

    @property
    def registry(self) -> Path:
        """The data scientist's registry of models: MLflow's database, and the files of each version."""
        return self.root / "registry"

    @property
    def logs(self) -> Path:
        """Rotating logs, free of identity."""
        return self.root / "logs"

    @property
    def keys(self) -> Path:
        """Key material (never the plain master key unless the key file is the only fall-back)."""
        return self.root / "keys"

    @property
    def thumbnails(self) -> Path:
        """Encrypted thumbnails."""
        return self.root / "thumbnails"

    @property
    def temp(self) -> Path:
        """Work folder for extraction; emptied at start and after use."""
        return self.root / "temp"

    @property
    def settings(self) -> Path:
        """The settings file."""
        return self.root / "settings.json"

    def create(self) -> None:
        """Create the folders, readable by their owner only.

        Raises
        ------
        EnvironmentFault
            If the home can't be created or written (code ``home.not_writable``).
        """
        folders = (
            self.root,
            self.backups,
            self.instances,
            self.results,
            self.bundles,
            self.versions,
            self.training,
            self.logs,
            self.keys,
            self.thumbnails,
            self.temp,
        )
        try:
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True, mode=stat.S_IRWXU)
        except OSError as error:
            raise EnvironmentFault(
                "home.not_writable",
                f"The data folder can't be created or written ({error.strerror or type(error).__name__}).",
                f"Free the folder, or choose another one with --home or {HOME_VARIABLE}.",
            ) from error
