"""R: a small network that moves an image away from attacks before anybody sees it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from suture.attacks import BPDA
from suture.errors import ArgumentError, ModelError, unknown_name
from suture.models import attach, build_from_spec, files_of, register_builder, spec_of
from suture.models.zoo import check_shape
from suture.repairs.a5.defence import Defence
from suture.types import RepairedModel

Body = Literal["mnist", "cifar", "small"]
KIND, DEFENDED = "a5-robustifier", "a5-defended"


def _mnist(channels: int) -> nn.Sequential:
    """The paper's for MNIST: conv 3×3 to 32, ReLU, conv 5×5 back."""
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, channels, 5, padding=2)
    )


def _cifar(channels: int) -> nn.Sequential:
    """The paper's for CIFAR-10: conv 5×5 to 64, 64 and back."""
    return nn.Sequential(
        nn.Conv2d(channels, 64, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(64, 64, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(64, channels, 5, padding=2),
    )


def _small(channels: int) -> nn.Sequential:
    """For two cores: conv 6×6 (stride 2) to 16, conv 3×3 to 16, conv 3×3 to four pixels each."""
    return nn.Sequential(
        nn.Conv2d(channels, 16, 6, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 4 * channels, 3, padding=1),
        nn.PixelShuffle(2),
    )


_BODIES: dict[str, Callable[[int], nn.Sequential]] = {
    "mnist": _mnist,
    "cifar": _cifar,
    "small": _small,
}


class Robustifier(nn.Module):
    """Images to robustified images: ``clamp(x + δ_D(R(x)))``, with 8 bits (A5, section 3).

    It sees neither the label nor the classifier, and can be deployed alone: in a camera, before
    anything is sent. White-box attacks through it meet gradients (rounding is straight through).

    Args:
        body: image ``(n, c, h, w)`` to z of the same shape.
        defence: the ball it moves in.
    """

    def __init__(self, body: nn.Module, defence: Defence) -> None:
        super().__init__()
        self.body, self.defence = body, defence

    def forward(self, images: Tensor) -> Tensor:
        """``(n, c, h, w)`` in [0, 1] to the same, at most ε_D away."""
        z = self.body(images)
        moved = self.defence.apply(images, z)
        if images.requires_grad:  # an attacker: clipping must not hide slopes, whatever their sign
            free = images + self.defence.perturbation(z)
            moved = free + (moved - free).detach()
        return self.defence.stored(images, moved)

    def moved(self, images: Tensor) -> Tensor:
        """The same before rounding: what training descends on."""
        return self.defence.reached(images, self.body(images))


class RobustifiedClassifier(RepairedModel):
    """``C ∘ clamp(x + δ_D(R(x)))``: what an image meets that is robustified and then classified.

    Certificates speak of ``classifier``, for images that were robustified before: the attacker is
    between the two (see ``certified_part``). About attacks on the image that the robustifier reads
    they say nothing.
    """

    def __init__(self, robustifier: Robustifier, classifier: nn.Module) -> None:
        super().__init__()
        self.robustifier, self.classifier = robustifier, classifier

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(n, classes)``."""
        logits: Tensor = self.classifier(self.robustifier(images))
        return logits

    def undefended(self) -> nn.Module:
        """The classifier without its robustifier; shares this one's weights."""
        return self.classifier

    def surrogates(self) -> dict[str, nn.Module]:
        """The classifier behind R with the gradient of the identity in place of R's own."""
        return {"R straight through": BPDA(self.classifier, forward=self.robustifier)}

    def preemptive(self) -> tuple[nn.Module, nn.Module]:
        """R, and the classifier that reads what R made."""
        return self.robustifier, self.classifier

    def about_answers(self, images: Tensor, noise: Tensor | None = None) -> list[str]:
        """How far the image is moved before it is classified."""
        far = (self.robustifier(images) - images).flatten(1).abs().amax(1)
        return [f"moved by at most {one:.3g} in a pixel, then classified" for one in far.tolist()]

    def about_attacks(self) -> str:
        """What attacks on the whole model are, for whoever reads their result."""
        return (
            "This model moves what it is shown before it classifies it. Attacks here change what "
            "the robustifier reads: about those A5 promises nothing. Its claim is about attacks "
            "after robustification: `suture certify` proves it again."
        )

    def certified_part(self) -> nn.Module:
        """The network whose inputs certificates speak of."""
        return self.classifier


def build_robustifier(
    body: Body, in_shape: tuple[int, ...], defence: Defence, *, seed: int = 0
) -> Robustifier:
    """An untrained robustifier that changes next to nothing yet: its last layer gives about 0.

    Args:
        body: "mnist" or "cifar" as in the paper, or "small".
        in_shape: ``(c, h, w)``.
        defence: the ball it moves in.
        seed: of the initial weights; torch's global random state is not touched.

    Raises:
        ArgumentError: an unknown name or a malformed shape.
    """
    if body not in _BODIES:
        raise ArgumentError(
            expected=f"a robustifier out of {', '.join(get_args(Body))}",
            got=unknown_name("robustifier", body, get_args(Body)),
            remedy="Correct the name.",
        )
    shape = check_shape(in_shape)
    if body == "small" and (shape[1] % 2 or shape[2] % 2):
        raise ArgumentError(
            expected='images with even sides for the robustifier "small"',
            got=f"in_shape={shape}",
            remedy='Use "mnist" or "cifar".',
        )
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed & ((1 << 63) - 1))
        made = _BODIES[body](shape[0])
    last = [layer for layer in made if isinstance(layer, nn.Conv2d)][-1]
    with torch.no_grad():
        last.weight.mul_(1e-2)
        assert last.bias is not None
        last.bias.zero_()
    spec = {
        "kind": KIND,
        "body": body,
        "in_shape": list(shape),
        "eps": defence.eps,
        "norm": defence.norm,
        "rounded": defence.rounded,
    }
    robustifier = Robustifier(made, defence).eval()
    attach(robustifier, spec)
    return robustifier


def defended(robustifier: Robustifier, classifier: nn.Module) -> RobustifiedClassifier:
    """Both in a row; it can be saved if the classifier can."""
    both = RobustifiedClassifier(robustifier, classifier)
    try:
        base = spec_of(classifier)
    except ModelError:
        return both
    spec = {"kind": DEFENDED, "base": base, "robustifier": spec_of(robustifier)}
    attach(both, spec, files_of(classifier))
    return both


def _robustifier(spec: dict[str, Any], folder: Path | None) -> nn.Module:
    defence = Defence(spec["eps"], spec["norm"], spec["rounded"])
    return build_robustifier(spec["body"], spec["in_shape"], defence)


def _defended(spec: dict[str, Any], folder: Path | None) -> nn.Module:
    robustifier = build_from_spec(spec["robustifier"], folder)
    assert isinstance(robustifier, Robustifier)
    return RobustifiedClassifier(robustifier, build_from_spec(spec["base"], folder))


register_builder(KIND, _robustifier)
register_builder(DEFENDED, _defended)
