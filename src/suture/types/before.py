"""The classifier that a repaired one was made from."""

from __future__ import annotations

from torch import nn

from suture.types.repaired import RepairedModel

BEFORE = "suture_before"
"""Attribute of a repaired module that holds it."""


def remember(model: nn.Module, before: nn.Module) -> nn.Module:
    """Hang the classifier that a repair was given on what it made of it; returns ``model``.

    It is no submodule: it has no part in the model's parameters, modes and state dict. Bundles
    keep it.
    """
    model.__dict__[BEFORE] = (before,)
    return model


def remembered(model: nn.Module) -> nn.Module | None:
    """The classifier that ``remember`` hung on it, ``None`` if nobody did."""
    (before,) = model.__dict__.get(BEFORE, (None,))
    return before  # type: ignore[no-any-return]


def undefended_of(model: nn.Module) -> nn.Module | None:
    """The classifier that a repaired one was made from; ``None`` where nobody repaired it."""
    before = remembered(model)
    if before is None:
        return model.undefended() if isinstance(model, RepairedModel) else None
    device = next((t.device for t in (*model.parameters(), *model.buffers())), None)
    return before if device is None else before.to(device)


def stages_of(model: nn.Module) -> list[nn.Module]:
    """The classifiers between the repairs of a chain: without the last repair, the last two, ….

    The classifier before all of them is not among them: that is ``undefended_of(model)``.
    """
    found: list[nn.Module] = []
    inner = model
    while isinstance(inner, RepairedModel):
        inner = inner.undefended()
        found.append(inner)
    return found if remembered(model) is not None else found[:-1]
