"""suture: attack, repair, prove and report on trained image classifiers."""

__version__ = "0.1.0"
