"""The command line: each file parses, calls the library, and prints."""

from suture.cli.app import main

__all__ = ["main"]
