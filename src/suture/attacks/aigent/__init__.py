"""AIGENT: minimal weight patches, and the adversarial inputs that imitate them."""

from suture.attacks.aigent.attack import AIGENT
from suture.attacks.aigent.search import Finding, SearchOutcome

__all__ = ["AIGENT", "Finding", "SearchOutcome"]
