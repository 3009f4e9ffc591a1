"""Mirrors of a run's own event log in TensorBoard, MLflow and Weights & Biases."""
