"""torch, ONNX Runtime and captum live only here."""
