"""What DefEnSyn's tables are measured on: networks that nobody here trained, and their attacks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from suture.attacks import Attack, Pixle, SparseRS, Square
from suture.errors import ArgumentError, unknown_name


@dataclass(frozen=True)
class PaperSetting:
    """A network of the data folder, a data set, and the attack to withstand.

    Attributes:
        name: short, names cells.
        network: file in the data folder, without ``.onnx``.
        data: data set.
        attack: at the default budget.
        cost: a dear network's budget of queries is divided by it.
        counted: whether the attack has a budget of queries.
    """

    name: str
    network: str
    data: str
    attack: Attack
    cost: int = 1
    counted: bool = True

    def budgeted(self, queries: int) -> Attack:
        """The attack with so many candidates an image, where it counts them."""
        if not self.counted:
            return self.attack
        return dataclasses.replace(self.attack, queries=max(1, queries // self.cost))  # type: ignore[call-arg]


SETTINGS = {
    setting.name: setting
    for setting in (
        PaperSetting("mlp-linf", "reassure_mnist_mlp256x2", "mnist", Square(eps=0.1)),
        PaperSetting("resnet20-linf", "resnet20_akamaster", "cifar10", Square(eps=8 / 255), 8),
        PaperSetting(
            "fashion-l2",
            "abcrown_homework_fashion_cnn",
            "fashion-mnist",
            Square(norm="l2", eps=0.5),
        ),
        PaperSetting("mlp-l2", "reassure_mnist_mlp256x2", "mnist", Square(norm="l2", eps=1.5)),
        PaperSetting(
            "fashion-pixle",
            "abcrown_homework_fashion_cnn",
            "fashion-mnist",
            Pixle(),
            counted=False,
        ),
        PaperSetting("mnist-l0", "eran_mnist_conv_small_nat", "mnist", SparseRS(eps=24)),
    )
}
"""Table 2's six rows."""
ABLATED = "mlp-linf"
"""What Tables 4 to 6 and Figure 8 are measured on."""
SWEPT = ("mlp-linf", "fashion-l2")
"""Figure 6: an L∞ and an L2 setting, as in the paper."""
KS = (1, 2, 5, 10, 20, 30)
SIZES = (10, 50, 100, 250, 500, 750)
LAMBDAS = (0.0, 0.5, 1.0, 5.0, 100.0)
CONSTANTS = (5.0, 15.0, 30.0)

FULL = "DefEnSyn"
"""The variant with the paper's own values."""
VARIANTS: dict[str, dict[str, Any]] = {
    FULL: {},
    "Random": {"distribution": "random"},
    "Uniform-DefEnSyn": {"distribution": "uniform"},
    "temperature 20": {"temperature": 20.0},
    "2 rounds": {"rounds": 2},
    **{f"K={k}": {"k": k} for k in KS if k != 30},
    **{f"lambda={v:g}": {"lambda_": v} for v in LAMBDAS if v != 1},
    **{f"constants={v:g}": {"constants": (-v, v)} for v in CONSTANTS if v != 30},
    **{f"samples={n}": {"samples": n} for n in SIZES if n != 750},
}
"""Fields that a variant changes."""
NONE = "No defense"
BACKDOOR: dict[str, dict[str, Any]] = {
    "DefEnSyn-30": {"k": 30},
    "DefEnSyn-1": {"k": 1},
    "DefEnSyn-1, λ = 5": {"k": 1, "lambda_": 5.0},
    "DefEnSyn-1, λ = 10, temperature 20": {"k": 1, "lambda_": 10.0, "temperature": 20.0},
}
"""Table 3's rows; the last two were chosen on training images that nothing else used."""
TABLES = {
    "table4": (
        "Table 4: synthesis and learned distributions",
        (NONE, "Random", "Uniform-DefEnSyn", FULL, "temperature 20", "2 rounds"),
    ),
    "table5": (
        "Table 5: interval of constants",
        ("constants=5", "constants=15", FULL, NONE),
    ),
    "table6": (
        "Table 6: λ",
        ("lambda=0", "lambda=0.5", FULL, "lambda=5", "lambda=100", NONE),
    ),
}
"""Title and variants of the ablations, in the paper's order."""


def setting(name: str) -> PaperSetting:
    """The setting of that name.

    Raises:
        ArgumentError: there is none.
    """
    if name not in SETTINGS:
        raise ArgumentError(
            expected=f"a setting out of {', '.join(SETTINGS)}",
            got=unknown_name("setting", name, list(SETTINGS)),
            remedy="Correct the name.",
        )
    return SETTINGS[name]
