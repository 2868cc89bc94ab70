"""Repairs of given adversarial inputs that AdvRepair is compared with: its Table 1's columns."""

from suture.repairs.point_repair.aprnn import APRNN
from suture.repairs.point_repair.art import ART
from suture.repairs.point_repair.base import PointRepair
from suture.repairs.point_repair.care import CARE
from suture.repairs.point_repair.prdnn import PRDNN
from suture.repairs.point_repair.reassure import REASSURE

__all__ = ["APRNN", "ART", "CARE", "PRDNN", "REASSURE", "PointRepair"]
