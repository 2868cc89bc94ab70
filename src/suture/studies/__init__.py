"""The papers' tables, measured again, cell by cell: ``suture bench NAME``.

A study measures rows (``cells.py``), says what its tables show of them (``columns.py``), and has
the paper's own numbers beside (``paper.toml``); ``suture.report`` renders them. A new study is a
class under ``@STUDIES.add("its-name")``, and its import here.
"""

# ruff: noqa: F401 - entered in STUDIES

from suture.studies.a5.cells import A5Cifar, A5Fashion, A5Mnist, A5TinyImageNet
from suture.studies.a5.glyphs import A5Glyphs
from suture.studies.advrepair.acasxu import AdvRepairAcasXu
from suture.studies.advrepair.baselines import AdvRepairBaselines
from suture.studies.advrepair.cells import AdvRepairFeatures, AdvRepairMnist
from suture.studies.aigent.cells import AigentCifar, AigentFashion, AigentMnist
from suture.studies.aigent.layers import AigentLayers
from suture.studies.aigent.transfer import AigentTransfer
from suture.studies.base import STUDIES, Cell, Row, Study
from suture.studies.certified import Certified
from suture.studies.dare.cells import DareTables
from suture.studies.defensyn.cells import DefEnSynTables
from suture.studies.running import run_study
from suture.studies.vnncomp import VnnComp

__all__ = ["STUDIES", "Cell", "Row", "Study", "run_study"]
