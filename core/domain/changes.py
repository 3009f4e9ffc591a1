"""What a write changed, so that each presenter can decide whether to refresh."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class OperationChanges:
    """Identifiers of what an operation touched."""

    studies: frozenset[str] = frozenset()
    series: frozenset[str] = frozenset()
    results: frozenset[str] = frozenset()
    decisions: frozenset[str] = frozenset()
    jobs: frozenset[str] = frozenset()
    models: frozenset[str] = frozenset()
    audit: bool = False

    def merged_with(self, other: OperationChanges) -> OperationChanges:
        """Return the union of both."""
        return OperationChanges(
            self.studies | other.studies,
            self.series | other.series,
            self.results | other.results,
            self.decisions | other.decisions,
            self.jobs | other.jobs,
            self.models | other.models,
            self.audit or other.audit,
        )
