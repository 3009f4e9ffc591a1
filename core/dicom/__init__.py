"""Scanning, grouping, geometry and decoding of DICOM files."""
