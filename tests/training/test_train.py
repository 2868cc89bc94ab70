"""Training: what it reaches, what it repeats, what it leaves alone."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from suture import data
from suture.errors import ArgumentError, DataError, ModelError
from suture.rng import as_stream
from suture.training import History, TrainConfig, train
from suture.training.fitting import Fitting, evaluate, make_optimiser

from .conftest import Tiny, same_weights

QUICK = TrainConfig(epochs=3, batch_size=32)


def test_digits_are_learnt(digits):
    result = train(Tiny(), digits, config=TrainConfig(epochs=15))
    _, accuracy = evaluate(result.model, digits.test, 10, torch.device("cpu"))
    assert accuracy > 0.94
    assert [curve.epoch for curve in result.curves] == list(range(1, 16))
    assert result.curves[-1].train_loss < result.curves[0].train_loss / 3


def test_same_seed_same_weights_other_seed_other_weights(few):
    config = TrainConfig(epochs=2, batch_size=32, augment="crop-rotate")
    first, second = (train(Tiny(), few, config=config, seed=4).model for _ in range(2))
    assert same_weights(first, second)
    assert not same_weights(first, train(Tiny(), few, config=config, seed=5).model)


def test_the_given_model_and_the_global_random_state_are_left_alone(few, tiny):
    before, state = copy.deepcopy(tiny), torch.random.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    train(tiny, few, config=QUICK)
    assert same_weights(tiny, before)
    assert tiny.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert np.array_equal(numpy_state, np.random.get_state()[1])  # noqa: NPY002


def test_the_global_random_state_does_not_matter(few):
    torch.manual_seed(1)
    first = train(Tiny(), few, config=QUICK).model
    torch.manual_seed(2)
    assert same_weights(first, train(Tiny(), few, config=QUICK).model)


def test_frozen_parameters_stay(few):
    model = Tiny()
    model.hidden.weight.requires_grad_(False)
    trained = train(model, few, config=TrainConfig(epochs=2, weight_decay=0.1)).model
    assert torch.equal(trained.hidden.weight, model.hidden.weight)
    assert not torch.equal(trained.out.weight, model.out.weight)


def test_one_sgd_step_by_hand(few):
    """w ← w − lr · gradient, for one batch of everything, against plain autograd."""
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    config = TrainConfig(
        epochs=1, batch_size=1000, optimiser="sgd", lr=0.5, momentum=0.0, schedule="none"
    )
    batch = few.train.batch()
    F.cross_entropy(linear(batch.images), batch.labels).backward()
    expected = linear[1].weight - 0.5 * linear[1].weight.grad
    linear.zero_grad()
    trained = train(linear, few, config=config).model
    torch.testing.assert_close(trained[1].weight, expected, rtol=1e-5, atol=1e-6)


def test_every_image_is_seen_once_an_epoch(few):
    seen = []
    model = Tiny()
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    train(model, data_without_validation(few), config=TrainConfig(epochs=1, batch_size=50))
    rows = torch.cat(seen).flatten(1).tolist()
    everything = torch.cat([few.train.batch().images, few.validation.batch().images])
    assert sorted(rows) == sorted(everything.flatten(1).tolist())


def data_without_validation(few):
    return data.load(few.name, validation=0)


def test_a_lone_last_image_does_not_break_batch_normalisation(few):
    size = len(few.train) - 1
    result = train(Tiny(), few, config=TrainConfig(epochs=1, batch_size=size))
    assert len(result.curves) == 1


def test_each_epoch_has_its_own_order(few):
    fitting = Fitting(
        Tiny(), make_optimiser(Tiny(), QUICK), few.train, 10, QUICK,
        as_stream(0), torch.device("cpu"),
    )  # fmt: skip
    orders = [torch.cat(fitting._pieces(epoch)) for epoch in (1, 2, 1)]
    assert torch.equal(orders[0], orders[2])
    assert not torch.equal(orders[0], orders[1])


def test_best_epoch_is_returned_or_not(few):
    """A rate that grows useless late: the best epoch is not the last."""
    best = train(Tiny(), few, config=TrainConfig(epochs=6, lr=0.3, schedule="none"))
    accuracies = [curve.validation_accuracy for curve in best.curves]
    assert accuracies[best.best_epoch - 1] == max(accuracies)
    assert evaluate(best.model, few.validation, 10, torch.device("cpu"))[1] == max(accuracies)
    last = train(
        Tiny(), few, config=TrainConfig(epochs=6, lr=0.3, schedule="none", keep_best=False)
    )
    assert last.returned_epoch == 6
    found = evaluate(last.model, few.validation, 10, torch.device("cpu"))
    assert found[0] == pytest.approx(last.curves[-1].validation_loss)


def test_patience_ends_a_run_that_does_not_improve(few):
    """A learning rate too small to change an accuracy: one epoch sets the mark, two wait."""
    result = train(
        Tiny(),
        few,
        config=TrainConfig(
            epochs=30, lr=1e-9, momentum=0, patience=2, optimiser="sgd", keep_best=True
        ),
    )
    accuracies = [curve.validation_accuracy for curve in result.curves]
    assert len(accuracies) == accuracies.index(max(accuracies)) + 3


def test_without_validation_the_last_epoch_is_returned(few):
    result = train(Tiny(), data_without_validation(few), config=QUICK)
    assert (result.best_epoch, result.returned_epoch) == (3, 3)
    assert result.curves[0].validation_accuracy is None
    with pytest.raises(ArgumentError, match="early stopping"):
        train(Tiny(), data_without_validation(few), config=TrainConfig(patience=1))


@pytest.mark.parametrize("optimiser", ["adam", "sgd", "rmsprop"])
def test_weight_decay_shrinks_weights(few, optimiser):
    norms = [
        train(
            Tiny(), few, config=TrainConfig(epochs=5, optimiser=optimiser, weight_decay=decay)
        ).model.out.weight.norm()
        for decay in (0.0, 1.0)
    ]
    assert norms[1] < 0.98 * norms[0]


def test_the_schedule_reaches_the_optimiser(few, tmp_path):
    """After the rate fell to next to nothing, the weights stand still."""
    config = TrainConfig(epochs=3, schedule="step", step_at=(1,), step_factor=1e-12)
    train(Tiny(), few, config=config, history=tmp_path)
    history = History.open(tmp_path)
    first, last = (history.state(epoch)["hidden.weight"] for epoch in (1, 3))
    assert not torch.equal(first, Tiny().hidden.weight)
    torch.testing.assert_close(first, last, rtol=0, atol=1e-9)


def test_dropout_draws_anew_in_every_epoch(few):
    drawn = []

    class Sampling(Tiny):
        def forward(self, images):
            if self.training:
                drawn.append(float(torch.rand(1)))
            return super().forward(images)

    train(Sampling(), few, config=TrainConfig(epochs=3, batch_size=1000))
    assert len(set(drawn)) == 3


def test_label_smoothing_raises_the_floor_of_the_loss(few):
    """The floor is the target's entropy: with half of it spread over ten classes, 1.677."""
    floor = -(0.55 * math.log(0.55) + 9 * 0.05 * math.log(0.05))
    plain, smooth = (
        train(Tiny(), few, config=TrainConfig(lr=0.02, label_smoothing=s)).curves[-1].train_loss
        for s in (0.0, 0.5)
    )
    assert plain < 0.6
    assert floor < smooth < floor + 0.2


@pytest.mark.parametrize(("optimiser", "lr"), [("adam", 0.01), ("sgd", 0.05), ("rmsprop", 3e-3)])
def test_every_optimiser_learns(few, optimiser, lr):
    config = TrainConfig(batch_size=32, optimiser=optimiser, lr=lr)
    curves = train(Tiny(), few, config=config).curves
    assert curves[-1].train_accuracy > 0.8


def test_progress_counts_batches(few):
    heard = []
    train(Tiny(), few, config=QUICK, on_progress=heard.append)
    batches = -(-len(few.train) // 32)
    assert [(p.epoch, p.batch) for p in heard] == [
        (epoch, batch) for epoch in (1, 2, 3) for batch in range(1, batches + 1)
    ]
    assert heard[0].validation_accuracy is None
    assert heard[-1].validation_accuracy is not None
    assert all(p.loss > 0 and p.batches == batches and p.epochs == 3 for p in heard)


def test_nothing_is_printed(few, capfd):
    train(Tiny(), few, config=QUICK)
    assert capfd.readouterr() == ("", "")


def test_divergence_is_named_with_its_remedy(few):
    config = TrainConfig(epochs=5, optimiser="sgd", lr=1e30, schedule="none")
    with pytest.raises(ModelError, match=r"finite training loss.*Lower the learning rate"):
        train(
            nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)),
            few,
            config=config,
        )


def test_wrong_number_of_classes(few):
    with pytest.raises(ModelError, match="logits of shape"):
        train(Tiny(classes=7), few, config=QUICK)


def test_nothing_to_train(few):
    model = Tiny()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ModelError, match="requires a gradient"):
        train(model, few, config=QUICK)


def test_no_training_images(few):
    with pytest.raises(DataError, match="training images"):
        train(Tiny(), data.load(few.name, test_share=1.0), config=QUICK)


def test_resume_needs_a_folder(few):
    with pytest.raises(ArgumentError, match="history"):
        train(Tiny(), few, config=QUICK, resume=True)
