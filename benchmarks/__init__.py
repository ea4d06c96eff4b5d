"""Benchmarks: every figure that is published, with the command that measures it and the value it is held to."""
