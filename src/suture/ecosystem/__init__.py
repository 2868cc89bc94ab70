"""Other tools: Lightning, scikit-learn, TensorBoard, MLflow, the Hugging Face Hub.

Each name is imported when it is first asked for, and says which extra it needs if that is missing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from suture.ecosystem.estimator import RepairedClassifier
    from suture.ecosystem.hub import from_pretrained, model_card, push_to_hub, save_pretrained
    from suture.ecosystem.lightning import EpochMemory, RobustAccuracy
    from suture.ecosystem.mlflow import log_mlflow
    from suture.ecosystem.tensorboard import log_tensorboard

_PLACES = {
    "EpochMemory": "lightning",
    "RepairedClassifier": "estimator",
    "RobustAccuracy": "lightning",
    "from_pretrained": "hub",
    "log_mlflow": "mlflow",
    "log_tensorboard": "tensorboard",
    "model_card": "hub",
    "push_to_hub": "hub",
    "save_pretrained": "hub",
}
__all__ = [
    "EpochMemory",
    "RepairedClassifier",
    "RobustAccuracy",
    "from_pretrained",
    "log_mlflow",
    "log_tensorboard",
    "model_card",
    "push_to_hub",
    "save_pretrained",
]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"suture.ecosystem.{_PLACES[name]}"), name)
    raise AttributeError(f"module 'suture.ecosystem' has no attribute {name!r}")
