"""The command line: each file parses, calls the library, and prints."""

import os

# Before torch is imported: let its idle threads sleep soon. On a machine that does other work too,
# threads that spin on a barrier for long make small networks ten times slower.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

from suture.cli.app import main

__all__ = ["main"]
