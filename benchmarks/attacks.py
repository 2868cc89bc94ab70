"""Every attack against the bare forwards (and backwards) that it needs, on a real network.

The network is ``sdp_cifar_cnn_a_adv`` of the data folder (CIFAR-10, 215 thousand weights), or a
small untrained one of the same kind where there is no data folder. A last bias is raised so that
nothing succeeds: every image stays to the end, and the work is the same in every run.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

import harness
from suture import data, models
from suture.attacks import (
    APGD,
    CW,
    JSMA,
    PGD,
    SPSA,
    Attack,
    DeepFool,
    OnePixel,
    Pixle,
    SparseRS,
    Square,
)
from suture.types import Batch

BATCH, NETWORK, NEVER = 256, "sdp_cifar_cnn_a_adv", 1e4

# Name, attack, gradients a query: 0 for black-box, 1 for one backward, 2 for two.
CASES: list[tuple[str, Attack, int]] = [
    ("square-linf", Square(norm="linf", queries=200), 0),
    ("square-l2", Square(norm="l2", eps=0.5, queries=200), 0),
    ("sparse-rs", SparseRS(queries=200), 0),
    ("sparse-rs-patch", SparseRS(eps=25, shape="patch", queries=200), 0),
    ("pixle", Pixle(), 0),
    ("pgd", PGD(steps=40), 1),
    ("pgd-l2", PGD(norm="l2", eps=0.5, steps=40), 1),
    ("apgd", APGD(steps=40), 1),
    ("cw", CW(binary_search_steps=2, steps=25, abort_early=False), 1),
    ("deepfool", DeepFool(steps=10, classes=2), 1),
    ("jsma", JSMA(gamma=0.01), 2),
    ("spsa", SPSA(steps=3, samples=32), 0),
    ("one-pixel", OnePixel(population=40, generations=4), 0),
]


def rows() -> list[harness.Row]:
    """One row a case, and Pixle's speed-up."""
    model, batch = _case()
    return [*(_row(model, batch, *case) for case in CASES), _pixle_alone(model, batch)]


class _Held(nn.Module):
    """A model whose first class always wins, at the cost of the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        logits = self.model(images)
        return logits + NEVER * nn.functional.one_hot(torch.tensor(0), logits.shape[1])


def _case() -> tuple[nn.Module, Batch]:
    folder = data.folder()
    if folder is None:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model: nn.Module = nn.Sequential(
                nn.Conv2d(3, 16, 4, stride=2, padding=1), nn.ReLU(),
                nn.Conv2d(16, 32, 4, stride=2, padding=1), nn.ReLU(),
                nn.Flatten(), nn.Linear(2048, 100), nn.ReLU(), nn.Linear(100, 10),
            )  # fmt: skip
            images = torch.rand(BATCH, 3, 32, 32)
    else:
        model = models.load(folder / "nets" / f"{NETWORK}.onnx")
        images = data.load("cifar10-exact").test.batch(BATCH).images
    return _Held(model).eval(), Batch(images, torch.zeros(len(images), dtype=torch.int64))


def _row(model: nn.Module, batch: Batch, case: str, attack: Attack, gradients: int) -> harness.Row:
    result = attack(model, batch)
    assert not bool(result.success.any()), f"{case}: an image left early"
    queries = round(float(result.queries.double().mean()))
    bare = _bare(model, batch, queries, result.checks, gradients)
    kind = "forwards and backwards" if gradients else "forwards"
    return harness.overhead(
        case,
        lambda: attack(model, batch),
        bare,
        named=f"{queries} bare {kind} of the batch",
        repeats=3,
        queries=queries,
    )


def _bare(
    model: nn.Module, batch: Batch, queries: int, checks: int, gradients: int
) -> Callable[[], None]:
    def run() -> None:
        with torch.no_grad():
            for _ in range(checks if gradients else queries + checks):
                model(batch.images)
        for _ in range(queries if gradients else 0):
            images = batch.images.clone().requires_grad_(True)
            logits = model(images)
            for left in reversed(range(gradients)):
                loss = nn.functional.cross_entropy(logits, batch.labels, reduction="sum")
                torch.autograd.grad(loss, images, retain_graph=left > 0)

    return run


def _pixle_alone(model: nn.Module, batch: Batch, images: int = 2) -> harness.Row:
    """Against one image at a time with two forwards per candidate, as torchattacks does it."""
    attack = Pixle()
    few = batch[:images]
    generator = torch.Generator().manual_seed(0)

    def plain() -> None:
        for image in few.images.split(1):
            best, lowest = image, float("inf")
            for _ in range(attack.restarts):
                base = best
                for _ in range(attack.iterations):
                    candidate = _copied(image, base, generator)
                    with torch.no_grad():
                        own = float(model(candidate).softmax(1)[0, 0])
                        wrong = int(model(candidate).argmax(1)) != 0
                    if own < lowest or wrong:
                        best, lowest = candidate, own

    return harness.speedup(
        "pixle-alone",
        lambda: attack(model, batch),
        plain,
        named="one image at a time, two forwards per candidate",
        work=len(batch),
        reference_work=images,
        repeats=3,
    )


def _copied(image: Tensor, base: Tensor, generator: torch.Generator) -> Tensor:
    """Pixle's copy as a plain loop over the patch."""
    height, width = image.shape[2:]
    draw = torch.rand(4, generator=generator).tolist()
    top, left = int(draw[0] * (height - 1)), int(draw[1] * (width - 1))
    tall, wide = 2 + int(draw[2] * 9), 2 + int(draw[3] * 9)
    candidate = base.clone()
    for row in range(top, min(top + tall, height)):
        for column in range(left, min(left + wide, width)):
            place = torch.randint(height * width, (1,), generator=generator).item()
            candidate[0, :, place // width, place % width] = image[0, :, row, column]
    return candidate
