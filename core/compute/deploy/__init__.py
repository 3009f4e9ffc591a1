"""Trained models as files for other runtimes, made smaller and faster where that keeps their answers."""
