"""The embedding service: bundles over HTTP. Imports the bundle's contract alone; never torch."""

from bootleg_bundle import runtime_reports

runtime_reports.turn_off()  # before any module here imports ONNX Runtime
