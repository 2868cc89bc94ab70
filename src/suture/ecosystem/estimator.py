"""A classifier and its repair as a scikit-learn estimator."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from suture import data, models
from suture.errors import ArgumentError, DataError, ModelError
from suture.evaluate.rows import fresh_logits
from suture.loading import load
from suture.repairs import Repair
from suture.repairs import repair as repair_
from suture.rng import Stream
from suture.training import TrainConfig, train

_PIECE = 1024


class RepairedClassifier(ClassifierMixin, BaseEstimator):
    """Train an image classifier, repair it, and answer as scikit-learn's estimators do.

    Arrays are ``(n, features)``, or ``(n, channels, height, width)``, with values in [0, 1]. Labels
    may be anything; a given network's outputs belong to the sorted labels.

    Args:
        model: an architecture's name, another reference that ``suture.load`` takes, or a module.
        repair: a repair method; ``None`` for none.
        in_shape: ``(channels, height, width)``, for flat arrays; default: a square of one channel.
        training: how to train before the repair; ``None`` takes the model as it is.
        seed: of weights, training and repair.

    Attributes:
        classes_: the labels, sorted.
        model_: the repaired classifier.
        result_: the ``RepairResult``, ``None`` without a repair.

    Raises:
        DataError, ModelError: on ``fit`` and ``predict``: arrays or networks that do not fit.
    """

    def __init__(
        self,
        model: str | nn.Module = "digits_cnn",
        repair: Repair | None = None,
        *,
        in_shape: Sequence[int] | None = None,
        training: TrainConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.model, self.repair, self.in_shape = model, repair, in_shape
        self.training, self.seed = training, seed

    def fit(self, X: Any, y: Any) -> RepairedClassifier:
        """Train where that is asked for, then repair, on these images."""
        images = self._images(X)
        self.classes_, labels = np.unique(np.asarray(y), return_inverse=True)
        if len(self.classes_) < 2:
            raise DataError(
                expected="images of two classes or more",
                got=f"{len(self.classes_)}",
                remedy="Give all classes to fit.",
            )
        self.n_features_in_ = int(np.prod(images.shape[1:]))
        given = data.load({"train": (images, torch.from_numpy(labels))})
        model = self._opened(tuple(images.shape[1:]), given)
        self._check(model, given)
        if self.training is not None:
            model = train(model, given, config=self.training, seed=self.seed).model
        self.result_ = None
        if self.repair is not None:
            self.result_ = repair_(model, given, self.repair, generator=self.seed)
        self.model_ = model if self.result_ is None else self.result_.model
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Softmax of the logits, ``(n, classes)``.

        Of a randomised model one draw an image, the same every time.
        """
        logits = self._logits(X).double().softmax(1)
        return np.asarray(logits.numpy())

    def predict(self, X: Any) -> NDArray[Any]:
        """The labels ``(n,)``."""
        chosen = self._logits(X).argmax(1).numpy()
        return np.asarray(self.classes_[chosen])

    def _logits(self, X: Any) -> Tensor:
        check_is_fitted(self)
        images, stream = self._images(X), Stream(self.seed).child("answers")
        with models.untouched(self.model_), torch.no_grad():
            parts = [fresh_logits(self.model_, part, stream) for part in images.split(_PIECE)]
        return torch.cat(parts).cpu()

    def _check(self, model: nn.Module, given: data.Dataset) -> None:
        batch = given.train.batch(16)
        models.check_classifier(model, batch)
        with models.untouched(model), torch.no_grad():
            outputs = fresh_logits(model, batch.images, Stream(self.seed)).shape[1]
        if outputs != len(self.classes_):
            raise ModelError(
                expected=f"a network of {len(self.classes_)} classes, as many as labels",
                got=f"one of {outputs}",
                remedy="Give images of every class to fit, or another network.",
            )

    def _opened(self, shape: tuple[int, ...], given: data.Dataset) -> nn.Module:
        if isinstance(self.model, nn.Module):
            return copy.deepcopy(self.model)
        options: dict[str, Any] = {}
        if self.model in models.architectures():
            options = {"mean": given.mean, "std": given.std, "seed": self.seed}
        if options or self.model.startswith(("timm:", "torchvision:")):
            options |= {"in_shape": shape, "classes": len(self.classes_)}
        elif self.model.endswith(".onnx"):
            options = {"in_shape": shape}
        return load(self.model, **options)

    def _images(self, X: Any) -> Tensor:
        """As ``(n, c, h, w)``, float32."""
        array = np.asarray(X, dtype=np.float32)
        if array.ndim == 2:
            array = array.reshape(len(array), *self._shape(array.shape[1]))
        if array.ndim != 4 or not len(array):
            raise DataError(
                expected="arrays (n, features) or (n, channels, height, width)",
                got=f"shape {array.shape}",
                remedy="Give at least one image.",
            )
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise DataError(
                expected="values in [0, 1]",
                got=f"values from {array.min():g} to {array.max():g}",
                remedy="Divide by 255, or put a MinMaxScaler(clip=True) before.",
            )
        return torch.from_numpy(np.ascontiguousarray(array))

    def _shape(self, features: int) -> tuple[int, ...]:
        side = round(features**0.5)
        shape = tuple(self.in_shape or (1, side, side))
        if int(np.prod(shape)) != features:
            raise ArgumentError(
                expected=f"in_shape=(channels, height, width) of {features} values",
                got=repr(shape),
                remedy="For example in_shape=(3, 32, 32) for 3072.",
            )
        return shape
