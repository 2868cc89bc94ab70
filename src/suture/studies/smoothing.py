"""Certified accuracy of a classifier that votes, against the radius: counts of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from suture.certify.smoothing import SmoothingCertificate, noise_of
from suture.report import Drawing
from suture.report.figures.certified import voted_figure
from suture.report.table import Column, Row, Table, number, share
from suture.studies.base import Cell, Study


@dataclass(frozen=True, kw_only=True)
class CertifiedByVotes(Study):
    """What counting certifies of test images; made of certificates, it measures nothing itself.

    Attributes:
        model: the reference of the classifier.
        data: a data set.
        n: images.
    """

    title: ClassVar[str] = "Certified accuracy by votes"
    paper: ClassVar[str] = (
        "An image counts at a radius if the class that is certified at least that far is the true "
        "one. An image on which the classifier abstains counts nowhere."
    )
    model: str = ""
    data: str = ""
    n: int = 0

    def cells(self) -> list[Cell]:
        """None: ``suture certify`` has counted."""
        return []

    def tables(self, rows: list[Row]) -> list[Table]:
        """Certified accuracy by radius, and what became of the images."""
        by_radius = (
            Column("radius", f"radius ({_unit(rows)})", number("g")),
            share("right", "certified accuracy", "n"),
        )
        ends = (Column("what", "what"), share("right", "share of images", "n"))
        return [
            Table(
                by_radius, [row for row in rows if "radius" in row], f"{self.model}, {self.data}"
            ),
            Table(ends, [row for row in rows if "what" in row], "Images"),
        ]

    def notes(self, rows: list[Row]) -> list[str]:
        """What the figures are about."""
        facts = next(row for row in rows if "radius" in row)
        kind = noise_of(facts["noise"])
        settings = ", ".join(f"{k} {v:g}" for k, v in facts["noise"].items() if k != "name")
        found = [
            f"Noise {kind.name}, {settings}; {facts['n0']} copies choose the class, "
            f"{facts['copies']} bound its share; alpha {facts['alpha']:g} for each image: of "
            f"{facts['n']} certificates {facts['alpha'] * facts['n']:.3g} may be wrong.",
            f"Radii are {kind.distance}. Nothing here is about attacks in another norm.",
        ]
        middle = facts["median"]
        return [*found, f"Median certified radius of all images: {middle:g} {kind.unit}."]

    def figures(self, rows: list[Row]) -> list[Drawing]:
        """Certified accuracy against the radius."""
        return [voted_figure([row for row in rows if "radius" in row], _unit(rows))]


def _unit(rows: list[Row]) -> str:
    return noise_of(next(row["noise"] for row in rows if "radius" in row)).unit


def rows_of_certificates(certificates: Sequence[SmoothingCertificate]) -> list[Row]:
    """A row for each radius of the grid, and one for each way in which an image can end."""
    first, n = certificates[0], len(certificates)
    right = [c.radius for c in certificates if c.right]
    # An image without a certificate for its true class has a radius below all others.
    middle = median([c.radius if c.right else -1.0 for c in certificates])
    facts = {"n": n, "noise": first.noise, "n0": first.n0, "copies": first.n, "alpha": first.alpha}
    facts["median"] = max(0.0, middle)
    grid = noise_of(first.noise).grid(right)
    rows: list[Row] = [
        {"radius": r, "right": sum(radius >= r for radius in right), **facts} for r in grid
    ]
    abstained = sum(c.abstains for c in certificates)
    ends = {
        "right (radius 0)": len(right),
        "another class certified": n - len(right) - abstained,
        "abstained": abstained,
    }
    return [*rows, *({"what": what, "right": count, "n": n} for what, count in ends.items())]
