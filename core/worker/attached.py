"""The shared arrays of one task, all mapped before the work begins.

Once they are mapped their names are no longer needed: ``JobStarted`` tells the supervisor's side that it may
remove them, so that nothing is left in shared memory however either process ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import fields, is_dataclass
from types import TracebackType

from numpy.typing import NDArray

from core.jobs.messages import SharedArraySpec, Task
from core.jobs.shared_arrays import SharedArray


class AttachedArrays:
    """Maps every array that a task names; a context manager that closes them all.

    Raises
    ------
    EnvironmentFault
        If one is gone.
    """

    def __init__(self, task: Task) -> None:
        self._stack = ExitStack()
        self._arrays: dict[str, SharedArray] = {}
        try:
            for spec in _specs_of(task):
                self._arrays[spec.name] = self._stack.enter_context(SharedArray.attach(spec))
        except BaseException:
            self._stack.close()
            raise

    def view(self, spec: SharedArraySpec, *, writeable: bool = False) -> NDArray:
        """Return the array of a spec of the task; it must not be used after the block has ended."""
        return self._arrays[spec.name].array(writeable=writeable)

    def __enter__(self) -> AttachedArrays:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all arrays."""
        self._stack.close()


def _specs_of(value: object) -> Iterator[SharedArraySpec]:
    """Yield every array that a message names, however deep."""
    if isinstance(value, SharedArraySpec):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _specs_of(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _specs_of(getattr(value, field.name))
