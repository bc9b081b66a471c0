"""How much the answer depends on each value: ONNX Runtime gradients, finite differences, scores."""
