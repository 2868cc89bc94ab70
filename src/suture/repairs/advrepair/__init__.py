"""AdvRepair: patches whose effect on whole balls is proved."""

from suture.repairs.advrepair.method import AdvRepair
from suture.repairs.advrepair.patched import OracleAllocated, PatchedClassifier
from suture.repairs.advrepair.regions import Regions, balls, of_property

__all__ = [
    "AdvRepair",
    "OracleAllocated",
    "PatchedClassifier",
    "Regions",
    "balls",
    "of_property",
]
