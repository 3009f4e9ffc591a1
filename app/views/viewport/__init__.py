"""The viewports that show planes."""
