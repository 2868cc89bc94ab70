"""The defended classifier: encoder, one of K programs drawn for each input, head."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from suture.bounds import assign, chain, joined, read
from suture.bounds.assign import Assign, Name, Operand
from suture.bounds.network import Network
from suture.errors import ArgumentError, ModelError
from suture.models import head_is_linear
from suture.repairs.defensyn.draws import SamplingModule
from suture.repairs.defensyn.each import Changed, changed, compiles
from suture.repairs.defensyn.each_kernels import StraightLinePrograms
from suture.repairs.defensyn.execution import ProgramBank, written_columns
from suture.repairs.defensyn.language import (
    Constant,
    Instruction,
    Opcode,
    Program,
    check_features,
)
from suture.rng import integers

_LOW = 1 << 32
"""The low 32 of a draw's random bits decide, as in ``suture.rng.integers``."""

ROWS = 16_384
"""Feature vectors per forward of a head that is not linear; a matter of memory."""


class DefendedClassifier(SamplingModule):
    """``head(P(encoder(x)))`` with ``P`` drawn from K programs, anew for every input.

    The draw happens in eval mode too: it is the defence. Unless told otherwise the module draws
    from torch's global generator; ``seed`` makes the sequence of draws repeatable, ``noise`` fixes
    each image's draw from outside (attacks use it), ``fixed`` gives the deterministic classifier
    of one program.

    Args:
        encoder, head: the two halves of the classifier, ``head(encoder(x))``.
        programs: K of them, best first.
        features: m, width of the encoder's output.
        weights: probability of each program, all positive; ``None`` for equal ones. A draw is
            decided by 32 bits: probabilities are met to within 2**-32.

    Raises:
        ProgramError: a program of another cut.
        ArgumentError: weights that are no probabilities of these programs.
    """

    cuts: Tensor
    """int64 ``(K - 1,)``: where one program's draws end and the next one's begin, of 2**32."""

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        programs: tuple[Program, ...],
        features: int,
        weights: tuple[float, ...] | None = None,
    ) -> None:
        super().__init__()
        for program in programs:
            check_features(program, features)
        self.weights = None if weights is None else _checked_weights(weights, len(programs))
        if self.weights is not None:
            ends = torch.tensor(self.weights, dtype=torch.float64).cumsum(0)
            self.register_buffer("cuts", (ends[:-1] * _LOW).round().long())
        self.encoder, self.head, self.features = encoder, head, features
        self.bank = ProgramBank(programs)
        self.suture_spec: dict[str, Any] | None = None
        self.suture_files: dict[str, bytes] = {}

    @property
    def randomised(self) -> bool:
        """Whether two forwards of one image may differ."""
        return len(self.bank.programs) > 1

    @property
    def programs(self) -> tuple[Program, ...]:
        """The K programs, best first."""
        return self.bank.programs

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Logits ``(n, classes)``.

        Args:
            images: ``(n, c, h, w)`` in [0, 1].
            noise: int64 ``(n,)``, random bits that decide each image's program.
        """
        return self.head(self.bank(self.encoder(images), self._choose(images, noise)))

    def average(self, images: Tensor, noise: Tensor) -> Tensor:
        """Mean logits ``(n, classes)`` over draws; the encoder runs once for all of them.

        Args:
            noise: int64 ``(draws, n)``.
        """
        choice = self._decided(noise)
        programs = torch.arange(len(self.bank.programs), device=noise.device)
        counts = (choice[:, :, None] == programs).sum(0)
        total = None
        for index, logits in enumerate(self.each(images).unbind(0)):
            part = counts[:, index, None] * logits
            total = part if total is None else total + part
        assert total is not None, "there is at least one program"
        return total / len(noise)

    def about_answers(self, images: Tensor, noise: Tensor | None = None) -> list[str]:
        """The program that is drawn."""
        chosen, count = self._choose(images, noise).tolist(), len(self.programs)
        return [f"program {index} of {count}: {self.programs[index]}" for index in chosen]

    def each(self, images: Tensor) -> Tensor:
        """Logits ``(k, n, classes)`` under each of the k programs; the encoder runs once.

        Before a linear head only the changes are computed: ``W·v + b + Σ_i W[:, i]·(v'_i - v_i)``.
        """
        return self.each_on(self.encoder(images))

    def each_on(self, features: Tensor) -> Tensor:
        """The same from the encoder's features ``(n, m)``."""
        linear = head_is_linear(self.head)
        if linear is None:
            return self._through(features)
        plain, weight = self.head(features), linear.weight
        if compiles(plain, features, weight):
            return Changed.apply(plain, features, weight, self.programs, self._lines)  # type: ignore[no-any-return]
        return changed(plain, features, weight, self.programs)

    @cached_property
    def _lines(self) -> StraightLinePrograms:
        return StraightLinePrograms.of(self.programs)

    def _through(self, features: Tensor) -> Tensor:
        """Any head, on the features of as many programs at a time as fit into ``ROWS``."""
        n = features.shape[0]
        group = 1 if torch.compiler.is_compiling() else max(1, ROWS // max(1, n))
        made = []
        for start in range(0, len(self.programs), group):
            programs = self.programs[start : start + group]
            repaired = torch.cat([_repaired(program, features) for program in programs])
            made.append(self.head(repaired).unflatten(0, (len(programs), n)))
        return torch.cat(made)

    def _choose(self, images: Tensor, noise: Tensor | None) -> Tensor:
        count = len(self.bank.programs)
        noise = self._noise(images, noise)
        if noise is None and self.weights is not None:
            noise = torch.randint(0, _LOW, (images.shape[0],), device=images.device)
        if noise is not None:
            return self._decided(noise)
        return torch.randint(0, count, (images.shape[0],), device=images.device)

    def _decided(self, noise: Tensor) -> Tensor:
        """The program that random bits stand for, of noise's shape."""
        if self.weights is None:
            return integers(noise, len(self.bank.programs))
        return ((noise & (_LOW - 1))[..., None] >= self.cuts).sum(-1)

    def bounds_network(self, in_shape: tuple[int, ...]) -> Network:
        """Encoder, the one program, head, as bounds see them (``suture.bounds.read``).

        Raises:
            ModelError: more than one program; ``fixed`` gives the classifier of each.
        """
        if self.randomised:
            raise ModelError(
                expected="a deterministic model",
                got=f"one that draws from {len(self.programs)} programs",
                remedy="Bound the classifier of each program, fixed(0), fixed(1), …",
            )
        features = (self.features,)
        steps = [_step(instruction) for instruction in self.programs[0].instructions]
        # Tracing wants a module that is no leaf.
        encoder, head = nn.Sequential(self.encoder), nn.Sequential(self.head)
        return joined(read(encoder, in_shape), chain(steps, features), read(head, features))

    def undefended(self) -> nn.Module:
        """The classifier without its programs; shares this one's weights."""
        return nn.Sequential(self.encoder, self.head).train(self.training)

    def odds(self) -> tuple[float, ...]:
        """The programs' probabilities: equal ones, or the weights."""
        if not self.randomised:
            return ()
        return self.weights or (1.0 / len(self.programs),) * len(self.programs)

    def support(self) -> tuple[tuple[float, nn.Module], ...]:
        """The classifier of each program."""
        if not self.randomised:
            return ()
        return tuple((odds, self.fixed(index)) for index, odds in enumerate(self.odds()))

    def fixed(self, index: int) -> DefendedClassifier:
        """The deterministic classifier of program ``index``; shares this one's weights."""
        return DefendedClassifier(
            self.encoder, self.head, (self.programs[index],), self.features
        ).train(self.training)


def _step(instruction: Instruction) -> Assign:
    """An instruction as bounds know it."""
    names: dict[Opcode, Name] = {
        Opcode.COPY: "copy",
        Opcode.ADD: "add",
        Opcode.SUB: "sub",
        Opcode.MUL: "mul",
        Opcode.DIV: "div",
        Opcode.MAX: "max",
        Opcode.MIN: "min",
    }
    operands: list[Operand] = [
        operand.value if isinstance(operand, Constant) else operand.index
        for operand in (instruction.left, instruction.right)
        if operand is not None
    ]
    return assign(instruction.target, names[instruction.op], *operands)


def _repaired(program: Program, features: Tensor) -> Tensor:
    columns = written_columns(program, features)
    index = torch.tensor(list(columns), device=features.device)
    return features.index_copy(1, index, torch.stack(list(columns.values()), 1))


def _checked_weights(weights: tuple[float, ...], count: int) -> tuple[float, ...]:
    """As plain floats, if they are probabilities that 32 bits can tell from 0."""
    plain = tuple(float(weight) for weight in weights)
    usable = len(plain) == count and min(plain) >= 1 / _LOW and abs(sum(plain) - 1) < 1e-6
    if not usable:
        raise ArgumentError(
            expected=f"{count} probabilities above 2**-32 whose sum is 1",
            got=str(plain[:8]),
            remedy="One weight a program; leave programs of weight 0 out.",
        )
    return plain
