"""What the paper prints in Tables 2 to 8: errors in percent, (clean, AutoAttack, certified)."""

from __future__ import annotations

Triple = tuple[float, float, float]

_RADII = (0.05, 0.1, 0.2, 0.3, 0.4)

_MNIST_PLAIN: dict[float, Triple] = {0.1: (0.92, 2.00, 5.41), 0.3: (1.41, 7.06, 9.98)}
"""Table 2, CROWN-IBP with ε_A^C = ε_A."""

_MNIST: dict[tuple[str, float], tuple[Triple, ...]] = {
    ("O", 0.1): (
        (0.82, 1.51, 2.89),
        (0.72, 1.21, 1.92),
        (0.56, 0.78, 1.94),
        (0.51, 0.57, 0.70),
        (0.52, 0.53, 0.60),
    ),
    ("O", 0.3): (
        (1.35, 5.16, 6.97),
        (1.33, 4.12, 5.19),
        (1.32, 3.21, 3.77),
        (1.31, 2.91, 3.40),
        (1.32, 2.74, 3.20),
    ),
    ("R", 0.1): (
        (0.95, 1.71, 3.58),
        (1.00, 1.48, 2.54),
        (0.93, 1.33, 1.77),
        (0.91, 1.16, 1.54),
        (0.87, 1.05, 1.35),
    ),
    ("R", 0.3): (
        (1.41, 5.13, 6.91),
        (1.38, 3.86, 4.81),
        (1.41, 2.26, 2.63),
        (1.32, 1.86, 1.99),
        (1.29, 1.69, 1.83),
    ),
    ("RC", 0.1): (
        (1.00, 1.38, 2.35),
        (0.77, 0.95, 1.40),
        (0.69, 0.80, 1.05),
        (0.64, 0.70, 1.02),
        (0.61, 0.68, 0.88),
    ),
    ("RC", 0.3): (
        (3.42, 9.51, 11.72),
        (2.35, 6.18, 8.07),
        (1.28, 2.82, 4.01),
        (0.94, 1.15, 1.59),
        (0.91, 1.14, 1.68),
    ),
}
"""Tables 3 to 5 with ε_A^C = ε_A^R = ε_A, over ε_D = 0.05, 0.1, 0.2, 0.3, 0.4."""

_GREY = (4, 8, 16, 32)
_CIFAR: dict[str, tuple[Triple, ...]] = {
    "O": (
        (53.34, 62.42, 62.79),
        (52.36, 59.24, 59.58),
        (50.60, 55.22, 55.38),
        (48.06, 50.86, 50.94),
    ),
    "R": (
        (54.12, 63.32, 63.74),
        (53.24, 61.38, 61.93),
        (51.95, 59.21, 59.67),
        (51.70, 56.91, 57.43),
    ),
    "RC": (
        (54.05, 62.80, 64.44),
        (50.74, 56.63, 59.49),
        (39.15, 41.33, 44.22),
        (41.59, 43.01, 45.55),
    ),
}
"""Tables 6 to 8 with ε_A = ε_A^C = ε_A^R = 8/255, over ε_D = 4, 8, 16, 32 grey levels."""
_CIFAR_PLAIN: Triple = (54.60, 66.34, 67.11)


def printed(data: str, recipe: str, eps: float, eps_d: float | None) -> Triple | None:
    """The paper's errors for a row where ε_A^C = ε_A^R = ε_A, or ``None`` where it has none.

    Args:
        data: "mnist" or "cifar10"; the paper's other sets stand in a supplement.
        recipe: "CROWN-IBP", "O", "R" or "RC".
        eps: ε_A.
        eps_d: ε_D; ``None`` for the classifier alone.
    """
    if data == "mnist":
        if eps_d is None:
            return _MNIST_PLAIN.get(eps)
        own = _MNIST.get((recipe, eps), ())
        return dict(zip(_RADII, own, strict=False)).get(eps_d)
    if not data.startswith("cifar10") or round(255 * eps, 6) != 8:
        return None
    if eps_d is None:
        return _CIFAR_PLAIN
    return dict(zip(_GREY, _CIFAR.get(recipe, ()), strict=False)).get(round(255 * eps_d, 6))  # type: ignore[call-overload]
