"""Writers of DICOM SEG, SR, Parametric Map, PDF, NIfTI and friends."""
