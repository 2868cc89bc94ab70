"""``suture repair --method auto``: tries what fits, and says which is best, or that nothing is."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from torch import nn

from suture.auto.candidates import Budget, Proposal, candidates
from suture.auto.judging import SHARE, Judgement, Jury, affordable, per_image, shortened
from suture.auto.words import why
from suture.errors import SutureError, require
from suture.evaluate.tiers import TIERS, Tier
from suture.repairs import REPAIRS, Context, Repair, RepairResult, Status
from suture.repairs.tuning import halves
from suture.types import LabelledImages, Norm, check_linf

GIVEN, LITTLE = "as given", 0.02
"""The model itself in the table; minutes that a candidate gets where none are left: one epoch."""
_AS_IT_WAS = (Status.UNCHANGED, Status.BEYOND_LIMIT, Status.INFEASIBLE)


@REPAIRS.add("auto")
@dataclass(frozen=True, kw_only=True)
class Auto(Repair):
    """Try the methods that fit, from cheap to dear, and give back the best.

    Some training images are held out. On them every candidate meets the attacker who knows the
    defence; the best within the limit is given back if it beats the given model by
    more than chance, else the given model, with a plain word. The figures choose; they are no
    claim: the given model may have seen these images. ``suture evaluate`` measures on others.

    Args:
        norm: what the attacker is bounded in: "linf", "l2", "l1", "l0".
        eps: his radius, pixel values in [0, 1]; pixels for "l0".
        minutes: for all candidates and their judgements. Another machine gets further in that time.
        epochs: in place of minutes: so many for every training, which repeats to the bit.
        choose: by "robust" or by "certified" accuracy.
        limit: points of clean accuracy on the held-out images that may be lost. Many a given model
            has been trained on them and is better there than anywhere else: part of what is lost
            was never there for other images, so the limit is wide.
        judged: held-out images, at most; fewer where a judgement would take too long.
        attacker: how much he tries on each of them; by default the tier "quick".
    """

    norm: Norm = "linf"
    eps: float = 8 / 255
    minutes: float = 10.0
    epochs: int | None = None
    choose: Literal["robust", "certified"] = "robust"
    limit: float = 20.0
    judged: int = 500
    attacker: Tier = TIERS["quick"]

    def __post_init__(self) -> None:
        if self.norm == "linf":
            check_linf(self.eps)
        checks = {
            "norm linf, l2, l1 or l0": self.norm in ("linf", "l2", "l1", "l0"),
            "eps > 0": 0 < self.eps < float("inf"),
            "minutes > 0": 0 < self.minutes < float("inf"),
            "epochs >= 1, or None": self.epochs is None or self.epochs >= 1,
            'choose "robust" or "certified"': self.choose in ("robust", "certified"),
            "limit >= 0, in points": self.limit >= 0,
            "judged >= 10": self.judged >= 10,
        }
        require(checks, self, "For example --norm linf --eps 8/255 --minutes 10.")

    @property
    def threat(self) -> dict[str, Any]:
        """The norm and the radius."""
        return {"norm": self.norm, "eps": self.eps}

    def _repair(self, model: nn.Module, data: LabelledImages, context: Context) -> RepairResult:
        started, work = time.perf_counter(), context.work(self, model, data)
        context = context.child("auto")
        one = self._one(model, data, context, work)
        budget = Budget((1 - SHARE) * self.minutes, self.epochs, one)
        tried = list(candidates(self.norm, self.eps, data, self.limit, budget))
        count, attacker = self._judges(len(data), one, len(tried) + 1)
        looked, held = halves(data, count / len(data), context.stream.child("held out"))
        jury = Jury(model, held[:], self.norm, self.eps, attacker, context)
        rows = [_kept(context, f"{work} given", lambda: _row(GIVEN, "", jury(model), 0.0))]
        results: list[RepairResult | None] = [None]
        for index, candidate in enumerate(tried):
            context.tell("candidates", index, len(tried))
            place = f"{work} {index}"
            row, result = self._try(
                self._in_time(candidate, started, jury, context, place),
                model,
                looked,
                jury,
                context,
                place,
            )
            rows.append(row)
            results.append(result)
        context.tell("candidates", len(tried), len(tried))
        best = chosen(rows, self.choose, self.limit)
        trace = {
            "candidates": [row | {"chosen": at == best} for at, row in enumerate(rows)],
            "choose": self.choose,
            "attacker": repr(attacker),
            "why": why(rows, best, self.choose, self.limit),
            "seconds": round(time.perf_counter() - started, 1),
        }
        found = results[best]
        if found is None:
            return RepairResult(copy.deepcopy(model), Status.UNCHANGED, trace)
        return replace(found, trace=trace | {"best": found.trace})

    def _one(self, model: nn.Module, data: LabelledImages, context: Context, work: str) -> float:
        """Seconds an image; what a run has measured before is planned with again."""
        if self.epochs is not None:
            return 0.0
        kept = context.engine.recall("auto plan", work)
        if kept is None:
            kept = {"one": per_image(model, data)}
            context.engine.note("auto plan", kept, work=work)
        return float(kept["one"])

    def _judges(self, images: int, one: float, judgements: int) -> tuple[int, Tier]:
        """How many images judge, and by what attacker."""
        most = min(self.judged, max(1, images // 10))
        if self.epochs is not None:
            return most, self.attacker
        each = 60 * self.minutes * SHARE / judgements
        return affordable(one, each, most), shortened(self.attacker, one, each)

    def _in_time(
        self, candidate: Proposal, started: float, jury: Jury, context: Context, work: str
    ) -> Proposal:
        """With no more than the minutes that are left; those that a run has given it before."""
        method: Any = candidate.method
        if self.epochs is not None or getattr(method, "minutes", None) is None:
            return candidate
        kept = context.engine.recall("auto minutes", work)
        if kept is None:
            left = self.minutes - (time.perf_counter() - started + jury.seconds) / 60
            kept = {"minutes": min(method.minutes, max(LITTLE, left))}
            context.engine.note("auto minutes", kept, work=work)
        return replace(candidate, method=replace(method, minutes=float(kept["minutes"])))

    def _try(
        self,
        candidate: Proposal,
        model: nn.Module,
        data: LabelledImages,
        jury: Jury,
        context: Context,
        work: str,
    ) -> tuple[dict[str, Any], RepairResult | None]:
        """A row of the table, and the result; none where the method failed or changed nothing."""
        before = time.perf_counter()
        try:
            result = context.child(candidate.name).run(candidate.method, model, data)
        except SutureError as error:
            return _failed(candidate, str(error), time.perf_counter() - before), None
        seconds = time.perf_counter() - before
        # A method that gives the model back as it was needs no judge.
        judged = model if result.status in _AS_IT_WAS else result.model
        facts = {"parameters": repr(candidate.method), "ended": result.status.name.lower()}
        return _kept(
            context,
            work,
            lambda: _row(candidate.name, candidate.why, jury(judged), seconds) | facts,
        ), result


def chosen(rows: list[dict[str, Any]], by: str, limit: float) -> int:
    """Which row is given back; 0, the given model, where none surely beats it.

    Args:
        rows: the given model first.
        by: "robust" or "certified".
        limit: points of clean accuracy that may be lost.
    """
    best, given = 0, rows[0]
    for index, row in enumerate(rows[1:], 1):
        if "failed" in row or row["clean"] < given["clean"] - limit / 100 * row["n"]:
            continue
        beats = row["sure"] if by == "robust" else True
        if beats and (row[by] or 0) > (rows[best][by] or 0):
            best = index
    return best


def _row(name: str, about: str, verdict: Judgement, seconds: float) -> dict[str, Any]:
    return {"name": name, "about": about, "seconds": round(seconds, 1), **asdict(verdict)}


def _kept(context: Context, work: str, made: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A row of the table; what a run has judged before is not judged again."""
    row = context.engine.recall("auto row", work)
    if row is None:
        row = made()
        context.engine.note("auto row", row, work=work)
    return dict(row)


def _failed(candidate: Proposal, sentence: str, seconds: float) -> dict[str, Any]:
    return {
        "name": candidate.name,
        "about": candidate.why,
        "seconds": round(seconds, 1),
        "failed": sentence,
        "parameters": repr(candidate.method),
    }
