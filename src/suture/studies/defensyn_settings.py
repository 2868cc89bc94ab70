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
        paper: the paper's row with the same attack: network, clean and robust accuracy without
            and with the defence.
    """

    name: str
    network: str
    data: str
    attack: Attack
    paper: tuple[str, float, float, float, float]
    cost: int = 1

    def budgeted(self, queries: int) -> Attack:
        """The attack with so many candidates an image, where it counts them."""
        if isinstance(self.attack, Square | SparseRS):
            return dataclasses.replace(self.attack, queries=max(1, queries // self.cost))
        return self.attack


_CONVNEXT = ("ConvNeXt, ImageNet, L∞ 4/255", 79.72, 7.69, 79.52, 77.38)
_DEIT = ("DeiT, ImageNet, L∞ 4/255", 79.21, 4.99, 78.77, 76.44)
_RESNET = ("ResNet18, ImageNet, L2 0.5", 71.36, 55.97, 71.15, 70.96)
_VIT = ("ViT, ImageNet, L2 0.5", 69.33, 54.21, 69.28, 69.21)
_PIXLE = ("ResNet18, ImageNet, Pixle", 71.04, 10.71, 69.98, 40.75)
_SPARSE = ("ResNet18, ImageNet, Sparse-RS", 71.79, 6.56, 70.46, 65.0)

SETTINGS = {
    setting.name: setting
    for setting in (
        PaperSetting("mlp-linf", "reassure_mnist_mlp256x2", "mnist", Square(eps=0.1), _CONVNEXT),
        PaperSetting(
            "resnet20-linf", "resnet20_akamaster", "cifar10", Square(eps=8 / 255), _DEIT, 8
        ),
        PaperSetting(
            "fashion-l2",
            "abcrown_homework_fashion_cnn",
            "fashion-mnist",
            Square(norm="l2", eps=0.5),
            _RESNET,
        ),
        PaperSetting(
            "mlp-l2", "reassure_mnist_mlp256x2", "mnist", Square(norm="l2", eps=1.5), _VIT
        ),
        PaperSetting(
            "fashion-pixle", "abcrown_homework_fashion_cnn", "fashion-mnist", Pixle(), _PIXLE
        ),
        PaperSetting("mnist-l0", "eran_mnist_conv_small_nat", "mnist", SparseRS(eps=24), _SPARSE),
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
TABLE3 = {NONE: (72.26, 15.89), "DefEnSyn-30": (70.29, 34.18), "DefEnSyn-1": (70.69, 43.06)}

TABLE4 = {
    NONE: (71.88, 5.21),
    "Random": (27.09, 26.21),
    "Uniform-DefEnSyn": (69.90, 59.79),
    FULL: (70.83, 65.00),
    "temperature 20": None,
    "2 rounds": None,
}
TABLE5 = {
    "constants=5": (85.22, 83.55),
    "constants=15": (85.39, 83.57),
    FULL: (85.53, 83.55),
    NONE: (85.59, 60.30),
}
TABLE6 = {
    "lambda=0": (84.09, 83.59),
    "lambda=0.5": (85.39, 83.57),
    FULL: (85.53, 83.55),
    "lambda=5": (85.58, 81.99),
    "lambda=100": (85.59, 77.19),
    NONE: (85.59, 60.30),
}
"""The paper's clean and robust accuracy; ``None`` where it has no such row."""


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
