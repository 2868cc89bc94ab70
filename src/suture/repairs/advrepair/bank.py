"""Patches: m small ReLU networks of one shape, kept and run as stacked tensors.

The first hidden layers may be one for all patches. Where all of them are, a patch is an affine
function of common features, and those that answer for an input are added up before they are run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from suture.bounds import Input, Linear, Network, Node, Relu
from suture.rng import Stream

HIDDEN: dict[str, tuple[int, ...]] = {
    "small": (64, 64, 16),
    "large": (256, 256, 64),
    "constant": (),
}
"""Hidden layers of the paper's two sizes (appendix B); a constant patch is a bias and nothing
else: the control."""
QUIET = 0.01
"""Factor on the first weights of the last layer: a new patch is nearly constant."""
_SPARSE = 0.5
"""Share of pairs of patch and input below which the pairs are run one patch at a time."""

Layers = list[tuple[Tensor, Tensor]]
"""Weights ``(p, out, in)`` and biases ``(p, out)`` of all patches, layer by layer; first those that
they share, ``(out, in)`` and ``(out,)``."""


class PatchBank(nn.Module):
    """``count`` fully connected ReLU networks ``inputs → hidden → classes``.

    Args:
        count: p, number of patches.
        inputs: numbers that a patch is given.
        hidden: widths of the hidden layers.
        classes: numbers that it adds to the logits.
        shared: hidden layers that all patches have in common.
        reads: numbers that a patch without hidden layers has weights for: none, since it is a
            constant; bundles from before kept zeros.
    """

    def __init__(
        self,
        count: int,
        inputs: int,
        hidden: Sequence[int],
        classes: int,
        shared: int = 0,
        reads: int | None = None,
    ) -> None:
        super().__init__()
        self.count, self.hidden, self.classes = count, tuple(hidden), classes
        self.inputs, self.shared = inputs, shared
        self._made: tuple[Any, Any] = (None, None)
        self.reads = (inputs if hidden else 0) if reads is None else reads
        widths = (self.reads, *hidden, classes)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.zeros(*self._own(depth), out, width))
            for depth, (width, out) in enumerate(pairwise(widths))
        )
        self.biases = nn.ParameterList(
            nn.Parameter(torch.zeros(*self._own(depth), out))
            for depth, out in enumerate(widths[1:])
        )

    def _own(self, depth: int) -> tuple[int, ...]:
        return () if depth < self.shared else (self.count,)

    @property
    def layers(self) -> Layers:
        """The parameters, layer by layer."""
        return list(zip(self.weights, self.biases, strict=True))

    def fill(self, layers: Layers) -> None:
        """Copy values in."""
        with torch.no_grad():
            for (weight, bias), (new_weight, new_bias) in zip(self.layers, layers, strict=True):
                weight.copy_(new_weight[..., : weight.shape[-1]])
                bias.copy_(new_bias)

    @property
    def affine(self) -> bool:
        """Whether a patch is an affine function of what all share."""
        return self.shared == len(self.hidden)

    def forward(self, values: Tensor, share: Tensor) -> Tensor:
        """What the chosen patches add: ``(n, classes)``.

        Outside of an export only patches that some input of the batch uses are run; where few of
        them answer for each input, only on those inputs.

        Args:
            values: ``(n, inputs)``.
            share: ``(n, p)``: 1 where a patch answers for an input, else 0.
        """
        layers, share = self.layers, share.to(values.dtype)
        values = common(layers, values[:, : self.reads])
        layers = layers[self.shared :]
        if self.affine:
            weight, bias = layers[0]
            return _summed(share @ weight.flatten(1), share @ bias, values)
        if not torch.compiler.is_exporting():
            used = (share != 0).any(0).nonzero()[:, 0]
            if not len(used):
                return values.new_zeros(len(values), self.classes)
            if int((share != 0).sum()) < _SPARSE * share.shape[0] * len(used):
                return apart(layers, values, share)
            if len(used) < self.count:
                layers, share = choose(layers, used), share[:, used]
        return torch.einsum("np,pnc->nc", share, run(layers, values))

    def few(self, values: Tensor, patch: Tensor, share: Tensor) -> Tensor:
        """``forward`` with the patches of each input listed: none twice.

        Args:
            values: ``(n, inputs)``.
            patch: int64 ``(n, k)``.
            share: ``(n, k)``: 1 where the patch answers, 0 to fill up.
        """
        share = share.to(values.dtype)
        if not self.affine:
            table = share.new_zeros(len(values), self.count).scatter_add(1, patch, share)
            return self(values, table)
        features = common(self.layers, values[:, : self.reads])
        both = F.embedding_bag(patch, self._table(), mode="sum", per_sample_weights=share)
        shift, slope = both[:, : self.classes], both[:, self.classes :]
        return _summed(slope, shift, features) if self.hidden else shift

    def _table(self) -> Tensor:
        """Biases and weights of the last layer side by side, a row for each patch; made once
        where no gradient has to find its way through it."""
        weight, bias = self.layers[-1]
        stamp = tuple((t.data_ptr(), t._version) for t in (weight, bias))
        if torch.is_grad_enabled() or self._made[0] != stamp:
            table = torch.cat([bias, weight.flatten(1)], 1)
            if torch.is_grad_enabled():
                return table
            self._made = (stamp, table)
        return self._made[1]  # type: ignore[no-any-return]

    def one(self, index: int) -> nn.Sequential:
        """A copy of one patch as plain layers."""
        made: list[nn.Module] = [nn.Flatten()]
        for weight, bias in self.layers:
            own = (weight[index], bias[index]) if weight.ndim > 2 else (weight, bias)
            width = own[0].shape[1] if self.hidden else self.inputs
            layer = nn.Linear(width, len(own[1])).to(weight)
            with torch.no_grad():
                layer.weight.zero_()[:, : own[0].shape[1]] = own[0]
                layer.bias.copy_(own[1])
            made += [layer, nn.ReLU()]
        return nn.Sequential(*made[:-1]).eval()


def common(layers: Layers, values: Tensor) -> Tensor:
    """What all patches compute first: ``(n, width)``; the values, if they share nothing."""
    for weight, bias in layers:
        if weight.ndim > 2:
            break
        values = F.linear(values, weight, bias).relu_()
    return values


def _summed(slope: Tensor, shift: Tensor, values: Tensor) -> Tensor:
    """Affine functions ``(n, classes · f)`` and ``(n, classes)`` of values ``(n, f)``."""
    slope = slope.unflatten(1, (shift.shape[1], values.shape[1]))
    return torch.baddbmm(shift[..., None], slope, values[..., None])[..., 0]


def run(layers: Layers, values: Tensor) -> Tensor:
    """Outputs ``(p, n, classes)`` of all patches, which share no layer, on inputs
    ``(n, inputs)``."""
    weight, bias = layers[0]
    first = values @ weight.flatten(0, 1).T + bias.flatten()
    hidden = first.view(-1, weight.shape[0], weight.shape[1]).transpose(0, 1)
    for weight, bias in layers[1:]:
        hidden = torch.baddbmm(bias[:, None], F.relu(hidden), weight.transpose(1, 2))
    return hidden


def apart(layers: Layers, values: Tensor, share: Tensor) -> Tensor:
    """What the chosen patches add, ``(n, classes)``: each patch on the inputs it answers for."""
    patch, row = (share.T != 0).nonzero(as_tuple=True)
    chosen, counts = patch.unique_consecutive(return_counts=True)
    parts = []
    for j, own in zip(chosen.tolist(), row.split(counts.tolist()), strict=True):
        hidden = values.index_select(0, own)
        for depth, (weight, bias) in enumerate(layers):
            hidden = F.linear(F.relu(hidden) if depth else hidden, weight[j], bias[j])
        parts.append(hidden)
    added = torch.cat(parts) * share[row, patch, None].to(values.dtype)
    return torch.zeros_like(added[:1]).expand(len(values), -1).index_add(0, row, added)


def choose(layers: Layers, index: Tensor) -> Layers:
    """The parameters of some patches; with repetitions, if the index has them."""
    return [
        (weight[index], bias[index]) if weight.ndim > 2 else (weight, bias)
        for weight, bias in layers
    ]


def network(layers: Layers) -> Network:
    """Patches as n networks of ``suture.bounds``, example i with its own weights i."""
    width = layers[0][0].shape[-1]
    nodes = [Node(Input(), (), (width,))]
    for index, (weight, bias) in enumerate(layers):
        shape = (weight.shape[-2],)
        if index:
            nodes.append(Node(Relu(), (len(nodes) - 1,), nodes[-1].shape))
        nodes.append(Node(Linear(weight, bias), (len(nodes) - 1,), shape))
    return Network(tuple(nodes))


def initial(
    count: int,
    inputs: int,
    hidden: Sequence[int],
    classes: int,
    stream: Stream,
    shared: int = 0,
    quiet: float = QUIET,
) -> Layers:
    """First weights: uniform in ``± 1/sqrt(fan-in)`` as ``nn.Linear`` draws them, a last layer
    that is nearly silent, biases 0. Layers that patches share are drawn alike, once.
    """
    layers: Layers = []
    for depth, (width, out) in enumerate(pairwise((inputs, *hidden, classes))):
        own = () if depth < shared else (count,)
        draws = torch.rand(*own, out, width, generator=stream.child(depth).generator())
        scale = 1 / math.sqrt(width)
        if depth == len(hidden):
            scale *= quiet if hidden else 0.0
        layers.append((scale * (2 * draws - 1), torch.zeros(*own, out)))
    return layers
