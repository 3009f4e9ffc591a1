"""Network definitions, recipes and bundles."""
