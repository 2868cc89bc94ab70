"""One row of an evaluation: a model, an attack, and what was measured, as records."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from suture.attacks import Attack, AttackResult
from suture.evaluate.labels import attack_identity, label
from suture.evaluate.metrics import per_class
from suture.evaluate.pictures import Pictures, chunk_of
from suture.evaluate.records import Draws, Kind, Protocol, Record, Role, as_role, each_of
from suture.rng import Stream, bits, image_keys
from suture.types import LabelledImages, described, is_randomised


@dataclass(frozen=True, eq=False)
class Subject:
    """A classifier under evaluation.

    Attributes:
        role: undefended or defended.
        model: the classifier.
        reference: how to find the model again (a name or path).
        defence: ``repr`` of the repair, or "none".
        name: what it is called, where several have one role; else its role.

    Raises:
        ArgumentError: another role.
    """

    role: Role | str
    model: nn.Module
    reference: str
    defence: str = "none"
    name: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "role", as_role(self.role))
        object.__setattr__(self, "name", self.name or str(self.role))

    @property
    def whose(self) -> tuple[Role, str]:
        """The identity that its records carry."""
        return as_role(self.role), self.name

    @property
    def facts(self) -> dict[str, Any]:
        """What its records say of it."""
        role, name = self.whose
        told = {"model": self.reference, "defence": self.defence}
        return {"role": role, "subject": name, **told}


@dataclass(frozen=True, eq=False)
class Row:
    """What to measure: a subject, an attack (``None``: clean accuracy), and what it stands for.

    Attributes:
        through, source: name and model that is attacked in the subject's place.
        position: where the attacker of a defence that moves images stands.
        batch: the images, where they are not the evaluation's own.
    """

    subject: Subject
    kind: Kind
    protocol: Protocol
    attack: Attack | None = None
    repeats: int = 1
    program: int | None = None
    through: str = ""
    source: nn.Module | None = None
    position: str = ""
    batch: LabelledImages | None = None

    @property
    def draws(self) -> Draws:
        """What each query of the attack averages on this model."""
        about = described(self.subject.model)
        if self.attack is None or not about.randomised:
            return None
        if self.attack.adaptive:
            return "exact" if about.odds() else self.attack.eot
        return self.attack.eot if self.attack.eot > 1 else None

    @property
    def facts(self) -> dict[str, Any]:
        """What its records say beside the attack and what it found."""
        names = ("kind", "protocol", "draws", "program", "through", "position")
        return self.subject.facts | {name: getattr(self, name) for name in names}

    @property
    def label(self) -> str:
        """What is measured, in words."""
        if self.attack is None:
            return label(self.kind, {}, {})
        about = attack_identity(self.attack), _threat(self.attack)
        return label(
            self.kind,
            *about,
            draws=self.draws,
            through=self.through,
            position=self.position,
            program=self.program,
        )


@dataclass(frozen=True, eq=False)
class Measured:
    """A record, the images it was measured on, and which of them were classified right.

    ``share`` is the share of draws that classify each image right. ``images`` are empty where
    nobody looks at them again.
    """

    record: Record
    images: Pictures | None
    right: Tensor
    share: Tensor


def restated(measured: Measured, row: Row) -> Measured:
    """The same measurement as another row states it."""
    return replace(measured, record=replace(measured.record, **row.facts))


def decisions(model: nn.Module, images: Tensor | Pictures, stream: Stream) -> Tensor:
    """Predicted classes ``(n,)``, with one fresh draw per image for a randomised model."""
    return fresh_logits(model, images, stream).argmax(1)


def fresh_logits(model: nn.Module, images: Tensor | Pictures, stream: Stream) -> Tensor:
    """Logits ``(n, classes)``; each image's draw depends on its content and the stream only."""
    parts = []
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream.key & (2**63 - 1))
        for piece in images.split(chunk_of(images.shape[1:])):
            noise = bits(image_keys(piece, stream), 0)
            parts.append(model(piece, noise=noise) if is_randomised(model) else model(piece))
    return torch.cat(parts)


def share_right(
    model: nn.Module, images: Tensor | Pictures, labels: Tensor, draws: int = 50
) -> Tensor:
    """Share ``(n,)`` of draws that classify each image right.

    Exact over the K programs of a defended classifier that has them; over fresh draws for other
    randomised models; 0 or 1 for a deterministic one.
    """
    about = described(model)
    if not about.randomised:
        return (decisions(model, images, Stream(0)) == labels).float()
    odds = torch.tensor(about.odds())
    if not len(odds):
        hits = [decisions(model, images, Stream(1).child(d)) == labels for d in range(draws)]
        return torch.stack(hits).float().mean(0)
    with torch.no_grad():
        size = chunk_of(images.shape[1:])
        pieces = zip(images.split(size), labels.split(size), strict=True)
        return torch.cat([_share(about.each(i), y, odds) for i, y in pieces])


def _share(logits: Tensor, labels: Tensor, odds: Tensor) -> Tensor:
    right = (logits.argmax(2) == labels).double()
    return (odds.to(right) @ right).float()


def fixed_models(model: nn.Module) -> list[nn.Module]:
    """The deterministic classifiers that a randomised one draws from, best first, if it has any."""
    return [member for _, member in described(model).support()]


def spent(result: AttackResult) -> list[int | None]:
    """Queries at success, ``None`` where the image held."""
    counts = result.queries.tolist()
    return [None if held else q for q, held in zip(counts, result.robust.tolist(), strict=True)]


def _threat(attack: Attack) -> dict[str, Any]:
    """The threat model for JSON, which has no infinity."""
    threat = dict(vars(attack.threat(getattr(attack, "queries", None))))
    return threat | ({"eps": "inf"} if math.isinf(attack.eps) else {})


def expected(share: Tensor) -> float:
    """Images right in expectation over the draws."""
    return round(float(share.double().sum()), 4)


def record_of(
    row: Row,
    batch: LabelledImages,
    data: str,
    seed: int,
    repeat: int,
    right: Tensor,
    share: Tensor,
    queries: list[int | None],
    seconds: float,
    memory: float,
) -> Record:
    """The record of a row that was measured: who was right, and what it took."""
    attack = row.attack
    return Record(
        metric="clean accuracy" if attack is None else "robust accuracy",
        right=int(right.sum()),
        expected=expected(share) if row.draws == "exact" else None,
        n=len(batch),
        seed=seed,
        repeat=repeat,
        attack={} if attack is None else attack_identity(attack),
        data=data,
        threat={} if attack is None else _threat(attack),
        per_class=per_class(right.cpu(), batch.labels.cpu()),
        queries=queries,
        each=each_of(right),
        seconds=round(seconds, 3),
        peak_memory_mb=round(memory, 1),
        **row.facts,
    )
