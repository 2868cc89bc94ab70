"""Signs of gradient masking (Athalye et al. 2018; Carlini et al. 2019): flagged, never hidden."""

from __future__ import annotations

from dataclasses import replace

from suture.evaluate.records import Kind, Record

MASKING = "possible gradient masking"
JUDGED = (Kind.ATTACK, Kind.STRONGEST, Kind.EVERY)


def with_warnings(records: list[Record]) -> list[Record]:
    """The records, with a sentence on each row that fails a sanity check.

    * An unbounded radius must bring accuracy down to what chance and flukes leave (below 5 %).
    * The best white-box row must be as strong as the best black-box one, up to the 95 % intervals.
    * Random noise must be weaker than every attack on the model itself.
    * Clean accuracy must be above chance.
    * More steps must not leave more images right than fewer.

    Of repeated rows the first is judged. A model's rows are judged together: gradients that lead
    nowhere are no harm where those of a surrogate do better.
    """
    first = [r for r in records if r.repeat == 0]
    return [
        replace(r, warnings=[*r.warnings, *_warnings(r, first)]) if r.repeat == 0 else r
        for r in records
    ]


def _warnings(record: Record, records: list[Record]) -> list[str]:
    if record.metric == "clean accuracy":
        return _near_chance(record)
    same = [r for r in records if r.whose == record.whose and r.position == record.position]
    if record.kind is Kind.UNBOUNDED:
        return _unbounded(record, [r for r in same if r.kind is Kind.UNBOUNDED])
    if record.kind not in JUDGED:
        return []
    peers = [r for r in same if r is not record]
    return [
        *_black_box_wins(record, peers),
        *_noise_wins(record, peers),
        *_fewer_steps_win(record, peers),
    ]


def _unbounded(record: Record, rows: list[Record]) -> list[str]:
    lowest = min(rows, key=lambda r: r.percent)
    if record is not lowest or record.percent < 5.0:
        return []
    return [
        f"{MASKING}: {record.percent:.1f} % are left at an unbounded radius, where no image keeps "
        "its class. The attack fails for another reason than robustness."
    ]


def _near_chance(record: Record) -> list[str]:
    classes = max(2, len(record.per_class))
    if not record.per_class or record.interval[0] > 100.0 / classes:
        return []
    return [
        f"Clean accuracy is not above chance ({100.0 / classes:.0f} %): the model is untrained, "
        "made for other data, or wants its input normalised in another way. No row means anything."
    ]


def _black_box_wins(record: Record, peers: list[Record]) -> list[str]:
    """For the best white-box row: is a black-box row with the same averaging clearly better?"""
    rivals = [r for r in peers if _comparable(r, record)]
    white = [r for r in rivals if r.threat.get("knowledge") == "white-box"]
    black = [r for r in rivals if r.threat.get("knowledge") == "black-box"]
    best = min(black, key=lambda r: r.percent, default=None)
    judged = record.threat.get("knowledge") == "white-box" and _comparable(record, record)
    if best is None or not judged:
        return []
    if any(r.percent < record.percent for r in white) or best.interval[1] >= record.interval[0]:
        return []
    return [
        f"{MASKING}: black-box {best.row} leaves {best.percent:.1f} %, the best white-box row, "
        f"{record.row}, {record.percent:.1f} %. Gradients mislead the attacker: trust the lower "
        "figure."
    ]


def _comparable(one: Record, other: Record) -> bool:
    """Whether both are attacks of the adaptive protocol under one threat and one averaging."""
    return (
        one.kind is Kind.ATTACK
        and one.protocol == "adaptive"
        and one.draws == other.draws
        and one.threat.get("norm") == other.threat.get("norm")
        and one.threat.get("eps") == other.threat.get("eps")
    )


def _noise_wins(record: Record, peers: list[Record]) -> list[str]:
    noise = [r for r in peers if r.kind is Kind.NOISE]
    if record.metric != "robust accuracy" or not noise or record.through:
        return []
    if noise[0].interval[1] < record.interval[0]:
        return [
            f"Random noise leaves {noise[0].percent:.1f} %, {record.row} {record.percent:.1f} %: "
            "the attack is weaker than noise. Give it more steps or queries."
        ]
    return []


def _fewer_steps_win(record: Record, peers: list[Record]) -> list[str]:
    """For a PGD row: does the same attack with a quarter of the steps do clearly better?"""
    name = record.attack.get("name")
    fewer = [
        r
        for r in peers
        if r.kind is Kind.FEWER
        and r.draws == record.draws
        and r.attack.get("name") == name
        and r.attack.get("parameters", {}).get("loss") == record.attack["parameters"].get("loss")
    ]
    if not fewer or record.kind is not Kind.ATTACK or record.through:
        return []
    if fewer[0].interval[1] < record.interval[0]:
        return [
            f"{MASKING}: {fewer[0].row} leaves {fewer[0].percent:.1f} %, all steps "
            f"{record.percent:.1f} %. More steps lead the attack astray: try smaller ones, "
            "several restarts, or another loss."
        ]
    return []
