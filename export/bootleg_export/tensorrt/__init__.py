"""``bootleg engine``: a bundle's graph becomes a TensorRT engine, on the machine that will run it. Needs no torch."""
