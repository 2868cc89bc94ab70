"""Everything on a CUDA device; skipped where there is none."""
