"""Failed sanity checks with what each kind means for the reader."""

from __future__ import annotations

from dataclasses import dataclass

from suture.evaluate.records import Record, identity

_MEANINGS = {
    "one-hot": "A model that names a class and no scores leaves an attack nothing to go by. That "
    "stops the attack, not the attacker, who copies the model and attacks the copy.",
    "softmax": "A softmax flattens: where it is sure, small changes move nothing that an attack "
    "could see.",
    "randomness": "Against a model that draws at random one lucky answer means little, for the "
    "attacker and for the defender.",
    "optimisation": "A model that solves a problem for every input can hide its gradients in the "
    "solution.",
    "misleading gradients": "An attack that follows a direction that leads nowhere fails on any "
    "model.",
    "gradients": "Without gradients a white-box attack is a blind one; its row says nothing.",
    "unbounded": "With no limit on the change an attacker can paint any picture, so accuracy must "
    "reach about zero. What is left over is the attack failing, not the defence holding.",
    "noise": "Random noise has no aim. An attack that hurts less than noise does not work.",
    "step": "An attacker who may try longer can only do better. If not, the attack is stuck.",
    "white": "Whoever sees the gradients knows more than whoever sees the scores, and must do at "
    "least as much damage. If not, the gradients mislead.",
    "eot": "Averaging over more draws shows the attacker the defence more clearly. If that helps "
    "the defence, the attack is stuck.",
}
_OTHERWISE = "The attack may have been misled, so the row is an upper limit, not a measurement."


@dataclass(frozen=True)
class Warned:
    """One failed check: where, the sentence recorded, and what it means."""

    where: str
    sentence: str
    meaning: str


def warned(records: list[Record]) -> tuple[Warned, ...]:
    """Every failed check once, in order of the records.

    Repeats of a row fail with slightly different numbers: the first sentence stands for them.
    """
    found: dict[tuple[str, str], Warned] = {}
    for record in records:
        where = f"{record.row} ({record.subject})"
        for sentence in record.warnings:
            why = meaning(sentence)
            found.setdefault((identity(record), why), Warned(where, sentence, why))
    return tuple(found.values())


def meaning(sentence: str) -> str:
    """The explanation for a recorded sentence, by the check that it names."""
    lowered = sentence.lower()
    known = [text for word, text in _MEANINGS.items() if word in lowered]
    return known[0] if known else _OTHERWISE
