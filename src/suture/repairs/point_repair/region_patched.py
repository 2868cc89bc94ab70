"""A network with REASSURE's patches: ``N(x) + Σ_A h_A(x)``, one patch a linear region."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from suture.attacks.aigent.tail import leaves
from suture.errors import ModelError
from suture.models import attach, build_from_spec, files_of, register_builder, spec_of
from suture.models.layers import Affine, Normalise
from suture.types import RepairedModel

KIND = "reassure"
_AFFINE = (
    nn.Linear,
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Identity,
    nn.Dropout,
    Affine,
    Normalise,
)


def check_chain(model: nn.Module) -> None:
    """Raise ``ModelError`` unless the model is a chain whose only kinks are ReLUs."""
    parts = leaves(model)
    odd = [m for m in parts if not isinstance(m, (*_AFFINE, nn.ReLU))]
    if odd or not any(isinstance(m, nn.ReLU) for m in parts):
        raise ModelError(
            expected="an nn.Sequential of affine layers and ReLUs, so that its linear regions are "
            "told by which ReLUs are active",
            got=f"a {type(odd[0]).__name__}" if odd else "no ReLU",
            remedy="Use prdnn, aprnn or advrepair for this network.",
        )


class RegionPatched(RepairedModel):
    """N with a patch for each of n linear regions (Fu & Li 2022, section 3).

    ``h_A(x) = σ(p_A + K_A g_A(x) - K_A) - σ(-p_A + K_A g_A(x) - K_A)`` with σ the ReLU, the
    constants ``p_A`` and ``K_A = max |p_A|``: p_A on the region A, 0 where the support network g_A
    is 0. ``g_A(x) = σ(1 - γ Σ_i σ(-s_i z_i(x)))`` over N's units z_i, s_i being 1 where unit i is
    active in A and -1 elsewhere: 1 on A, and 0 where some unit leaves its sign by 1/γ.

    The paper's ``Σ_i [σ(γ h_i + 1) - σ(γ h_i)] - |I| + 1`` under a σ is the same number where no
    unit leaves its sign by more than 1/γ, and both are 0 elsewhere; its h_i are the affine
    functions that z_i are on A, here they are N's own units, so that n patches cost two products.

    Args:
        network: N, a chain of affine layers and ReLUs.
        regions, units: n, and how many ReLU inputs N has.
        classes: of N.
    """

    active: Tensor
    shift: Tensor
    sharpness: Tensor

    def __init__(self, network: nn.Module, regions: int, units: int, classes: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("active", torch.zeros(regions, units, dtype=torch.bool))
        self.register_buffer("shift", torch.zeros(regions, classes))
        self.register_buffer("sharpness", torch.ones(()))
        self.suture_spec: dict[str, Any] | None = None
        self.suture_files: dict[str, bytes] = {}

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(n, classes)``."""
        x, seen = images, []
        for module in leaves(self.network):
            if isinstance(module, nn.ReLU):
                seen.append(x.flatten(1))
                x = torch.relu(x)  # never in place: the units are read afterwards
            else:
                x = module(x)
        units = torch.cat(seen, 1)
        active = self.active.to(units.dtype)
        beyond = torch.relu(-units) @ active.T + torch.relu(units) @ (1 - active).T
        support = torch.relu(1 - self.sharpness * beyond)
        return x + self._patches(support)

    def _patches(self, support: Tensor) -> Tensor:
        """``Σ_A h_A``: supports ``(n, regions)`` → ``(n, classes)``."""
        size = self.shift.abs()
        off = size.amax(1) * (1 - support)  # K_A (1 - g_A)
        return (self.shift.sign() * torch.relu(size - off[:, :, None])).sum(1)

    def undefended(self) -> nn.Module:
        """N; shares this one's weights."""
        return self.network

    def surrogates(self) -> dict[str, nn.Module]:
        """N: on a region the patch has no slope."""
        return {"undefended": self.network}


def describe_regions(made: RegionPatched, base: nn.Module) -> None:
    """Hang the spec on the module, if its base model has one; otherwise it cannot be saved."""
    try:
        spec = spec_of(base)
    except ModelError:
        return
    regions, units = made.active.shape
    shape = {"regions": regions, "units": units, "classes": made.shift.shape[1]}
    attach(made, {"kind": KIND, "base": spec, **shape}, files_of(base))


def _build(spec: dict[str, Any], folder: Path | None) -> nn.Module:
    base = build_from_spec(spec["base"], folder)
    return RegionPatched(base, spec["regions"], spec["units"], spec["classes"])


register_builder(KIND, _build)
