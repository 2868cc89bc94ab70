"""Signs of gradient masking (Athalye et al. 2018; Carlini et al. 2019): flagged, never hidden."""

from __future__ import annotations

from dataclasses import replace

from suture.evaluate.records import Kind, Record

MASKING = "possible gradient masking"
JUDGED = (Kind.ATTACK, Kind.STRONGEST, Kind.EVERY)


def with_warnings(records: list[Record]) -> list[Record]:
    """The records, with a sentence on each row that fails a sanity check.

    * An unbounded radius must bring accuracy down to what chance and flukes leave (below 5 %).
    * White-box must be at least as strong as black-box, up to the 95 % intervals.
    * Random noise must be weaker than every attack.
    * Clean accuracy must be above chance.
    * More steps must not leave more images right than fewer.

    Of repeated rows the first is judged.
    """
    first = [r for r in records if r.repeat == 0]
    return [
        replace(r, warnings=[*r.warnings, *_warnings(r, first)]) if r.repeat == 0 else r
        for r in records
    ]


def _warnings(record: Record, records: list[Record]) -> list[str]:
    if record.metric == "clean accuracy":
        return _near_chance(record)
    if record.kind is Kind.UNBOUNDED and record.percent >= 5.0:
        return [
            f"{MASKING}: {record.percent:.1f} % survive an unbounded radius, where no image keeps "
            "its class. The attack fails for another reason than robustness."
        ]
    if record.kind not in JUDGED:
        return []
    peers = [r for r in records if r.whose == record.whose and r is not record]
    return [
        *_black_box_wins(record, peers),
        *_noise_wins(record, peers),
        *_fewer_steps_win(record, peers),
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
    """For a white-box row: does a black-box row with the same averaging do clearly better?"""
    if record.threat.get("knowledge") != "white-box" or record.kind is not Kind.ATTACK:
        return []
    rivals = [
        r
        for r in peers
        if r.kind is Kind.ATTACK
        and r.threat.get("knowledge") == "black-box"
        and r.draws == record.draws
        and r.protocol == "adaptive"
        and r.interval[1] < record.interval[0]
    ]
    if not rivals:
        return []
    best = min(rivals, key=lambda r: r.percent)
    return [
        f"{MASKING}: black-box {best.row} leaves {best.percent:.1f} %, white-box {record.row} "
        f"{record.percent:.1f} %. Gradients mislead the attacker: trust the lower figure."
    ]


def _noise_wins(record: Record, peers: list[Record]) -> list[str]:
    noise = [r for r in peers if r.kind is Kind.NOISE]
    if record.metric != "robust accuracy" or not noise:
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
        if r.kind is Kind.FEWER and r.draws == record.draws and r.attack.get("name") == name
    ]
    if not fewer or record.kind is not Kind.ATTACK:
        return []
    if fewer[0].interval[1] < record.interval[0]:
        return [
            f"{MASKING}: {fewer[0].row} leaves {fewer[0].percent:.1f} %, all steps "
            f"{record.percent:.1f} %. More steps lead the attack astray: try smaller ones, "
            "several restarts, or another loss."
        ]
    return []
