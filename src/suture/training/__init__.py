"""A model and a data set → a trained copy, with every epoch remembered.

>>> from suture.training import TrainConfig, train
>>> TrainConfig(epochs=5).optimiser
'adam'
"""

from suture.training.config import TrainConfig
from suture.training.history import History
from suture.training.loop import train
from suture.training.result import EpochCurve, Progress, TrainResult
from suture.training.retention import Retention

__all__ = ["EpochCurve", "History", "Progress", "Retention", "TrainConfig", "TrainResult", "train"]
