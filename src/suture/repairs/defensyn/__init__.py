"""DefEnSyn: short repair programs between encoder and head."""

from suture.repairs.defensyn.defended import DefendedClassifier
from suture.repairs.defensyn.game_method import DefEnSynGame
from suture.repairs.defensyn.language import Program, parse
from suture.repairs.defensyn.method import DefEnSyn

__all__ = ["DefEnSyn", "DefEnSynGame", "DefendedClassifier", "Program", "parse"]
