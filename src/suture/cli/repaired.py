"""What ``suture repair`` answers: as JSON, and in words."""

from __future__ import annotations

import math
from typing import Any

from suture.repairs import RepairResult
from suture.repairs.dare.variety import FEW
from suture.report.figures.trade_off import candidate_table


def repair_facts(result: RepairResult, folder: str, seconds: float, seed: int) -> dict[str, Any]:
    """A repair's outcome as `--json` prints it."""
    programs = result.trace.get("programs", [])
    return {
        "model": folder,
        "status": result.status.name.lower(),
        "sentence": result.status.value,
        "training_images": result.trace.get("samples"),
        "attacked_images": result.trace.get("adversarial"),
        "unrepaired_adversarial_right": result.trace.get("unrepaired_adversarial_right"),
        "rescored_disagreements": result.trace.get("rescored_disagreements"),
        "programs": programs,
        "regions": {
            state: result.trace[state]
            for state in ("proved", "repaired", "failed")
            if state in result.trace
        },
        "promise": None if result.promise is None else result.promise.digest,
        "held_out": result.trace.get("held_out", {}),
        "certified": result.trace.get("certified_after_the_move"),
        "bound": result.trace.get("bound", ""),
        "certificates": result.trace.get("certificates", {}),
        "trade_off": _trade_off(result.trace),
        "candidates": result.trace.get("candidates", []),
        "why": result.trace.get("why", ""),
        "stages": [
            {key: stage[key] for key in ("method", "sentence")}
            for stage in result.trace.get("chain", [])
        ],
        "game": result.trace.get("game", []),
        "tutors": {
            key: result.trace[key]
            for key in ("effective_tutors", "distinct_tutors", "own_best", "epochs", "collected")
            if "effective_tutors" in result.trace
        },
        "judged_by": "on noisy copies" if "noise" in result.trace else "under APGD",
        "collapsed": any(e["entropy_left"] < math.log(2) for e in result.trace.get("lengths", [])),
        "seed": seed,
        "seconds": seconds,
    }


def repair_text(facts: dict[str, Any]) -> str:
    """The same in words."""
    lines = [facts["sentence"]]
    if facts["regions"]:
        lines.append(", ".join(f"{count} {state}" for state, count in facts["regions"].items()))
    if facts["promise"]:
        lines.append(f"promise: {facts['promise']} (suture certify --promise asks for it)")
    n, attacked = facts["training_images"], facts["attacked_images"]
    for row in facts["programs"][:5]:
        counts = f"attacked {row['adversarial_right']}/{attacked}, clean {row['clean_right']}/{n}"
        counts += f", drawn {100 * row['weight']:.1f} %" if "weight" in row else ""
        lines.append(f"  {counts}   {row['text']}")
    rest = len(facts["programs"]) - 5
    lines += [f"  and {rest} more programs"] if rest > 0 else []
    if facts["collapsed"]:
        lines.append(
            "note: the search settled on very few features (see trace.json); a higher "
            "--temperature, such as 20, keeps more in play"
        )
    if facts["held_out"]:
        clean, certified = (100 * facts["held_out"][key] for key in ("clean", "certified"))
        lines.append(
            f"held-out images: clean error {clean:.2f} %, certified error {certified:.2f} %"
        )
    lines += _of_certificates(facts)
    lines += _sentences(facts["trade_off"], facts["judged_by"])
    lines += [f"  {stage['method']}: {stage['sentence']}" for stage in facts["stages"]]
    lines += [candidate_table(facts["candidates"]).terminal()] if facts["candidates"] else []
    lines += [facts["why"]] if facts["why"] else []
    lines += _of_tutors(facts["tutors"]) if facts["tutors"] else []
    lines += [_of_the_game(row) for row in facts["game"][-1:]]
    counted = bool(facts["programs"] or facts["regions"])
    lines.append(f"{'These counts are on training images; m' if counted else 'M'}easure with:")
    lines.append(f"  suture evaluate {facts['model']} --data {facts['data']}")
    return "\n".join([*lines, f"model: {facts['model']}, {facts['seconds']:.1f} s"])


def _of_certificates(facts: dict[str, Any]) -> list[str]:
    """What was certified, out of all that was tried."""
    lines = []
    if facts["certified"] is not None:
        n = facts["training_images"]
        done = f"{facts['certified']} of {n} images"
        lines.append(f"certified by {facts['bound']} after the move: {done}")
    if made := facts["certificates"]:
        lines.append(f"certificates kept: {made['made']}, of {made['of']} images tried")
    return lines


def _trade_off(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """Of adversarial training: the given model as epoch 0, and every judged epoch."""
    rows = [row for row in trace.get("curve", []) if row.get("robust") is not None]
    return [{"epoch": 0, **trace["before"]}, *rows] if rows else []


def _of_tutors(facts: dict[str, Any]) -> list[str]:
    """Whether the training history had much to say."""
    count, epochs = facts["distinct_tutors"], len(facts["epochs"])
    lines = [
        f"  tutors: {count} of {epochs} remembered epochs teach {facts['collected']} images, as "
        f"varied as {facts['effective_tutors']:.1f} equally frequent ones; on "
        f"{100 * facts['own_best']:.1f} % of the images the model itself is best"
    ]
    if facts["effective_tutors"] < FEW:
        lines.append(
            f"note: fewer than {FEW:g} effective tutors: this history says little; a longer "
            "training remembers more (`suture history` shows which epochs know what)"
        )
    return lines


def _of_the_game(row: dict[str, Any]) -> str:
    """The last round in words."""
    value, attacked, clean = (100 * row[key] for key in ("value", "attacked", "clean"))
    return (
        f"round {row['round']} of the game: {attacked:.1f} % of the training images held against "
        f"the attacker who knows the {row['support']} programs, {value:.1f} % is the most that "
        f"those found can hold, clean {clean:.1f} %"
    )


def _sentences(rows: list[dict[str, Any]], judged_by: str) -> list[str]:
    return [
        f"  epoch {row['epoch']}: held-out images clean {100 * row['clean']:.2f} %, "
        f"{judged_by} {100 * row['robust']:.2f} %"
        for row in rows
    ]
