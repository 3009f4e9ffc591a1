"""The catalogue of model bundles; torch-free."""
