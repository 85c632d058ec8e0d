"""Where people are: ONNX detectors, transformers, box files, motion."""
