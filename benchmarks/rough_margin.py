"""What each attack of the standard tier finds where the margin is rough: before a robustifier.

A5's R learns to move images to where C is certain. Whoever comes before it searches through R, and
the margin has many local maxima there (docs/evaluation.md, "Basin hopping"). A pair is trained on
15 000 MNIST images (ε_A = 0.1, ε_D = 0.3, conv 16-32, FC 100; C 8 epochs, R 10), and its first test
images are attacked before R, by every attack of the tier alone, and by all together.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch

from suture import data, models
from suture.attacks import Attack, BasinHopping
from suture.evaluate.tiers import TIERS
from suture.repairs import A5Robustifier, CrownIBP, repair
from suture.repairs.a5 import Defence
from suture.repairs.certified_training import Ramp, Schedule

CLASSIFIER = Schedule(
    epochs=8, optimiser="adam", lr=2e-3, step_at=(5, 7), step_factor=0.2, ramp=Ramp(1, 2)
)
ROBUSTIFIER = replace(CLASSIFIER, epochs=10, lr=1e-3, step_at=(7, 9))


def trained() -> torch.nn.Module:
    """C ∘ R."""
    images = data.load("mnist").train.batch(15_000)
    start = models.build("a5_small", seed=0)
    robust = repair(start, images, CrownIBP(eps=0.1, schedule=CLASSIFIER), generator=0).model
    method = A5Robustifier(eps=0.1, defence=Defence(0.3), body="small", schedule=ROBUSTIFIER)
    return repair(robust, images, method, generator=0).model


def attacks(eps: float, probes: int) -> list[Attack]:
    """Those of the tier, and, last, its hops and those of the deep one."""
    tiers = (TIERS[name] for name in ("standard", "deep"))
    standard, deep = (t.direct("linf", eps, 10, 1, randomised=False, finite=True) for t in tiers)
    hops = [a for a in (*standard, *deep) if isinstance(a, BasinHopping)]
    others = [a for a in standard if not isinstance(a, BasinHopping)]
    return [*others, *(replace(hop, probes=probes) for hop in hops)]


def main() -> None:
    """Train, attack, print."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--eps", type=float, default=0.16)
    asked.add_argument("--n", type=int, default=100)
    asked.add_argument("--probes", type=int, default=BasinHopping.probes)
    given = asked.parse_args()
    torch.set_num_threads(1)
    model, test = trained(), data.load("mnist").test.batch(given.n)
    left = torch.ones(given.n, dtype=torch.bool)
    print(f"attacker before R at {given.eps}: right of {given.n}, together so far, CPU seconds")
    for attack in attacks(given.eps, given.probes):
        began = time.process_time()
        robust = attack(model, test, generator=0).robust
        left &= robust
        name = " ".join([type(attack).__name__, str(getattr(attack, "loss", ""))]).strip()
        name += f" {attack.hops} hops" if isinstance(attack, BasinHopping) else ""
        counts = f"{int(robust.sum()):4} {int(left.sum()):4} {time.process_time() - began:6.0f}"
        print(f"{name:24} {counts}", flush=True)


if __name__ == "__main__":
    main()
