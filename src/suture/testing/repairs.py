"""What every repair must do, whatever it is: a suite for pytest."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
import torch

import suture
from suture import models
from suture.engine import Inline, Processes, Recorded, Run
from suture.errors import DataError, ModelError
from suture.evaluate.health import signs
from suture.repairs import Repair, RepairResult, Status, repair
from suture.rng import bits
from suture.testing.names import names_of
from suture.testing.small import accuracy, digits, trained
from suture.types import Batch, described, is_randomised, undefended_of

_done: dict[Repair, RepairResult] = {}
_reloaded: dict[Repair, torch.nn.Module] = {}


def training() -> Batch:
    return digits().train.batch(400)


def repaired(method: Repair) -> RepairResult:
    """The result of one run with seed 3, shared by the tests."""
    if method not in _done:
        _done[method] = repair(trained(), training(), method, generator=3)
    return _done[method]


def logits(model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Logits with every draw decided by the row number."""
    noise = torch.arange(len(images)) * 987_654_321
    with torch.no_grad():
        return model(images, noise=noise) if suture.types.is_randomised(model) else model(images)


class Finished(Recorded):
    """An engine of a run in which everything that is kept must be there."""

    def _fresh(self, stage, fn, calls, work, pack):
        assert not calls, f"{stage}: {len(calls)} items ran again"
        return super()._fresh(stage, fn, calls, work, pack)


def _programs(model: torch.nn.Module) -> set[str]:
    """Of DefEnSyn's results; a search that compares counts may choose others."""
    found: Any = getattr(model, "programs", ())
    return set(map(str, found))


class RepairContract:
    """The contract of repairs; name a subclass ``Test...`` and give it ``repairs``.

    Attributes:
        repairs: instances, small enough to run a few times on 400 digits; each meets every test.
        seedless: classes that draw nothing at random: every seed gives the same result.
    """

    repairs: ClassVar[Sequence[Repair]] = ()
    seedless: ClassVar[Sequence[type[Repair]]] = ()

    def pytest_generate_tests(self, metafunc: Any) -> None:
        """Every test with each repair."""
        if "method" in metafunc.fixturenames:
            names = [f"{type(m).__name__}-{i}" for i, m in enumerate(self.repairs)]
            metafunc.parametrize("method", self.repairs, ids=names)

    def test_the_given_model_is_not_changed(self, method: Repair) -> None:
        before = models.fingerprint(trained())
        modes = [m.training for m in trained().modules()]
        repaired(method)
        assert models.fingerprint(trained()) == before
        assert modes == [m.training for m in trained().modules()]

    def test_the_result_classifies(self, method: Repair) -> None:
        result = repaired(method)
        assert isinstance(result.status, Status)
        assert accuracy(result.model, digits().test) > 0.8
        assert accuracy(trained(), digits().test) > 0.95
        json.dumps(result.trace, allow_nan=False)

    def test_the_seed_decides(self, method: Repair) -> None:
        images = digits().test.batch(50).images
        again = repair(trained(), training(), method, generator=3).model
        other = repair(trained(), training(), method, generator=4).model
        assert torch.equal(logits(repaired(method).model, images), logits(again, images))
        same = torch.equal(logits(again, images), logits(other, images))
        assert same == (type(method) in self.seedless)

    def test_leaves_the_global_random_state_alone(self, method: Repair) -> None:
        before = torch.get_rng_state()
        repair(trained(), training(), method, generator=3)
        assert torch.equal(before, torch.get_rng_state())

    @pytest.mark.parametrize("batch_size", [7, 1000])
    def test_batch_size_is_a_matter_of_memory(self, method: Repair, batch_size: int) -> None:
        images = digits().test.batch(50).images
        again = repair(trained(), training(), method, generator=3, batch_size=batch_size).model
        assert logits(again, images).shape == (50, 10)
        programs, others = (_programs(m) for m in (again, repaired(method).model))
        if not programs:
            # Sums over a batch of another size may round otherwise, as may the margins behind them.
            torch.testing.assert_close(
                logits(again, images), logits(repaired(method).model, images), rtol=1e-3, atol=1e-3
            )
            return
        # The forward of a network may differ in its last bits with the batch, and programs with it.
        assert len(programs & others) >= 0.8 * len(programs)

    @pytest.mark.slow
    def test_engines_agree(self, method: Repair) -> None:
        images = digits().test.batch(50).images
        found = []
        with Inline() as inline, Processes(2) as processes:
            for engine in (inline, processes):
                model = repair(trained(), training(), method, generator=3, engine=engine).model
                found.append(logits(model, images))
        assert torch.equal(found[0], found[1])

    def test_what_a_run_keeps_is_not_done_again(self, method: Repair, tmp_path: Any) -> None:
        run = Run.create(tmp_path, kind="repair", title="", command="", seed=3, options={})
        with run:
            first = repair(
                trained(), training(), method, generator=3, engine=Recorded(Inline(), run.ledger)
            )
            again = repair(
                trained(), training(), method, generator=3, engine=Finished(Inline(), run.ledger)
            )
        assert models.fingerprint(first.model) == models.fingerprint(again.model)

    def test_the_result_can_be_saved_and_opened(self, method: Repair, tmp_path: Any) -> None:
        model = repaired(method).model
        models.save(model, tmp_path / "bundle")
        opened = suture.load(tmp_path / "bundle")
        images = digits().test.batch(50).images
        assert torch.equal(logits(model, images), logits(opened, images))
        assert models.fingerprint(model) == models.fingerprint(opened)

    def test_the_result_works_wherever_the_original_did(self, method: Repair) -> None:
        model = copy.deepcopy(repaired(method).model)
        assert not model.training
        assert model.train().training and not model.eval().training
        state = model.state_dict()
        buffer = io.BytesIO()
        torch.save(state, buffer)
        model.load_state_dict(state)
        assert model.double()(torch.rand(2, 1, 8, 8).double()).dtype == torch.float64

    def test_the_result_can_be_exported(self, method: Repair) -> None:
        model, images = repaired(method).model, digits().test.batch(6).images
        batch = torch.export.Dim("batch", min=2, max=64)
        program = torch.export.export(model, (images[:3],), dynamic_shapes=({0: batch}, None)[:1])
        outputs = program.module()(images)
        assert outputs.shape == (6, 10) and torch.isfinite(outputs).all()

    def test_unusable_input_is_refused(self, method: Repair) -> None:
        batch = training()
        with pytest.raises(DataError, match="labels from 0 to 9"):
            repair(trained(), Batch(batch.images, batch.labels + 5), method)
        broken = copy.deepcopy(trained())
        with torch.no_grad():
            next(iter(broken.parameters())).fill_(float("nan"))
        with pytest.raises(ModelError, match="finite logits"):
            repair(broken, batch, method)

    def test_the_repr_is_the_method(self, method: Repair) -> None:
        assert eval(repr(method), names_of(method)) == method

    @pytest.fixture(params=["made", "reloaded"])
    def told(self, request: Any, method: Repair, tmp_path_factory: Any) -> torch.nn.Module:
        """What a repair made, as it is and out of its bundle: both tell the same."""
        if request.param == "made":
            return repaired(method).model
        if method not in _reloaded:
            folder = tmp_path_factory.mktemp("bundle") / "bundle"
            models.save(repaired(method).model, folder)
            _reloaded[method] = suture.load(folder)
        return _reloaded[method]

    def test_it_tells_the_classifier_that_it_was_made_from(
        self, method: Repair, told: torch.nn.Module
    ) -> None:
        images = digits().test.batch(50).images
        before = undefended_of(told)
        assert before is not None
        torch.testing.assert_close(logits(before, images), logits(trained(), images))

    def test_it_tells_what_it_draws_from(self, method: Repair, told: torch.nn.Module) -> None:
        """Probabilities add up, ``each`` is all answers, and a forward is one of them."""
        images, about = digits().test.batch(20).images, described(told)
        members = about.support()
        assert about.odds() == tuple(odds for odds, _ in members)
        if not about.randomised:
            assert members == ()
            return
        if not members:  # draws from a continuum: the noise alone decides
            noise = bits(torch.arange(20), 5)
            with torch.no_grad():
                once, order = about(images, noise=noise), torch.arange(19, -1, -1)
                again = about(images[order], noise=noise[order])[order]
                other = about(images, noise=bits(torch.arange(20), 6))
            torch.testing.assert_close(once, again, rtol=1e-4, atol=1e-4)
            assert not torch.equal(once, other)
            return
        assert len(members) > 1 and sum(about.odds()) == pytest.approx(1.0, abs=1e-6)
        assert all(odds > 0 for odds in about.odds())
        with torch.no_grad():
            each = about.each(images)
            alone = torch.stack([member(images) for _, member in members])
        assert not any(is_randomised(member) for _, member in members)
        torch.testing.assert_close(each, alone, rtol=1e-4, atol=1e-4)
        away = (each - logits(told, images)).abs().amax(2).amin(0)
        assert float(away.max()) < 1e-3, "every draw is one of the classifiers"

    def test_its_average_is_the_mean_of_its_answers(
        self, method: Repair, told: torch.nn.Module
    ) -> None:
        images, about = digits().test.batch(20).images, described(told)
        if not about.randomised:
            return
        noise = bits(torch.arange(20), torch.arange(7)[:, None])
        with torch.no_grad():
            mean = torch.stack([about(images, noise=draw) for draw in noise]).mean(0)
            torch.testing.assert_close(about.average(images, noise), mean, rtol=1e-4, atol=1e-4)

    def test_its_stand_ins_have_gradients(self, method: Repair, told: torch.nn.Module) -> None:
        images = digits().test.batch(20).images
        for stand_in in described(told).surrogates().values():
            given = images.clone().requires_grad_(True)
            answers = stand_in(given)
            assert answers.shape == (20, 10) and torch.isfinite(answers).all()
            (gradient,) = torch.autograd.grad(answers.square().sum(), given)
            assert torch.isfinite(gradient).all() and (gradient.flatten(1).abs().amax(1) > 0).all()

    def test_what_moves_images_and_what_classifies_them_compose(
        self, method: Repair, told: torch.nn.Module
    ) -> None:
        parts, images = described(told).preemptive(), digits().test.batch(20).images
        if parts is not None:
            with torch.no_grad():
                assert torch.equal(parts[1](parts[0](images)), told(images))

    def test_it_shows_no_sign_of_masking(self, method: Repair, told: torch.nn.Module) -> None:
        """Beside the draw that it declares."""
        found = signs(told, digits().test.batch(40), 0.1)
        declared = [sign for sign in found if sign.startswith("randomness: every input draws anew")]
        assert found == declared and len(declared) == is_randomised(told)
