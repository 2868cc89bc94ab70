"""Patches: m small ReLU networks of one shape, kept and run as stacked tensors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

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
_QUIET = 0.01
"""Factor on the first weights of the last layer: a new patch is nearly constant."""
_SPARSE = 0.5
"""Share of pairs of patch and input below which the pairs are run one patch at a time."""

Layers = list[tuple[Tensor, Tensor]]
"""Weights ``(p, out, in)`` and biases ``(p, out)`` of all patches, layer by layer."""


class PatchBank(nn.Module):
    """``count`` fully connected ReLU networks ``inputs → hidden → classes``.

    Args:
        count: p, number of patches.
        inputs: numbers that a patch reads.
        hidden: widths of the hidden layers.
        classes: numbers that it adds to the logits.
    """

    def __init__(self, count: int, inputs: int, hidden: Sequence[int], classes: int) -> None:
        super().__init__()
        self.count, self.hidden, self.classes = count, tuple(hidden), classes
        widths = (inputs, *hidden, classes)
        self.weights = nn.ParameterList(
            nn.Parameter(torch.zeros(count, out, width)) for width, out in pairwise(widths)
        )
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(count, out)) for out in widths[1:])

    @property
    def layers(self) -> Layers:
        """The parameters, layer by layer."""
        return list(zip(self.weights, self.biases, strict=True))

    def fill(self, layers: Layers) -> None:
        """Copy values in."""
        with torch.no_grad():
            for (weight, bias), (new_weight, new_bias) in zip(self.layers, layers, strict=True):
                weight.copy_(new_weight)
                bias.copy_(new_bias)

    def forward(self, values: Tensor, share: Tensor) -> Tensor:
        """What the chosen patches add: ``(n, classes)``.

        Outside of an export only patches that some input of the batch uses are run; where few of
        them answer for each input, only on those inputs.

        Args:
            values: ``(n, inputs)``.
            share: ``(n, p)``: 1 where a patch answers for an input, else 0.
        """
        layers = self.layers
        if not torch.compiler.is_exporting():
            used = (share != 0).any(0).nonzero()[:, 0]
            if not len(used):
                return values.new_zeros(len(values), self.classes)
            if int((share != 0).sum()) < _SPARSE * share.shape[0] * len(used):
                return apart(layers, values, share)
            if len(used) < self.count:
                layers, share = choose(layers, used), share[:, used]
        return torch.einsum("np,pnc->nc", share.to(values.dtype), run(layers, values))

    def one(self, index: int) -> nn.Sequential:
        """A copy of one patch as plain layers."""
        made: list[nn.Module] = [nn.Flatten()]
        for weight, bias in self.layers:
            layer = nn.Linear(weight.shape[2], weight.shape[1]).to(weight)
            with torch.no_grad():
                layer.weight.copy_(weight[index])
                layer.bias.copy_(bias[index])
            made += [layer, nn.ReLU()]
        return nn.Sequential(*made[:-1]).eval()


def run(layers: Layers, values: Tensor) -> Tensor:
    """Outputs ``(p, n, classes)`` of all patches on all inputs ``(n, inputs)``."""
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
    return [(weight[index], bias[index]) for weight, bias in layers]


def network(layers: Layers) -> Network:
    """Patches as n networks of ``suture.bounds``, example i with its own weights i."""
    width = layers[0][0].shape[2]
    nodes = [Node(Input(), (), (width,))]
    for index, (weight, bias) in enumerate(layers):
        shape = (weight.shape[1],)
        if index:
            nodes.append(Node(Relu(), (len(nodes) - 1,), nodes[-1].shape))
        nodes.append(Node(Linear(weight, bias), (len(nodes) - 1,), shape))
    return Network(tuple(nodes))


def initial(count: int, inputs: int, hidden: Sequence[int], classes: int, stream: Stream) -> Layers:
    """First weights: uniform in ``± 1/sqrt(fan-in)`` as ``nn.Linear`` draws them, a last layer
    that is nearly silent, biases 0."""
    layers: Layers = []
    for depth, (width, out) in enumerate(pairwise((inputs, *hidden, classes))):
        draws = torch.rand(count, out, width, generator=stream.child(depth).generator())
        scale = 1 / math.sqrt(width)
        if depth == len(hidden):
            scale *= _QUIET if hidden else 0.0
        layers.append((scale * (2 * draws - 1), torch.zeros(count, out)))
    return layers
