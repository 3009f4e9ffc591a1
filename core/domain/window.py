"""Grey-scale windows: which stored values become black and white."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """A VOI window in the units of the volume (Hounsfield units for CT).

    Source: DICOM PS3.3 C.11.2.1.2 (linear function).
    """

    center: float
    width: float
    name: str = ""

    @property
    def low(self) -> float:
        """Value that is shown black."""
        return self.center - 0.5 - (max(self.width, 1.0) - 1.0) / 2.0

    @property
    def high(self) -> float:
        """Value that is shown white."""
        return self.center - 0.5 + (max(self.width, 1.0) - 1.0) / 2.0

    def to_uint8(self, values: NDArray, inverted: bool = False) -> NDArray[np.uint8]:
        """Map an array of any shape to 0…255 by the linear function of PS3.3 C.11.2.1.2.1."""
        width = max(self.width, 1.0)
        scale = 255.0 / max(width - 1.0, 1e-6)
        grey = (values.astype(np.float32) - np.float32(self.low)) * np.float32(scale)
        np.clip(grey, 0.0, 255.0, out=grey)
        out = (grey + 0.5).astype(np.uint8)
        return 255 - out if inverted else out
