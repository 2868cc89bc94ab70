"""Cases of ``benchmarks/scale.py``."""
