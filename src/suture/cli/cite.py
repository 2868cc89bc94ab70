"""``suture cite``: BibTeX of suture and of the papers behind what was used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from suture import __version__
from suture.cli.common import Json, emit
from suture.engine import Run
from suture.errors import ArgumentError, unknown_name

_A5 = ("frosio-a5",)
PAPERS: Mapping[str, tuple[str, ...]] = {
    "aigent": ("khan-aigent",),
    "apgd": ("croce2020autoattack", "croce2021l1", "gowal2019multitargeted"),
    "autoattack": (
        "croce2020autoattack",
        "croce2020fab",
        "andriushchenko2020square",
        "croce2021l1",
    ),
    "backdoor": ("gu2017badnets",),
    "basin-hopping": (
        "wales1997hopping",
        "dong2018momentum",
        "duchi2012smoothing",
        "gowal2019multitargeted",
    ),
    "bim": ("kurakin2017bim",),
    "cw": ("carlini2017cw",),
    "deepfool": ("moosavi2016deepfool",),
    "deepxplore": ("pei2017deepxplore",),
    "dlfuzz": ("guo2018dlfuzz",),
    "fab": ("croce2020fab",),
    "fgsm": ("goodfellow2015fgsm",),
    "hop-skip-jump": ("chen2020hopskipjump",),
    "jsma": ("papernot2016jsma",),
    "one-pixel": ("su2019onepixel",),
    "pgd": ("madry2018pgd",),
    "pixle": ("pomponi2022pixle",),
    "sparse-rs": ("croce2022sparse",),
    "spsa": ("uesato2018spsa",),
    "square": ("andriushchenko2020square", "croce2021l1"),
    "a5-cotraining": _A5,
    "a5-offline": _A5,
    "a5-physical": _A5,
    "a5-robustifier": _A5,
    "ablation": ("levine2020ablation",),
    "adversarial": ("goodfellow2015fgsm", "zhang2022dare"),
    "advrepair": ("chi-advrepair",),
    "aprnn": ("tao2023aprnn",),
    "art": ("lin2020art",),
    "care": ("sun2022care",),
    "crown-ibp": ("zhang2020crownibp",),
    "dare": ("zhang2022dare",),
    "defensyn": ("yuviler-defensyn",),
    "defensyn-game": ("yuviler-defensyn", "mcmahan2003oracle"),
    "denoised-smoothing": ("salman2020denoised", "cohen2019smoothing"),
    "n-fgsm": ("dejorge2022nfgsm",),
    "pgd-training": ("madry2018pgd",),
    "prdnn": ("sotoudeh2021repair",),
    "reassure": ("fu2022reassure",),
    "smoothing": ("cohen2019smoothing",),
    "trades": ("zhang2019trades",),
    "weight-patch": ("goldberger2020patches", "sotoudeh2021repair", "khan-aigent"),
}
"""Method → keys in ``papers.bib``."""
OWN = ("auto", "chain", "noise")
"""Methods that no paper stands behind: suture's own, or plain."""
_ADAPTIVE = ("athalye2018obfuscated",)


def command(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Methods, attacks, or run folders; default: suture and all of them."),
    ] = None,
    as_json: Json = False,
) -> None:
    """BibTeX of suture and of the papers behind methods and attacks.

    Of a run folder: what that run has used.

    Example: suture cite defensyn square
    """
    entries = bibliography()
    keys = ["suture"]
    for name in names or PAPERS:
        keys += _keys(name)
    chosen = {key: entries[key] for key in dict.fromkeys(keys)}
    emit(as_json, {"entries": chosen}, "\n\n".join(chosen.values()))


def bibliography() -> dict[str, str]:
    """Key → BibTeX entry, of everything in ``papers.bib``."""
    text = files("suture").joinpath("papers.bib").read_text(encoding="utf-8")
    found = re.findall(r"^@\w+\{([\w-]+),\n.*?^\}$", text, re.MULTILINE | re.DOTALL)
    parts = re.split(r"\n\n(?=@)", text.replace("{VERSION}", "{" + __version__ + "}").strip())
    return dict(zip(found, parts, strict=True))


def _keys(name: str) -> tuple[str, ...]:
    if name in PAPERS:
        return PAPERS[name]
    if name in OWN or name == "suture":
        return ()
    if (Path(name) / "run.json").is_file():
        return _of_run(Path(name))
    known = (*PAPERS, *OWN)
    raise ArgumentError(
        expected=f"a method out of {', '.join(known)}, or a run folder",
        got=unknown_name("method", name, known),
        remedy="Correct the name; without one, all papers are printed.",
    )


def _of_run(folder: Path) -> tuple[str, ...]:
    """Papers of every method and attack that a run's parts name."""
    from suture.cli.fields import all_methods

    info = Run.open(folder).info
    told = " ".join(map(str, info["parts"].values()))
    used = [
        name
        for name, (_, kind) in all_methods().items()
        if re.search(rf"\b{kind.__name__}\(", told) and name in PAPERS
    ]
    keys = [key for name in used for key in PAPERS[name]]
    return (*keys, *(_ADAPTIVE if info.get("kind") == "evaluate" else ()))
