"""What the search says at its end, in sentences."""

from __future__ import annotations

from typing import Any

from suture.evaluate.metrics import clopper_pearson

Rows = list[dict[str, Any]]


def why(rows: Rows, best: int, by: str, limit: float) -> str:
    """Why this one, or why none.

    Args:
        rows: of the table, the given model first.
        best: which is given back.
        by: "robust" or "certified".
        limit: points of clean accuracy that may be lost.
    """
    if best == 0:
        return _nothing(rows, by, limit)
    row, given = rows[best], rows[0]
    cost = 100 * (given["clean"] - row["clean"]) / row["n"]
    clean = f"{cost:.1f} points of clean accuracy" if cost > 0 else "no clean accuracy"
    return (
        f"{row['name']}: {_share(row, by)} of {row['n']} held-out training images {_what(by)}, "
        f"{_share(given, by)} before; it costs {clean} and {row['forward']:.2g} times the given "
        f"model's time a forward. Images that no model has seen may say less."
    )


def _nothing(rows: Rows, by: str, limit: float) -> str:
    tried = [row for row in rows[1:] if "failed" not in row]
    if not tried:
        return "Nothing could be tried: every method failed on this model. See the table."
    lossy = [r for r in tried if r["clean"] < rows[0]["clean"] - limit / 100 * r["n"]]
    if len(lossy) == len(tried):
        return f"Nothing helps within the limit: every method loses more than {limit:g} points."
    top = max(tried, key=lambda row: row[by] or 0)
    return (
        f"Nothing helps: {_share(rows[0], by)} of the held-out images {_what(by)} as given, "
        f"{_share(top, by)} with the best, {top['name']}; that may be chance. More minutes, or a "
        f"smaller radius, may change it."
    )


def _what(by: str) -> str:
    return "stay right under attack" if by == "robust" else "are certified"


def _share(row: dict[str, Any], by: str) -> str:
    count = row[by] or 0
    low, high = clopper_pearson(count, row["n"])
    return f"{100 * count / row['n']:.1f} % [{100 * low:.1f}–{100 * high:.1f}]"
