"""What the paper prints: Tables 2, 3 and 5 for its VGG16, beside which ours stand."""

from __future__ import annotations

ATTACKS = ("BIM", "C&W", "FGSM", "JSMA", "PGD")
"""The columns of Table 2, in its order; also the names of the baselines."""

WON, SCENARIOS = 29, 45
"""Testing scenarios that DARE wins in Table 2."""

# Attack → empirical robustness, %, of DARE and of the models tuned with BIM, C&W, FGSM, JSMA, PGD.
_TABLE_2 = {
    "cifar10": {
        "BIM": (82.1, 70.6, 66.7, 55.8, 66.5, 73.6),
        "C&W": (92.3, 66.4, 75.5, 55.2, 75.0, 70.9),
        "FGSM": (74.6, 50.9, 59.7, 54.8, 56.8, 52.5),
        "JSMA": (84.9, 62.7, 73.8, 51.1, 80.9, 70.1),
        "PGD": (83.7, 75.7, 64.9, 54.9, 74.6, 80.6),
    },
    "fashion-mnist": {
        "BIM": (62.0, 66.8, 65.9, 61.4, 60.8, 68.8),
        "C&W": (81.8, 71.3, 83.1, 68.4, 81.2, 75.8),
        "FGSM": (66.8, 73.3, 66.8, 78.5, 67.8, 77.6),
        "JSMA": (71.8, 77.2, 70.2, 75.4, 86.6, 84.4),
        "PGD": (63.7, 67.1, 64.6, 62.1, 64.3, 69.9),
    },
}
# Clean accuracy, %: original, then after DARE, BIM, C&W, FGSM, JSMA, PGD.
_TABLE_3 = {
    "cifar10": (88.7, 88.9, 87.6, 88.8, 87.4, 88.5, 88.3),
    "fashion-mnist": (91.1, 90.8, 86.3, 85.1, 86.5, 81.9, 87.1),
}
# Minutes: generation, training of BIM, C&W, FGSM, JSMA, PGD; collection, slicing, training of DARE.
_TABLE_5 = {
    "cifar10": ((747, 60), (3439, 51), (103, 42), (489, 54), (1978, 52), (160, 140, 40)),
    "fashion-mnist": ((689, 7), (3165, 5), (135, 8), (572, 5), (1856, 8), (188, 45, 15)),
}


def robustness(data: str, attack: str, method: str) -> float | None:
    """Table 2, VGG16: ``method`` is "DARE" or one of ``ATTACKS``."""
    row = _TABLE_2.get(data, {}).get(attack)
    return None if row is None or method not in _COLUMNS else row[_COLUMNS.index(method)]


def accuracy(data: str, method: str) -> float | None:
    """Table 3, VGG16: ``method`` may also be "original"."""
    row, names = _TABLE_3.get(data), ("original", *_COLUMNS)
    return None if row is None or method not in names else row[names.index(method)]


def minutes(data: str, method: str) -> str:
    """Table 5, VGG16, in words."""
    row = _TABLE_5.get(data)
    if row is None or method not in _COLUMNS:
        return "–"
    if method == "DARE":
        return "{} + {} + {}".format(*row[-1])
    return "{} + {}".format(*row[ATTACKS.index(method)])


_COLUMNS = ("DARE", *ATTACKS)
