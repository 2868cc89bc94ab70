"""What the AIGENT studies share: networks, images, one row of Table I, and its pictures."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from suture import data, models
from suture.attacks import AIGENT, FGSM, JSMA, PGD, Attack, AutoAttack, SparseRS
from suture.attacks.aigent import Finding, SearchOutcome
from suture.errors import DataError
from suture.evaluate.naturalness import changes, frechet, pielou
from suture.report import Drawing
from suture.report.figures.style import draw
from suture.rng import Stream
from suture.studies.base import Row
from suture.studies.sheets import Sheet, rate
from suture.types import Batch

SHOWN = 5
OURS, DIRECT, ALONE = "AIGENT", "AIGENT, no patches", "patches alone"


def network(name: str) -> nn.Module:
    """A network of the data folder.

    Raises:
        DataError: not there.
    """
    place = data.folder()
    path = None if place is None else place / "nets" / f"{name}.onnx"
    if path is None or not path.is_file():
        raise DataError(
            expected=f"nets/{name}.onnx in the data folder",
            got="no data folder" if place is None else "no such file",
            remedy="Set SUTURE_DATA to the data folder.",
        )
    return models.load(path)


def first_of_each(split: data.Split, per_class: int) -> Batch:
    """The first images of every class, in the order of the data set."""
    seen: Counter[int] = Counter()
    chosen = []
    for row, label in enumerate(split.labels.tolist()):
        if seen[label] < per_class:
            seen[label] += 1
            chosen.append(row)
    return split.select(torch.tensor(chosen)).batch()


def right(model: nn.Module, batch: Batch) -> Batch:
    """The images that a model classifies as their label."""
    with torch.no_grad():
        said = torch.cat([model(piece.images).argmax(1) for piece in batch.split(256)])
    return batch[(said == batch.labels).nonzero()[:, 0]]


def attacks(eps: float, fast: float, pixels: int) -> dict[str, Attack]:
    """The rows of Table I: AIGENT, and others of ``suture.attacks`` at the paper's radii."""
    return {
        OURS: AIGENT(),
        DIRECT: AIGENT(patches=False),
        "AIGENT, linear bounds": AIGENT(patches=False, bounds=0.05),
        "FGSM": FGSM(eps=fast),
        "PGD": PGD(eps=eps),
        "JSMA": JSMA(),
        "Sparse-RS": SparseRS(eps=pixels, queries=1000),
        "AutoAttack": AutoAttack(eps=eps),
    }


def measured(
    what: str, attack: Attack, model: nn.Module, batch: Batch, stream: Stream
) -> list[Row]:
    """One attack on the images that the model gets right; every success by a plain forward."""
    good = right(model, batch)
    facts = {"attack": repr(attack), "n": len(good), "wrong": len(batch) - len(good)}
    if isinstance(attack, AIGENT):
        return _searched(what, attack, model, good, facts)
    started = time.process_time()
    images = attack(model, good, generator=stream).images
    facts |= {"cpu_seconds_mean": round((time.process_time() - started) / len(good), 6)}
    return [{"what": what, **facts, **judged(model, good, images)}]


def _searched(
    what: str, attack: AIGENT, model: nn.Module, good: Batch, facts: dict[str, Any]
) -> list[Row]:
    findings = attack.findings(model, good)
    images = torch.stack([torch.from_numpy(one.image).float() for one in findings])
    times = {
        "seconds": np.array([one.seconds for one in findings]),
        "cpu_seconds": np.array([one.cpu_seconds for one in findings]),
    }
    facts = facts | {
        f"{name}_{what}": round(float(measure(values)), 5)
        for name, values in times.items()
        for what, measure in (("mean", np.mean), ("median", np.median), ("max", np.max))
    }
    facts |= {
        "programs_median": float(np.median([one.programs for one in findings])),
        "by_patches": sum(one.origin == "patches" for one in findings),
        "claimed": sum(one.outcome is SearchOutcome.FOUND for one in findings),
    }
    rows = [{"what": what, **facts, **judged(model, good, images)}]
    if attack.patches:
        rows.append({"what": ALONE, "n": len(good), "wrong": facts["wrong"], **_alone(findings)})
    return rows


def _alone(findings: list[Finding]) -> dict[str, Any]:
    """How far the imitated patches come before anything is repaired or saved."""
    pixels = [one.imitated for one in findings if one.imitated >= 0]
    some = {"pixels_median": float(np.median(pixels)), "pixels_max": max(pixels)} if pixels else {}
    return {"found": len(pixels), "attack": "as AIGENT, before repairs and polishing", **some}


def judged(model: nn.Module, clean: Batch, images: Tensor) -> dict[str, Any]:
    """Found, changed, natural and even: by a forward in the model's own precision."""
    with torch.no_grad():
        logits = torch.cat([model(piece) for piece in images.split(256)])
    said = logits.argmax(1)
    hits = (said != clean.labels).nonzero()[:, 0]
    inside = bool((images >= 0).all() and (images <= 1).all())
    facts: dict[str, Any] = {"found": len(hits), "inside": inside}
    if len(hits) < 2:
        return facts
    before, after = clean.images[hits], images[hits]
    facts |= {key: round(value, 5) for key, value in changes(before, after).items()}
    facts |= {
        "frechet": round(frechet(before, after), 6),
        "pielou": round(pielou(said[hits], logits.shape[1]), 4),
        "shown": _shown(before, after, clean.labels[hits], said[hits]),
    }
    return facts


def _shown(before: Tensor, after: Tensor, labels: Tensor, said: Tensor) -> list[dict[str, Any]]:
    """The first pairs as bytes: for the page."""
    pairs = zip(before[:SHOWN], after[:SHOWN], labels, said, strict=False)
    return [
        {
            "shape": list(one.shape),
            "clean": (one * 255).round().int().flatten().tolist(),
            "attacked": (other * 255).round().int().flatten().tolist(),
            "changed": (one != other).any(0).flatten().nonzero()[:, 0].tolist(),
            "label": int(label),
            "said": int(answer),
        }
        for one, other, label, answer in pairs
    ]


def table(title: str, rows: list[Row], paper: dict[str, str], caption: str) -> Sheet:
    """Table I of the paper, measured again."""
    header = (
        "attack",
        "defect detection",
        "pixels: median",
        "max",
        "L2: median",
        "max",
        "L∞: median",
        "max",
        "Fréchet (pixels)",
        "Pielou",
        "CPU s",
        "paper",
    )
    return Sheet(title, header, tuple(_line(row, paper) for row in rows), caption)


def _line(row: Row, paper: dict[str, str]) -> tuple[str, ...]:
    numbers = ("pixels_median", "pixels_max", "l2_median", "l2_max", "linf_median", "linf_max")
    seconds = row.get("cpu_seconds_median", row.get("cpu_seconds_mean"))
    return (
        row["what"],
        rate(row["found"], row["n"]),
        *(_number(row.get(key)) for key in (*numbers, "frechet", "pielou")),
        _number(seconds),
        paper.get(row["what"], "–"),
    )


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}"


CAPTION = (
    "Of the images that the network classifies right: for how many an adversarial one was found, "
    "by a forward in float32, inside [0, 1]. Pixels, L2 and L∞ of the found ones. Fréchet distance "
    "between the found ones and their originals on raw pixels, not on Inception features. CPU s: "
    "processor seconds an image; the median for AIGENT, the mean for attacks that run in batches. "
    "Patches alone: the input that imitates the patches, as the programs first give it. Paper: "
    "defect detection, pixels and seconds as printed there, on networks and machines of its own."
)


def warnings(rows: list[Row]) -> list[str]:
    """What must hold for every row, and an alarm where it does not."""
    outside = [row["what"] for row in rows if row.get("inside") is False]
    claimed = [r["what"] for r in rows if "claimed" in r and r["claimed"] != r["found"]]
    notes = [f"ALARM: images outside [0, 1] in {', '.join(outside)}."] if outside else []
    if claimed:
        notes.append(f"The float32 network disagrees with the search in {', '.join(claimed)}.")
    wrong = {row["wrong"] for row in rows}
    if wrong:
        notes.append(f"Images that the network gets wrong from the start, left out: {max(wrong)}.")
    return notes


def pictures(key: str, rows: list[Row]) -> Drawing | None:
    """Original, adversarial, difference with the changed pixels marked; AIGENT's first images."""
    shown = next((row["shown"] for row in rows if row["what"] == OURS and "shown" in row), None)
    if not shown:
        return None

    def paint(figure: Any) -> None:
        axes = figure.subplots(3, len(shown), squeeze=False)
        for column, pair in enumerate(shown):
            _paint_pair([row[column] for row in axes], pair)

    lines = tuple((str(p["label"]), str(p["said"]), str(len(p["changed"]))) for p in shown)
    return Drawing(
        f"{key}-pictures",
        f"Original, adversarial, difference: {key}",
        "Below: the change (red up, blue down; of colour images its mean over channels), every "
        "changed pixel framed.",
        f"{len(shown)} images with {', '.join(line[2] for line in lines)} changed pixels.",
        draw(f"{key}-pictures", paint, height=3.4, width=5.4),
        ("label", "the network says", "changed pixels"),
        lines,
    )


def _paint_pair(axes: list[Any], pair: dict[str, Any]) -> None:
    shape = pair["shape"]
    clean, attacked = (
        np.array(pair[name], dtype=float).reshape(shape) / 255 for name in ("clean", "attacked")
    )
    for ax, image, title in (
        (axes[0], clean, str(pair["label"])),
        (axes[1], attacked, f"→ {pair['said']}"),
    ):
        picture = image.transpose(1, 2, 0)
        ax.imshow(picture if shape[0] == 3 else picture[..., 0], cmap="gray", vmin=0, vmax=1)
        ax.set_title(title, fontsize=8)
    axes[2].imshow((attacked - clean).mean(0), cmap="bwr", vmin=-1, vmax=1)
    for place in pair["changed"]:
        row, column = divmod(place, shape[2])
        x, y = column - 0.5, row - 0.5
        axes[2].plot([x, x + 1, x + 1, x, x], [y, y, y + 1, y + 1, y], color="#202124", lw=0.7)
    for ax in axes:
        ax.set_axis_off()
