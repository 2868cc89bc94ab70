"""Run benchmarks: ``python benchmarks/run.py [NAME …]``; all of them without a name.

Each benchmark is a file with ``rows() -> list[dict]``. The last line printed for a single one is
a JSON object; for several, a table, and the objects are kept in ``benchmarks/records/``, as that
of a single one is with ``--keep``.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import harness  # noqa: E402
from suture.storage import write_json  # noqa: E402


def names() -> list[str]:
    """All benchmarks, in alphabetical order; other scripts here have no ``rows``."""
    files = (path for path in HERE.glob("*.py") if path != Path(__file__))
    return sorted(p.stem for p in files if "\ndef rows(" in p.read_text(encoding="utf-8"))


def run(name: str) -> dict[str, object]:
    """Run one benchmark and print its JSON object."""
    result = harness.report(name, importlib.import_module(name).rows())
    print(json.dumps(result, ensure_ascii=False), flush=True)
    return result


def table(results: list[dict[str, object]]) -> str:
    """One line a case."""
    lines = [f"{'benchmark':12} {'case':22} {'seconds':>12} {'ratio':>10}  against"]
    for result in results:
        for row in result["rows"]:  # type: ignore[attr-defined]
            ratio = f"{row['speedup']}×" if "speedup" in row else f"{row.get('overhead', '—')}"
            against = row.get("reference") or row.get("floor") or ""
            first = f"{result['name']:12} {row['case']:22} {row['seconds']:12.4f}"
            lines.append(f"{first} {ratio:>10}  {against}")
    return "\n".join(lines)


def main() -> int:
    """Parse, run, print; status 2 for an unknown name."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"out of {', '.join(names())}")
    parser.add_argument("--keep", action="store_true", help="the record of a single one too")
    given = parser.parse_args()
    chosen = given.names
    unknown = sorted(set(chosen) - set(names()))
    if unknown:
        print(f"unknown benchmark {unknown[0]!r}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    results = [run(name) for name in chosen or names()]
    if given.keep or len(results) > 1:
        for result in results:
            write_json(HERE / "records" / f"{result['name']}.json", result)
    if len(results) > 1:
        print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
