"""What the AdvRepair studies measure alike: repairs, decisions, attacks under both allocations."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from suture.attacks import APGD, Attack, Square
from suture.certify import Checker
from suture.data import Dataset
from suture.evaluate.left import Left, what_is_left
from suture.evaluate.repair_rates import defence_success, drawdown, repair_success
from suture.repairs import AdvRepair, RepairResult
from suture.repairs.advrepair import OracleAllocated, PatchedClassifier, balls
from suture.repairs.context import Context
from suture.report.table import Row
from suture.rng import Stream
from suture.studies.networks import in_pieces
from suture.types import Batch

OTHERS = 10
"""Further adversarial samples per ball, for RGR."""
_TOGETHER = 25


@dataclass(frozen=True)
class BallCase:
    """A network whose balls are repaired, and how the result is measured.

    Attributes:
        facts: what every row says.
        tiers: column to how much the attacker tries there who knows the patches: "dsr_…" in the
            balls, "dgsr_…" in those of test images.
        attacked: balls, and test images, that are attacked.
        kept: what a row keeps of a repair.
    """

    model: nn.Module
    dataset: Dataset
    method: AdvRepair
    facts: Row
    tiers: Mapping[str, str]
    attacked: int
    kept: Callable[[RepairResult], Row]


def rows(case: BallCase, stream: Stream) -> list[Row]:
    """AdvRepair, the constant patch, and the network as it is; one row if nothing fools it."""
    model, dataset, method = case.model, case.dataset, case.method
    started = time.perf_counter()
    drawn = Context.of(stream.child("balls"))
    batch, wrong, tried = method.fooled(model, dataset.train.batch(), drawn)
    spent = round(time.perf_counter() - started, 3)
    facts = case.facts | {"found": len(wrong), "tried": tried, "attack_seconds": spent}
    if batch is None:
        return [facts | {"subject": "none"}]
    others = other_samples(model, batch, method.attack, stream.child("others"))
    bare, known = _attacked(case, model, batch, {})
    made = []
    for subject, how in (
        ("AdvRepair", method),
        ("constant patch", replace(method, patch="constant")),  # the control
    ):
        result = how.of_regions(
            model,
            balls(batch, method.attack.eps, dataset.classes),
            wrong,
            torch.arange(len(wrong)),
            Context.of(stream.child("repair")),
        )
        row = facts | {"subject": subject, "method": repr(how)} | case.kept(result)
        row |= repaired_rates(result.model, wrong, batch.labels, others)
        row |= accuracy_lost(model, result.model, dataset.test.batch())
        made.append(row | _attacked(case, result.model, batch, known)[0])
    return [*made, facts | {"subject": "undefended"} | bare]


def _attacked(
    case: BallCase, model: nn.Module, batch: Batch, bare: dict[str, Left]
) -> tuple[Row, dict[str, Left]]:
    """DSR and DGSR: allocation by the oracle, then what is left where it is recomputed.

    Args:
        bare: what is left of N, by column.
    """
    eps, row, found = case.method.attack.eps, Row(), dict[str, Left]()
    for key, images in (("dsr", batch), ("dgsr", case.dataset.test.batch(case.attacked))):
        few = images[: case.attacked]
        count = held(model, few, brief(eps), Stream(0).child("attacks"))
        row |= {f"{key}_oracle": count["right"], f"{key}_oracle_n": count["n"]}
        for name, tier in case.tiers.items():
            if name.startswith(f"{key}_"):
                count, found[name] = left(model, few, eps, tier, bare.get(name))
                row |= {name: count["right"], f"{name}_n": count["n"]}
    return row, found


def brief(eps: float) -> tuple[Attack, ...]:
    """An ensemble of 10 iterations and 1 restart, the paper's budget: APGD on cross entropy and
    towards every wrong class, and Square. (AutoAttack without FAB.)
    """
    return (
        APGD(eps=eps, steps=10),
        APGD(eps=eps, steps=10, loss="dlr-targeted"),
        Square(eps=eps, queries=100),
    )


def held(
    model: nn.Module, batch: Batch, attacks: tuple[Attack, ...], stream: Stream
) -> dict[str, int]:
    """Images that no attack turns under the paper's protocol, as ``{"right": count, "n": n}``.

    Patches are allocated on the clean images.
    """
    found = torch.zeros(len(batch), dtype=torch.bool)
    for start in range(0, len(batch), _TOGETHER):
        piece = batch[start : start + _TOGETHER]
        found[start : start + _TOGETHER] = _turned(model, piece, attacks, stream)
    right, n = defence_success(found)
    return {"right": right, "n": n}


def _turned(model: nn.Module, piece: Batch, attacks: tuple[Attack, ...], stream: Stream) -> Tensor:
    target = OracleAllocated(model, piece.images) if isinstance(model, PatchedClassifier) else model
    left = torch.arange(len(piece))
    for index, attack in enumerate(attacks):
        result = attack(target, piece[left], generator=stream.child(index))
        left = left[result.robust]
        if not len(left):
            break
    found = torch.ones(len(piece), dtype=torch.bool)
    found[left] = False
    return found


def left(
    model: nn.Module, batch: Batch, eps: float, tier: str, before: Left | None = None
) -> tuple[dict[str, int], Left]:
    """Images that hold before an attacker who knows the patches, in counts.

    Patches are allocated on the attacked images. He follows the repaired network's gradients and
    those of N: outside of the balls the patches of the class that N sees only confirm it.

    Args:
        tier: how much he tries; from "standard" on AutoAttack is a part of it.
        before: what is left of N on the same images, whose adversarial ones he tries too.
    """
    bare = model.undefended() if isinstance(model, PatchedClassifier) else None
    found = what_is_left(
        model,
        batch,
        APGD(eps=eps, steps=10),
        undefended=bare,
        before=before,
        tier=tier,
        batch_size=_TOGETHER,
    )
    return {"right": round(found.right), "n": found.n}, found


def decisions(model: nn.Module, images: Tensor) -> Tensor:
    """Classes ``(n,)``."""
    return in_pieces(model, images).argmax(1)


def accuracy_lost(before: nn.Module, after: nn.Module, batch: Batch) -> dict[str, int]:
    """DD, in counts."""
    counts = drawdown(decisions(before, batch.images), decisions(after, batch.images), batch.labels)
    return dict(zip(("dd_before", "dd_after", "dd_n"), counts, strict=True))


def other_samples(model: nn.Module, batch: Batch, attack: Attack, stream: Stream) -> Batch | None:
    """Adversarial samples of N in the same balls, from other random starts: ten an image, less
    where the attack fails."""
    images, labels = [], []
    for index in range(OTHERS):
        result = attack(model, batch, generator=stream.child(index))
        hit = result.success & result.clean_right
        images.append(result.images[hit])
        labels.append(batch.labels[hit])
    return Batch(torch.cat(images), torch.cat(labels)) if sum(map(len, labels)) else None


def repaired_rates(
    model: nn.Module, wrong: Tensor, labels: Tensor, others: Batch | None
) -> dict[str, int]:
    """RSR and RGR, in counts."""
    rsr = repair_success(decisions(model, wrong), labels)
    rgr = (0, 0)
    if others is not None:
        rgr = repair_success(decisions(model, others.images), others.labels)
    return {"rsr": rsr[0], "rsr_n": rsr[1], "rgr": rgr[0], "rgr_n": rgr[1]}


def checked(result: RepairResult) -> int:
    """Certificates that ``suture certify``'s own code proves again."""
    check = Checker(result.model)
    return sum(check(certificate).holds for certificate in result.certificates)
