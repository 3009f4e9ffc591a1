"""Pictures without a screen: planes, windows, overlays, annotations and surfaces."""
