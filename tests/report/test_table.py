"""Tables from columns: cells, marks, the paper's values, and the three ways to show them."""

from __future__ import annotations

from suture.report.table import Column, Table, bare_rate, best, number, rate, share

ROWS = [
    {"name": "a|b <i>", "right": 9, "right_n": 10, "seconds": 1.234, "ours": 0.5},
    {"name": "c", "right": 3, "right_n": 10, "ours": 0.25},
]
COLUMNS = (
    Column("name", "name"),
    share("right", "right"),
    Column("seconds", "seconds", number(".1f"), paper=lambda row: {"c": 2.0}.get(row["name"])),
    Column(lambda row: 2 * row["ours"], "twice", number("g")),
)
TABLE = Table(COLUMNS, ROWS, "Title <1>", "Notes.")


def test_cells_are_what_columns_say():
    assert TABLE.header == ("name", "right", "seconds (the paper's)", "twice")
    assert TABLE.cells == (
        ("a|b <i>", rate(9, 10), "1.2 (—)", "1"),
        ("c", rate(3, 10), "— (2.0)", "0.5"),
    )
    assert rate(9, 10) == "90.0 % [55.5, 99.7] (9/10)"


def test_every_way_shows_the_same_cells():
    lines = TABLE.terminal().splitlines()
    assert lines[0] == "Title <1>" and lines[1].split() == [*" ".join(TABLE.header).split()]
    assert all(cell in line for line, cells in zip(lines[2:], TABLE.cells, strict=True)
               for cell in cells)  # fmt: skip
    assert lines[1].index("right") == lines[2].index("90.0") == lines[3].index("30.0")
    page = str(TABLE.html())
    assert "<td>a|b &lt;i&gt;</td><td>90.0 % [55.5, 99.7] (9/10)</td>" in page
    assert page.count("<tr>") == 3 and '<th scope="col">seconds (the paper&#39;s)</th>' in page
    first, second, *body = TABLE.markdown().splitlines()
    assert first == "| name | right | seconds (the paper's) | twice |"
    assert second == "| --- | --- | --- | --- |" and len(body) == 2
    assert body[0].startswith("| a\\|b &lt;i> | 90.0 %")


def test_a_wide_table_is_not_wrapped():
    wide = Table([Column("x", "x" * 400), Column("y", "y")], [{"x": "a " * 300, "y": "b"}])
    assert len(wide.terminal().splitlines()) == 2


def test_the_best_of_a_row_is_marked_and_ties_are_shared():
    columns = [Column(key, key, str, score=lambda row, key=key: row.get(key)) for key in "ab"]
    table = Table([Column("n", "n"), *columns], [{"n": 9, "a": 1, "b": 2}, {"a": 3, "b": 3}, {}])
    assert table.cells == (("9", "1", "★ 2"), ("—", "★ 3", "★ 3"), ("—", "—", "—"))
    assert best({"a": None}) == [] and best({"a": 0.0, "b": None}) == ["a"]


def test_shares_of_nothing():
    assert rate(0, 0) == "— (0/0)" and bare_rate((0, 0)) == "—"
    assert share("right", "right").text({}) == "—"
    assert share("right", "right", "n").text({"right": 1, "n": 2}) == rate(1, 2)
    assert bare_rate((9, 10)) == "90.0 [55.5, 99.7]"
