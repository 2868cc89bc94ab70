"""The estimator keeps scikit-learn's habits, and answers as the network inside does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from suture import DefEnSyn, PGDTraining, Square
from suture.ecosystem import RepairedClassifier
from suture.errors import ArgumentError, DataError, ModelError
from suture.testing.small import digits, trained
from suture.training import TrainConfig

SHORT = TrainConfig(epochs=3, patience=0)
REPAIR = PGDTraining(eps=0.05, epochs=2, step_images=64)


def arrays(n: int, split: str = "train") -> tuple[np.ndarray, np.ndarray]:
    batch = getattr(digits(), split).batch(n)
    return batch.images.flatten(1).numpy(), np.array([f"digit {y}" for y in batch.labels.tolist()])


@pytest.fixture(scope="module")
def fitted() -> RepairedClassifier:
    return RepairedClassifier("digits_cnn", REPAIR, training=SHORT).fit(*arrays(500))


def test_parameters_are_those_given_and_a_clone_has_them():
    made = RepairedClassifier("digits_cnn", REPAIR, training=SHORT, seed=3)
    again = clone(made)
    assert again is not made and again.get_params() == made.get_params()
    assert set(made.get_params()) == {"model", "repair", "in_shape", "training", "seed"}
    assert again.set_params(seed=4).seed == 4 and made.seed == 3
    assert not hasattr(clone(made.fit(*arrays(200))), "model_"), "what was learned is not cloned"


def test_it_learns_and_scores(fitted):
    images, labels = arrays(300, "test")
    assert fitted.score(images, labels) > 0.8
    assert fitted.predict(images[:5]).dtype == labels.dtype
    assert list(fitted.classes_) == sorted(set(labels)) and fitted.n_features_in_ == 64
    assert fitted.result_.status.name in ("TUNED", "UNCHANGED")


def test_probabilities_are_the_softmax_of_the_network(fitted):
    images, _ = arrays(20, "test")
    with torch.no_grad():
        logits = fitted.model_(torch.from_numpy(images).reshape(-1, 1, 8, 8))
    shares = fitted.predict_proba(images)
    assert np.allclose(shares, logits.double().softmax(1).numpy()) and shares.shape == (20, 10)
    assert np.allclose(shares.sum(1), 1)
    assert (fitted.classes_[shares.argmax(1)] == fitted.predict(images)).all()


def test_the_same_seed_gives_the_same_answers(fitted):
    again = clone(fitted).fit(*arrays(500))
    images, _ = arrays(50, "test")
    assert np.array_equal(again.predict_proba(images), fitted.predict_proba(images))


def test_it_stands_in_a_pipeline_and_in_cross_validation():
    images, labels = arrays(240)
    pipe = make_pipeline(MinMaxScaler(clip=True), RepairedClassifier(training=SHORT))
    scores = cross_val_score(pipe, 16 * images, labels, cv=2)
    assert len(scores) == 2 and scores.min() > 0.3  # a tenth by chance


def test_a_trained_network_is_repaired_and_not_changed():
    images, labels = arrays(300)
    before = {k: v.clone() for k, v in trained().state_dict().items()}
    made = RepairedClassifier(trained(), REPAIR).fit(images.reshape(-1, 1, 8, 8), labels)
    assert all(torch.equal(v, before[k]) for k, v in trained().state_dict().items())
    assert made.model_ is not trained() and made.score(images, labels) > 0.9


def test_a_randomised_repair_answers_the_same_way_twice():
    programs = DefEnSyn(
        attack=Square(queries=20), samples=50, k=3, programs_per_length=500, max_length=1
    )
    made = RepairedClassifier(trained(), programs).fit(*arrays(200))
    images, _ = arrays(40, "test")
    first = made.predict_proba(images)
    assert np.array_equal(first, made.predict_proba(images))
    alone = made.predict_proba(images[10:20])
    assert np.allclose(first[10:20], alone, rtol=1e-4), "whatever stands beside"


@pytest.mark.parametrize(
    ("X", "kind", "word"),
    [
        (np.full((4, 64), 2.0), DataError, "from 2 to 2"),
        (np.full((4, 63), 0.5), ArgumentError, "in_shape"),
        (np.zeros((4, 8, 8)), DataError, "shape"),
        (np.full((4, 64), np.nan), DataError, "values in"),
    ],
)
def test_wrong_arrays_are_refused(X, kind, word):
    with pytest.raises(kind, match=word):
        RepairedClassifier().fit(X, [0, 1, 0, 1])


def test_one_class_and_a_network_of_other_classes_are_refused():
    images, labels = arrays(40)
    with pytest.raises(DataError, match="two classes"):
        RepairedClassifier().fit(images, ["a"] * 40)
    few = np.isin(labels, ["digit 7", "digit 9"])
    with pytest.raises(ModelError, match="2 classes"):
        RepairedClassifier(trained()).fit(images[few], labels[few])


def test_nothing_is_answered_before_fit():
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        RepairedClassifier().predict(arrays(2)[0])
