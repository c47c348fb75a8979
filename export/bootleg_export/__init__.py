"""From a checkpoint to a verified bundle. Imports the bundle's contract, the model and the checkpoint reader."""

from bootleg_bundle import runtime_reports

runtime_reports.turn_off()  # before any module here imports ONNX Runtime
