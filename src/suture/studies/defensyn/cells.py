"""DefEnSyn's evaluation: Tables 2 to 6, Figures 2, 3 and 6 to 8, and what is left of the gain."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from suture import data, models
from suture.attacks import Pixle
from suture.engine.threads import torch_threads
from suture.evaluate import tier_of
from suture.evaluate.left import Left
from suture.repairs import DefEnSyn
from suture.repairs.context import Context
from suture.rng import Stream
from suture.studies.base import STUDIES, Cell, Row, Study
from suture.studies.defensyn import backdoor, columns
from suture.studies.defensyn.figures import drawings
from suture.studies.defensyn.measuring import Protocol, measured, seconds_an_image
from suture.studies.defensyn.notes import told
from suture.studies.defensyn.settings import (
    ABLATED,
    FULL,
    KS,
    NONE,
    SETTINGS,
    SIZES,
    SWEPT,
    TABLES,
    VARIANTS,
    setting,
)
from suture.studies.networks import network
from suture.studies.paper import printed
from suture.types import Batch

_HELD_OUT = 250
_OF_A_LENGTH = (
    "length",
    "best",
    "top_k_sum",
    "discarded",
    "entropy_left",
    "entropy_right",
    "seconds",
)


@STUDIES.add("defensyn-tables")
@dataclass(frozen=True, kw_only=True)
class DefEnSynTables(Study):
    """Repair networks that nobody here trained; attack as the paper did, and knowing the programs.

    Attributes:
        settings: rows of Table 2.
        n: test images of a row of Table 2, and of rows that other tables share with it; all other
            rows have half of them.
        samples: training images.
        programs: drawn for each length; with ``full`` the paper's 10⁶.
        queries: candidates an image of Square and Sparse-RS; with ``full`` their authors' 5 000.
            A network that costs c times as much has a c-th of them.
        attacked: first test images, which the attacker who knows the programs gets; with ``full``
            all of them.
        tier: how much he tries (see ``TIERS``); a dear network and random programs get "quick".
        repeats: repetitions of the paper's protocol in Table 2, cheap networks only.
        ablations: also Tables 4 to 6 and Figures 6 and 8.
        backdoor: also Table 3 and Figure 7: trains a network.
        backdoor_network, backdoor_data, backdoor_train, backdoor_test: its architecture, data
            set, training and test images.
        root: seed of images, attacks and programs, the same in every cell.
    """

    title: ClassVar[str] = "DefEnSyn: the paper's tables, and what is left of them"
    paper: ClassVar[str] = printed("defensyn").citation
    settings: tuple[str, ...] = tuple(SETTINGS)
    n: int = 1000
    samples: int = 750
    programs: int = 100_000
    queries: int = 500
    attacked: int = 250
    tier: str = "standard"
    repeats: int = 3
    ablations: bool = True
    backdoor: bool = True
    backdoor_network: str = "cnn"
    backdoor_data: str = "fashion-mnist"
    backdoor_train: int = 18_000
    backdoor_test: int = 10_000
    root: int = 0

    def __post_init__(self) -> None:
        for name in self.settings:
            setting(name)
        tier_of(self.tier)

    @property
    def drawn(self) -> int:
        """Programs of each length."""
        return 1_000_000 if self.full else self.programs

    def cells(self) -> list[Cell]:
        """Table 2, cheap networks first, with the backdoor between; then the ablations."""
        table2 = sorted(self.settings, key=lambda name: setting(name).cost)
        pairs = [(name, variant) for name in table2 for variant in (NONE, FULL)]
        made = [self._cell(*pair) for pair in pairs if setting(pair[0]).cost == 1]
        made += [Cell("backdoor", partial(_backdoor, self))] if self.backdoor else []
        made += [self._cell(*pair) for pair in pairs]
        if self.ablations:
            made += [
                Cell(f"features-{name}", partial(_features, self, name))
                for name in (ABLATED, "fashion-pixle")
            ]
            made += [self._cell(*pair) for pair in _ablations()]
        return list({cell.key: cell for cell in made}.values())

    def _cell(self, name: str, variant: str) -> Cell:
        return Cell(f"{name}-{variant}".replace(" ", "_"), partial(_defence, self, name, variant))

    tables = staticmethod(columns.tables)
    figures = staticmethod(drawings)
    notes = staticmethod(told)


def _ablations() -> list[tuple[str, str]]:
    pairs = [(ABLATED, variant) for _, variants in TABLES.values() for variant in variants]
    pairs += [(name, FULL if k == 30 else f"K={k}") for name in SWEPT for k in KS]
    return pairs + [(ABLATED, FULL if n == 750 else f"samples={n}") for n in SIZES]


@dataclass(frozen=True, eq=False)
class _PreparedSetting:
    """A setting's network and images; training images come attacked."""

    model: nn.Module
    test: Batch
    clean: Batch
    held_out: Batch
    adversarial: Batch
    attack_seconds: float


def _attack(study: DefEnSynTables, name: str) -> Any:
    return setting(name).budgeted(5000 if study.full else study.queries)


@cache
def _case(study: DefEnSynTables, name: str) -> _PreparedSetting:
    where, stream = setting(name), Stream(study.root).child(name)
    dataset, model = data.load(where.data), network(where.network)
    images = dataset.train.batch(
        study.samples + _HELD_OUT, shuffle_stream=stream.child("training images")
    )
    clean, held_out = images[: study.samples], images[study.samples :]
    started = time.perf_counter()
    found = _attack(study, name)(model, clean, generator=stream.child("attack")).images
    spent = time.perf_counter() - started
    test = dataset.test.batch(study.n, shuffle_stream=stream.child("test images"))
    return _PreparedSetting(model, test, clean, held_out, Batch(found, clean.labels), spent)


def _protocol(study: DefEnSynTables, name: str, variant: str) -> Protocol:
    dear = setting(name).cost > 1 and not study.full
    headline = variant == FULL and not dear
    return Protocol(
        repeats=study.repeats if headline else 1,
        attacked=study.n if study.full else study.attacked,
        # Of random programs every query is 50 draws.
        tier="quick" if dear or variant == "Random" else study.tier,
    )


@cache
def _bare(study: DefEnSynTables, name: str) -> tuple[dict[str, Any], Left]:
    """What is measured of the network without a defence; once a process."""
    case, protocol = _case(study, name), _protocol(study, name, NONE)
    stream = Stream(study.root).child(name).child("test")
    return measured(case.model, case.test, _attack(study, name), protocol, stream)


def _defence(study: DefEnSynTables, name: str, variant: str, _: Stream) -> list[Row]:
    """One row: the setting's network without a defence, or with a variant of DefEnSyn."""
    with torch_threads(1):
        case, stream = _case(study, name), Stream(study.root).child(name)
        attack = _attack(study, name)
        row: Row = {
            "what": "defence",
            "setting": name,
            "variant": variant,
            "attack": repr(attack),
            "network": setting(name).network,
            "data": setting(name).data,
        }
        if variant == NONE:
            return [row | _bare(study, name)[0] | _speed(case.model, case)]
        model, facts = _repaired(study, name, variant, case, stream)
        test = case.test
        if variant != FULL:
            test = test[: min(len(test), max(study.attacked, study.n // 2))]
        protocol, bare = _protocol(study, name, variant), _bare(study, name)[1]
        undefended, own = (case.model, bare), stream.child("test")
        found, _left = measured(model, test, attack, protocol, own, undefended)
        return [row | facts | found | _speed(model, case)]


def _speed(model: nn.Module, case: _PreparedSetting) -> Row:
    return {"seconds_an_image": seconds_an_image(model, case.test.images[:256])}


def _repaired(
    study: DefEnSynTables, name: str, variant: str, case: _PreparedSetting, stream: Stream
) -> tuple[nn.Module, dict[str, Any]]:
    method = DefEnSyn(
        attack=_attack(study, name),
        samples=study.samples,
        programs_per_length=study.drawn,
    )
    method = dataclasses.replace(method, **VARIANTS[variant])
    if method.distribution == "random":
        return method(case.model, case.clean).model, {"defence": repr(method)}
    few = min(method.samples, len(case.clean))
    result = method.from_attacked(
        case.model,
        case.clean[:few],
        case.adversarial[:few],
        Context.of(stream.child("programs")),
        held_out=case.held_out if method.rounds else None,
    )
    trace = result.trace
    lengths = [{key: entry[key] for key in _OF_A_LENGTH} for entry in trace["lengths"]]
    return result.model, {
        "defence": repr(method),
        "synthesis_seconds": trace["seconds"],
        "attack_seconds": round(case.attack_seconds * few / len(case.clean), 3),
        "lengths": lengths,
        "kept": len(trace["programs"]),
        "programs": [program["text"] for program in trace["programs"]],
        "disagreements": trace["rescored_disagreements"],
        "rounds": trace.get("rounds", []),
    }


def _features(study: DefEnSynTables, name: str, _: Stream) -> list[Row]:
    """Figures 2 and 3: how far the attack moves features, and how they hang together."""
    with torch_threads(1), torch.no_grad():
        case = _case(study, name)
        encoder = models.cut(case.model).encoder
        before, after = (
            encoder(images).double() for images in (case.clean.images, case.adversarial.images)
        )
    moved = (before != after).any(1)
    scale = before.abs().mean(0).clamp_min(1e-12)
    changes = 100 * (after - before)[moved].abs().median(0).values / scale
    alive = (before.std(0) > 1e-9).nonzero()[:10, 0]
    row = {
        "what": "features",
        "setting": name,
        "moved": int(moved.sum()),
        "changes": _rounded(changes),
        "first": alive.tolist(),
        "correlation": [_rounded(line) for line in torch.corrcoef(before[:, alive].T)],
        "pixle": setting(name).attack == Pixle(),
    }
    return [row]


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 4) for value in values.tolist()]


def _backdoor(study: DefEnSynTables, _: Stream) -> list[Row]:
    with torch_threads(1):
        return backdoor.measure(study, Stream(study.root).child("backdoor"))
