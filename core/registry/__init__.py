"""The data scientist's registry of models: versions, aliases, tags and lineage, kept by MLflow in SQLite."""
