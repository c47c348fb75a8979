"""The embedding service: bundles over HTTP. Imports the bundle's contract alone; never torch."""
