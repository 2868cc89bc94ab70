"""The ACAS Xu networks and properties of the data folder (Katz et al. 2017, arXiv:1702.01135).

45 networks N_{a,b} (a previous advisory 1 … 5, b time to loss of separation 1 … 9) with five
normalised inputs and five scores; the advisory is the *smallest* score. Ten properties.
"""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from suture.data.places import folder
from suture.data.reading import reading
from suture.data.vnnlib import Property, read_vnnlib
from suture.errors import DataError

ADVISORIES = ("clear of conflict", "weak left", "weak right", "strong left", "strong right")
_NAME = re.compile(r"ACASXU_run2a_([1-5])_([1-9])_batch_2000\.onnx$")
_PROPERTY = re.compile(r"prop_(\d+)\.vnnlib$")


@dataclass(frozen=True)
class Instance:
    """A network, a property, and the seconds that the competition allowed a verifier."""

    a: int
    b: int
    property: int
    seconds: float


def network(a: int, b: int) -> Path:
    """The ONNX file of N_{a,b}.

    Raises:
        DataError: not there.
    """
    return _file(f"onnx/ACASXU_run2a_{a}_{b}_batch_2000.onnx")


def acas_property(number: int) -> Property:
    """Property 1 … 10.

    Raises:
        DataError: not there.
    """
    return read_vnnlib(_file(f"vnnlib/prop_{number}.vnnlib"))


def instances() -> list[Instance]:
    """The 186 instances of VNN-COMP 2021, in its order.

    Raises:
        DataError: not there, or damaged.
    """
    path = _file("acasxu_instances.csv")
    with reading(path, "a list of network, property, seconds"), path.open(newline="") as file:
        return [_instance(row) for row in csv.reader(file) if row]


def _instance(row: list[str]) -> Instance:
    net, prop = _NAME.search(row[0]), _PROPERTY.search(row[1])
    if net is None or prop is None:
        raise ValueError(f"not a network and a property: {row}")
    return Instance(int(net[1]), int(net[2]), int(prop[1]), float(row[2]))


def _file(name: str) -> Path:
    place = folder()
    path = None if place is None else place / "acasxu" / name
    if path is None or not path.is_file():
        raise DataError(
            expected=f"acasxu/{name} in the data folder",
            got="no data folder" if place is None else "no such file",
            remedy="Set SUTURE_DATA to the data folder.",
        )
    return path
