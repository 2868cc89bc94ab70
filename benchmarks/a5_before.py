"""The attacker before A5's robustifier, on a small setting: a robustifier that was trained for him,
and what bounds through R and C prove against him (docs/a5.md, "Beyond the paper").

MNIST, 5 000 training images, conv 16-32, FC 100, everything at L∞ 0.1, seed 0. PGD goes through R
and C; more attackers can only leave less.
"""

from __future__ import annotations

import torch
from torch import nn

from suture import data, models
from suture.attacks import PGD
from suture.certify import certify_images
from suture.repairs import A5Robustifier, CrownIBP, repair
from suture.repairs.a5 import Defence
from suture.repairs.a5.through import certify_before
from suture.repairs.certified_training import Ramp, Schedule
from suture.types import Batch

EPS, GREY = 0.1, (1, 2, 4, 8, 16, 25)


def _schedule(epochs: int, ramp: int) -> Schedule:
    return Schedule(
        epochs=epochs, optimiser="adam", lr=2e-3, step_at=(), ramp=Ramp(start=1, length=ramp)
    )


def _left(model: nn.Module, batch: Batch, eps: float, steps: int) -> int:
    found = PGD(eps=eps, steps=steps)(model, batch, generator=0)
    return int(found.robust.sum())


def main() -> None:
    """Train, attack, bound, print."""
    torch.set_num_threads(1)
    mnist = data.load("mnist")
    images, test = mnist.train.batch(5000), mnist.test.batch(200)
    start = models.build("a5_small")
    plain = repair(start, images, CrownIBP(eps=EPS, schedule=_schedule(12, 6))).model
    made: dict[str, nn.Module] = {"no R": plain}
    for name, before in (("R", 0.0), ("R, trained for him", EPS)):
        method = A5Robustifier(
            eps=EPS, defence=Defence(EPS), body="small", schedule=_schedule(5, 0), before=before
        )
        made[name] = repair(plain, images, method).model
    for name, model in made.items():
        left = _left(model, test, EPS, 20)
        print(f"PGD of 20 steps before R, {EPS:g}: {left} of {len(test)} left, {name}")
    few, moving = test[:100], made["R"]
    print("grey levels, certified before R, C alone (IBP), PGD of 10 steps before R leaves")
    for grey in GREY:
        eps = grey / 255
        proved = int(certify_before(moving, few, eps).certified.sum())  # type: ignore[arg-type]
        alone = int(certify_images(plain, few, eps, "ibp").certified.sum())
        print(f"{grey}/255  {proved}  {alone}  {_left(moving, few, eps, 10)}", flush=True)


if __name__ == "__main__":
    main()
