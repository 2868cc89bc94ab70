"""An adaptive evaluation against the bare forwards and backwards that it needs.

The network is ``reassure_mnist_mlp256x2`` of the data folder on MNIST, or an untrained one of the
same shape on random images where there is no data folder; ``defensyn-mlp`` puts 30 random programs
before its head. Measured are all attacks on the model itself of the tier ``standard``, and the
strongest of them. Every query is recorded: how many images it asked about, and whether it wanted
their gradients. The floor asks the same again with autograd and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

import harness
from suture import data, models
from suture.attacks import PGD
from suture.evaluate import Plan, Role, Subject, evaluate
from suture.models import frozen
from suture.repairs.defensyn import DefendedClassifier
from suture.repairs.defensyn.language import (
    Constant,
    Feature,
    Instruction,
    Opcode,
    Operand,
    Program,
)
from suture.types import Batch

COUNT, NETWORK, FEATURES = 1000, "reassure_mnist_mlp256x2", 256
PROGRAMS, LENGTH = 30, 10
PLAN = Plan(attack=PGD(eps=0.1), protocols=("adaptive",), radii=(), sanity=False)
REPEATS = 3

Asked = tuple[str, int, bool]
"""Which way the model was asked ("each" or "forward"), on how many images, with gradients."""


def rows() -> list[harness.Row]:
    """One row a case."""
    model, batch = _case()
    parts = models.cut(model, in_shape=batch.shape)
    defended = DefendedClassifier(parts.encoder, parts.head, _programs(), FEATURES).eval()
    return [_row("defensyn-mlp", defended, batch), _row("deterministic-mlp", model, batch)]


def _case() -> tuple[nn.Module, Batch]:
    folder = data.folder()
    if folder is not None:
        model = models.load(folder / "nets" / f"{NETWORK}.onnx", in_shape=(1, 28, 28))
        return model.eval(), data.load("mnist").test.batch(COUNT)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        untrained = nn.Sequential(
            nn.Flatten(), nn.Linear(784, FEATURES), nn.ReLU(),
            nn.Linear(FEATURES, FEATURES), nn.ReLU(), nn.Linear(FEATURES, 10),
        ).eval()  # fmt: skip
        images = torch.rand(COUNT, 1, 28, 28)
        return untrained, Batch(images, untrained(images).argmax(1))


def _programs() -> tuple[Program, ...]:
    """Random ones of up to ``LENGTH`` instructions, with small constants."""
    generator = torch.Generator().manual_seed(0)

    def below(count: int) -> int:
        return int(torch.randint(count, (1,), generator=generator))

    def operand() -> Operand:
        return Feature(below(FEATURES)) if below(2) else Constant(below(9) / 2 - 2)

    def instruction() -> Instruction:
        op = Opcode(below(len(Opcode)))
        return Instruction(below(FEATURES), op, operand(), None if op is Opcode.COPY else operand())

    return tuple(
        Program(tuple(instruction() for _ in range(1 + below(LENGTH)))) for _ in range(PROGRAMS)
    )


def _row(case: str, model: nn.Module, batch: Batch) -> harness.Row:
    def measured() -> None:
        subject = Subject(Role.UNDEFENDED, model, case)
        evaluate([subject], batch, PLAN, data="mnist", batch_size=COUNT)

    with _recorded(model) as asked:
        measured()
    return harness.overhead(
        case,
        measured,
        _bare(model, batch, asked),
        repeats=REPEATS,
        warm=1,
        named=f"{len(asked)} bare forwards, {sum(a[2] for a in asked)} with backwards",
        images=len(batch),
    )


@contextmanager
def _recorded(model: nn.Module) -> Iterator[list[Asked]]:
    """What is asked of the model inside."""
    asked: list[Asked] = []

    def forward(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        asked.append(("forward", len(inputs[0]), output.requires_grad))

    hook = model.register_forward_hook(forward)
    if isinstance(model, DefendedClassifier):
        real = model.each

        def each(images: Tensor) -> Tensor:
            asked.append(("each", len(images), images.requires_grad))
            return real(images)

        model.__dict__["each"] = each
    try:
        yield asked
    finally:
        hook.remove()
        model.__dict__.pop("each", None)


def _bare(model: nn.Module, batch: Batch, asked: list[Asked]) -> Callable[[], None]:
    def run() -> None:
        with frozen(model):
            for way, count, gradients in asked:
                images = batch.images[:count]
                ask = model.each if way == "each" else model
                if not gradients:
                    with torch.no_grad():
                        ask(images)
                    continue
                images = images.clone().requires_grad_()
                logits = ask(images)
                torch.autograd.grad(logits, images, torch.ones_like(logits))

    return run
