"""The index of studies, the identity vault and the unit of work."""
