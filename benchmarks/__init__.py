"""Benchmarks as code: every published figure comes from a results file that one command regenerates."""
