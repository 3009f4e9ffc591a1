"""Readers and writers of formats other than DICOM."""
