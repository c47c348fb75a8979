"""Benchmarks. Each writes ``benchmarks/results/NAME.json``; every published number comes from such a file."""
