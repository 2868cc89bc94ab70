"""Studies by name; a study's module is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module

from suture.errors import ArgumentError, unknown_name
from suture.studies.base import Study

STUDIES: dict[str, str] = {
    "a5-cifar": "a5_images:A5Cifar",
    "a5-fashion": "a5_images:A5Fashion",
    "a5-glyphs": "a5_glyphs:A5Glyphs",
    "a5-mnist": "a5_images:A5Mnist",
    "advrepair-acasxu": "advrepair_acasxu:AdvRepairAcasXu",
    "advrepair-features": "advrepair_features:AdvRepairFeatures",
    "advrepair-mnist": "advrepair_mnist:AdvRepairMnist",
    "aigent-cifar": "aigent_images:AigentCifar",
    "aigent-layers": "aigent_layers:AigentLayers",
    "aigent-mnist": "aigent_images:AigentMnist",
    "aigent-transfer": "aigent_transfer:AigentTransfer",
    "certified": "certified:Certified",
    "dare-tables": "dare:DareTables",
    "defensyn-tables": "defensyn_tables:DefEnSynTables",
    "vnncomp": "vnncomp:VnnComp",
}
"""Name → ``module:Class`` below ``suture.studies``."""


def names() -> list[str]:
    """All studies, in alphabetical order."""
    return sorted(STUDIES)


def study(name: str) -> Study:
    """The study of that name with its default settings.

    Raises:
        ArgumentError: there is none.
    """
    if name not in STUDIES:
        raise ArgumentError(
            expected=f"a study out of {', '.join(names())}",
            got=unknown_name("study", name, names()),
            remedy="List them with `suture bench`.",
        )
    module, _, kind = STUDIES[name].partition(":")
    made: Study = getattr(import_module(f"suture.studies.{module}"), kind)()
    return made
