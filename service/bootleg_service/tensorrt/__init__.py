"""Running TensorRT engines that ``bootleg engine`` built, and ONNX Runtime's TensorRT provider where there is none."""
