"""What the tables and notes of the DARE study say of given rows."""

from __future__ import annotations

from suture.studies.dare import columns
from suture.studies.dare.notes import told
from suture.studies.paper import printed


def test_winners_and_ties():
    def row(name, attack, right):
        return {"what": "transferred", "name": name, "attack": attack, "right": right, "n": 10}

    rows = [
        row("DARE", "BIM", 4),
        row("BIM", "BIM", 4),
        row("DARE", "PGD", 5),
        row("BIM", "PGD", 3),
    ]
    best = columns.winners(rows, ("DARE", "BIM"))
    assert best["BIM"] == ["DARE", "BIM"] and best["PGD"] == ["DARE"] and best["FGSM"] == []


def test_a_method_beyond_the_limit_is_named():
    rows = [{"what": "method", "name": name, "status": status}
            for name, status in (("BIM", "beyond_limit"), ("PGD", "tuned"))]  # fmt: skip
    (note,) = [n for n in told({"net": rows}) if "within the limit;" in n]
    assert "of BIM keeps" in note


def test_the_papers_figures():
    paper = printed("dare")
    assert paper.number("robustness", "vgg16", "cifar10", "C&W", column="DARE") == 92.3
    assert paper.number("robustness", "vgg16", "fashion-mnist", "JSMA", column="JSMA") == 86.6
    assert paper.number("accuracy", "vgg16", "cifar10", column="original") == 88.7
    assert paper.row("robustness", "vgg16", "digits", "BIM") is None
    rows = [{"what": "method", "name": n, "stages": {"tuning": 2.0}} for n in ("C&W", "DARE")]
    (table,) = [t for t in columns.tables("net", rows, "cifar10")
                if t.title.startswith("Time")]  # fmt: skip
    assert [(line[0], line[-1]) for line in table.cells] == [
        ("DARE", "160 + 140 + 40"), ("C&W", "3439 + 51")]  # fmt: skip


def test_the_paper_counts_what_its_table_says():
    """29 of 45 scenarios, and which network ours stand beside."""
    rows = printed("dare").blocks["robustness"]
    assert len(rows) == 45
    won = 0
    for row in rows.values():
        others = [value for name, value in row.items() if name not in ("table", "DARE")]
        won += row["DARE"] > max(others)
    assert won == 29
    assert columns.beside("vgg19") == "vgg19" and columns.beside("vgg_narrow") == "vgg16"


def test_what_is_left_of_dare_stands_beside_the_original():
    rows = [
        {
            "what": "adaptive",
            "name": name,
            "n": 100,
            "clean_right": 87,
            "autoattack": auto,
            "right": right,
            "seconds": 1.0,
            "tries": [],
        }
        for name, auto, right in (("original", 1, 0), ("DARE", 3, 2))
    ]
    (table,) = columns.tables("net", rows, "fashion-mnist")
    assert table.title == "What is left before an attacker who has the model: net"
    assert [line[2].split(" ")[0] for line in table.cells] == ["1.0", "3.0"]
    assert [line[3].split(" ")[0] for line in table.cells] == ["0.0", "2.0"]
    (note,) = [n for n in told({"net": rows}) if "who has the tuned" in n]
    assert "leaves 2.0 %" in note and "nothing of the gain" in note
