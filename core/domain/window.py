"""Grey-scale windows: which stored values become black and white."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

LINEAR, LINEAR_EXACT, SIGMOID = "LINEAR", "LINEAR_EXACT", "SIGMOID"
FUNCTIONS = (LINEAR, LINEAR_EXACT, SIGMOID)


@dataclass(frozen=True)
class Window:
    """A VOI window in the units of the volume (Hounsfield units for CT).

    ``function`` is how grey rises between the ends. A VOI LUT has a ``table`` instead: one byte of grey for each value
    from ``first`` on; ``center`` and ``width`` then say which values it covers.

    Source: DICOM PS3.3 C.11.2.1.2 (linear), C.11.2.1.3 (sigmoid, linear exact), C.11.2.1.1 (table).
    """

    center: float
    width: float
    name: str = ""
    function: str = LINEAR
    table: bytes = field(default=b"", repr=False)
    first: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether this is the usual linear function."""
        return self.function == LINEAR and not self.table

    @property
    def low(self) -> float:
        """Value that is shown black."""
        if not self.is_plain:
            return self.center - self.width / 2.0
        return self.center - 0.5 - (max(self.width, 1.0) - 1.0) / 2.0

    @property
    def high(self) -> float:
        """Value that is shown white."""
        if not self.is_plain:
            return self.center + self.width / 2.0
        return self.center - 0.5 + (max(self.width, 1.0) - 1.0) / 2.0

    def to_uint8(self, values: NDArray, inverted: bool = False) -> NDArray[np.uint8]:
        """Map an array of any shape to 0…255 by the window's function or table."""
        if self.table:
            out = self._looked_up(values)
        elif self.function == SIGMOID:
            out = self._sigmoid(values)
        else:
            if self.function == LINEAR_EXACT:
                width = max(self.width, 1e-12)
                low, scale = self.center - width / 2.0, 255.0 / width
            else:
                low, scale = self.low, 255.0 / max(max(self.width, 1.0) - 1.0, 1e-6)
            grey = (values.astype(np.float32) - np.float32(low)) * np.float32(scale)
            np.clip(grey, 0.0, 255.0, out=grey)
            out = (grey + 0.5).astype(np.uint8)
        return 255 - out if inverted else out

    def _looked_up(self, values: NDArray) -> NDArray[np.uint8]:
        table = np.frombuffer(self.table, dtype=np.uint8)
        index = np.clip(np.rint(values).astype(np.int64) - self.first, 0, len(table) - 1)
        return table[index]

    def _sigmoid(self, values: NDArray) -> NDArray[np.uint8]:
        steepness = -4.0 / max(self.width, 1e-12)
        exponent = np.clip(
            (values.astype(np.float32) - np.float32(self.center)) * np.float32(steepness), -80, 80
        )
        return np.asarray(255.0 / (1.0 + np.exp(exponent)) + 0.5, dtype=np.uint8)
