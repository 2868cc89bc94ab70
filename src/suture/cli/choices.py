"""From options to parts: attacks and repairs by name, models by reference."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from torch import nn

from suture import models
from suture.attacks import (
    AIGENT,
    APGD,
    BIM,
    CW,
    FAB,
    FGSM,
    JSMA,
    PGD,
    SPSA,
    Attack,
    AutoAttack,
    Backdoor,
    DeepFool,
    HopSkipJump,
    OnePixel,
    Pixle,
    RandomNoise,
    SparseRS,
    Square,
)
from suture.data import Dataset
from suture.engine.threads import use_fitting_threads
from suture.errors import ArgumentError, unknown_name
from suture.loading import load
from suture.repairs import (
    DARE,
    TRADES,
    A5CoTraining,
    A5Offline,
    A5Physical,
    A5Robustifier,
    AdversarialTuning,
    AdvRepair,
    CrownIBP,
    DefEnSyn,
    PGDTraining,
    Repair,
    WeightPatch,
)
from suture.repairs.a5 import Defence
from suture.repairs.certified_training import Schedule

ATTACKS: Mapping[str, type[Attack]] = {
    "pgd": PGD,
    "square": Square,
    "noise": RandomNoise,
    "fgsm": FGSM,
    "bim": BIM,
    "apgd": APGD,
    "autoattack": AutoAttack,
    "cw": CW,
    "fab": FAB,
    "deepfool": DeepFool,
    "jsma": JSMA,
    "spsa": SPSA,
    "one-pixel": OnePixel,
    "pixle": Pixle,
    "sparse-rs": SparseRS,
    "aigent": AIGENT,
    "hop-skip-jump": HopSkipJump,
    "backdoor": Backdoor,
}
REPAIRS: Mapping[str, type[Repair]] = {
    "defensyn": DefEnSyn,
    "advrepair": AdvRepair,
    "weight-patch": WeightPatch,
    "dare": DARE,
    "adversarial": AdversarialTuning,
    "pgd-training": PGDTraining,
    "trades": TRADES,
    "crown-ibp": CrownIBP,
    "a5-offline": A5Offline,
    "a5-robustifier": A5Robustifier,
    "a5-cotraining": A5CoTraining,
    "a5-physical": A5Physical,
}

Norm = Annotated[
    str | None, typer.Option("--norm", help="linf, l2, l1 or l0, as the attack allows.")
]
Eps = Annotated[
    float | None,
    typer.Option(
        "--eps",
        help="Radius, pixel values in [0, 1], or pixels for l0; default: the attack's.",
        min=0,
    ),
]
Queries = Annotated[
    int | None, typer.Option("--queries", help="Budget per image of black-box attacks.", min=1)
]
Steps = Annotated[int | None, typer.Option("--steps", help="Steps of gradient attacks.", min=1)]
Model = Annotated[
    str,
    typer.Argument(
        help="A run or bundle folder, an .onnx or .pt2 file, an architecture's name, timm:NAME, "
        "torchvision:NAME, or module:factory."
    ),
]
Weights = Annotated[
    Path | None, typer.Option("--weights", help="Weights: .safetensors or a plain state dict.")
]
Trust = Annotated[
    bool, typer.Option("--trust-code", help="Allow module:factory to import and run its code.")
]


def make_attack(name: str, **fields: Any) -> Attack:
    """The attack of that name; ``None`` means the attack's own default.

    Raises:
        ArgumentError: unknown name, or an option that this attack does not have.
    """
    kind = _find("attack", name, ATTACKS)
    given = {key: value for key, value in fields.items() if value is not None}
    known = {field.name for field in dataclasses.fields(kind)}
    surplus = sorted(set(given) - known)
    if surplus:
        raise ArgumentError(
            expected=f"options that {kind.__name__} has: {', '.join(sorted(known))}",
            got=f"--{surplus[0]}",
            remedy=f"Leave --{surplus[0]} out.",
        )
    return kind(**given)


def make_attacks(names: Sequence[str], **fields: Any) -> list[Attack]:
    """The attacks of those names; each takes the options that it has.

    Raises:
        ArgumentError: unknown name, or an option that none of them has.
    """
    kinds = [_find("attack", name, ATTACKS) for name in names]
    known = [{field.name for field in dataclasses.fields(kind)} for kind in kinds]
    given = {key: value for key, value in fields.items() if value is not None}
    for key in sorted(set(given) - set().union(*known)):
        raise ArgumentError(
            expected=f"options that {' or '.join(names)} has",
            got=f"--{key}",
            remedy=f"Leave --{key} out.",
        )
    return [
        kind(**{key: value for key, value in given.items() if key in own})
        for kind, own in zip(kinds, known, strict=True)
    ]


def make_repair(
    name: str,
    *,
    attack: Attack,
    eps: float | None,
    steps: int | None,
    eps_d: float | None = None,
    epochs: int | None = None,
    **fields: Any,
) -> Repair:
    """The repair of that name; ``None`` means the method's own default.

    Args:
        attack: for methods that have one.
        eps, steps: for those that attack in every step themselves.
        eps_d: radius of a defence, for A5.
        epochs: of certified training; its schedule is shortened in proportion.
    """
    kind = _find("repair method", name, REPAIRS)
    known = {field.name for field in dataclasses.fields(kind)}
    fields |= {"attack": attack} if "attack" in known else {"eps": eps, "steps": steps}
    fields |= {"defence": None if eps_d is None else Defence(eps_d)}
    if epochs is not None:
        fields["schedule"] = getattr(kind, "schedule", Schedule()).shortened(epochs)
    given = {key: value for key, value in fields.items() if value is not None}
    surplus = sorted(set(given) - known)
    if surplus:
        raise ArgumentError(
            expected=f"options that {kind.__name__} has: {', '.join(sorted(known))}",
            got=f"one for {surplus[0]}",
            remedy="Leave it out.",
        )
    return kind(**given)


def _find(what: str, name: str, known: Mapping[str, Any]) -> Any:
    if name not in known:
        raise ArgumentError(
            expected=f"one of {', '.join(known)}",
            got=unknown_name(what, name, tuple(known)),
            remedy="Correct the name.",
        )
    return known[name]


def open_model(
    reference: str,
    dataset: Dataset,
    *,
    weights: Path | None = None,
    trust_code: bool = False,
    device: str = "cpu",
) -> nn.Module:
    """The classifier, checked on one image of the data set."""
    model = load(
        reference,
        weights=weights,
        trust_code=trust_code,
        device=device,
        **_open_options(reference, dataset),
    )
    some = dataset.test if len(dataset.test) else dataset.train
    models.check_classifier(model, some.batch(1).to(device))
    use_fitting_threads(model, dataset.in_shape)
    return model


def _open_options(reference: str, dataset: Dataset) -> dict[str, Any]:
    """What the data set tells about a model that its reference leaves open."""
    if reference in models.architectures() or reference.startswith(("timm:", "torchvision:")):
        return {"in_shape": dataset.in_shape, "classes": dataset.classes}
    return {"in_shape": dataset.in_shape} if reference.endswith(".onnx") else {}
