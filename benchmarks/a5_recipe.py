"""What CROWN-IBP training of ours does otherwise than the A5 authors' code, and what each costs.

One difference at a time is taken back, over three seeds, on a small setting (docs/a5.md, "What
differs from the authors' code"): MNIST, 10 000 training images, conv 16-32, FC 100, ε_A^C = 0.3,
24 epochs, of which the radius grows over 8. Errors are over all 10 000 test images, certified ones
by intervals.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from suture import data, models
from suture.bounds.activations import Relaxation, Relu
from suture.certify import certify_images
from suture.repairs import CrownIBP, repair
from suture.repairs.certified_training import Ramp, Schedule

EPS = 0.3
OURS = Schedule(
    epochs=24,
    optimiser="adam",
    lr=2e-3,
    step_at=(17, 22),
    step_factor=0.2,
    ramp=Ramp(start=2, length=8),
)
THEIRS = {
    "ours": OURS,
    "same slopes": OURS,
    "no clipping": replace(OURS, clip=0.0),
    "5 % judge the epochs": replace(OURS, validation=0.05),
}


@contextmanager
def same_slopes() -> Iterator[None]:
    """Inside, the lower line of an unstable ReLU has the slope of the upper one."""
    plain = Relu.relaxation

    def relaxation(
        self: Relu, lower: Tensor, upper: Tensor, alpha: Tensor | None = None
    ) -> Relaxation:
        if alpha is None:
            unstable = (lower < 0) & (upper > 0)
            alpha = upper / torch.where(unstable, upper - lower, 1.0)
        return plain(self, lower, upper, alpha)

    Relu.relaxation = relaxation  # type: ignore[method-assign]
    try:
        yield
    finally:
        Relu.relaxation = plain  # type: ignore[method-assign]


def main() -> None:
    """Train, certify, print."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--seeds", type=int, default=3)
    torch.set_num_threads(1)
    mnist = data.load("mnist")
    images, test = mnist.train.batch(10_000), mnist.test.batch()
    print("taken back, seed: clean, certified error of 10 000")
    for seed in range(asked.parse_args().seeds):
        start = models.build("a5_small", seed=seed)
        for name, schedule in THEIRS.items():
            method = CrownIBP(eps=EPS, schedule=schedule)
            if name == "same slopes":
                with same_slopes():
                    trained = repair(start, images, method, generator=seed).model
            else:
                trained = repair(start, images, method, generator=seed).model
            found = certify_images(trained, test, EPS, "ibp", batch_size=250)
            wrong = [int((~held).sum()) for held in (found.right, found.certified)]
            print(f"{name}, {seed}: {wrong[0]}, {wrong[1]}", flush=True)


if __name__ == "__main__":
    main()
