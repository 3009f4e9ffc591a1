"""Readers of objects that are derived from images: segmentations, structures, reports, states, maps, documents."""
