"""A5 on MNIST, Fashion-MNIST and CIFAR-10: Tables 2 to 8, three threat models kept apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from suture.engine.threads import torch_threads
from suture.repairs.a5.robustifier import Body
from suture.repairs.certified_training import Ramp, Schedule
from suture.rng import Stream
from suture.studies.a5 import columns, measuring
from suture.studies.a5.figures import drawings
from suture.studies.a5.radii import CIFAR, MNIST, Radii, RadiiGrid
from suture.studies.base import STUDIES, Cell, Row, Study
from suture.studies.paper import printed
from suture.training.config import Augment


@STUDIES.add("a5-mnist")
@dataclass(frozen=True, kw_only=True)
class A5Mnist(Study):
    """CROWN-IBP training, then O, R and RC, for every ε_A and ε_D; ε_A^C = ε_A^R = ε_A.

    The defaults fit two cores; ``full`` takes the paper's networks, schedules and images, and all
    cells of its tables, ε_A^C and ε_A^R apart.

    Attributes:
        data: data set.
        classifier: zoo name.
        robust_body: the robustifier.
        radii: ε_A, pixel values in [0, 1].
        defences: ε_D.
        train: training images, a tenth of which chooses the epoch.
        test: test images.
        attacked: of these, the first ones, meet the attacker and the slower bounds.
        attacked_before: of these, the first ones, meet the attacker before R; ``None`` for all.
        check_bounds: whether certified images meet the attacker after R too. He cannot turn them:
            without them he is as strong, and soon done; with them he checks the bounds.
        epochs: of CROWN-IBP training, of R, of RC.
        ramp: epochs during which the radius grows.
        lr: learning rate of CROWN-IBP training; falls to a fifth at 70 % and 90 % of the epochs.
        lr_moving: of R.
        lr_together: of RC, which begins with a finished R and C.
        augment_together: what RC's images are altered by, as in ``Schedule``.
        offline_steps: of A5/O.
        training: seed of all weights and of the order of the images.
    """

    title: ClassVar[str] = "A5 on MNIST"
    on_device: ClassVar[bool] = True
    paper: ClassVar[str] = f"{printed('a5').citation}."
    augment: ClassVar[Augment] = "crop-rotate"
    tables_of: ClassVar[RadiiGrid | None] = MNIST
    stretch: ClassVar[float] = 1.0
    full_body: ClassVar[Body] = "mnist"
    data: str = "mnist"
    classifier: str = "a5_small"
    robust_body: str = "small"
    radii: tuple[float, ...] = (0.3, 0.1)
    defences: tuple[float, ...] = (0.3, 0.1)
    train: int = 15_000
    test: int = 10_000
    attacked: int = 50
    attacked_before: int | None = None
    check_bounds: bool = True
    epochs: tuple[int, ...] = (36, 12, 16)
    ramp: int = 4
    lr: float = 2e-3
    lr_moving: float = 1e-3
    lr_together: float = 1e-3
    augment_together: Augment = "none"
    offline_steps: int = 50
    training: int = 0

    def cells(self) -> list[Cell]:
        """One cell a radius, recipe and ε_D; networks that several need are made once a process."""
        grid = RadiiGrid(self.radii, self.defences)
        if self.full and self.tables_of is not None:
            grid = self.tables_of
        found = {radii.key(recipe): (recipe, radii) for recipe, radii in grid.cells()}
        return [Cell(key, partial(_measure, self, *which)) for key, which in found.items()]

    @property
    def trained_on(self) -> int | None:
        """Training images; with ``full`` all."""
        return None if self.full else self.train

    @property
    def met(self) -> int:
        """Test images that meet the attacker; with ``full`` all."""
        return self.test if self.full else self.attacked

    @property
    def met_before(self) -> int:
        """Test images that meet the attacker before R."""
        return self.met if self.attacked_before is None else min(self.met, self.attacked_before)

    def trained_for(self, eps: float) -> float:
        """The radius that C is trained at, where it is to withstand ε_A^C = eps."""
        return self.stretch * eps if self.full else eps

    @property
    def network(self) -> str:
        """The classifier's zoo name."""
        return "a5_classifier" if self.full else self.classifier

    @property
    def body(self) -> Body:
        """The robustifier's name."""
        return self.full_body if self.full else self.robust_body  # type: ignore[return-value]

    @property
    def steps(self) -> int:
        """Of A5/O."""
        return 200 if self.full else self.offline_steps

    def schedule(self, recipe: str) -> Schedule:
        """How a recipe is trained."""
        first, both = recipe == "CROWN-IBP", recipe == "RC"
        if self.full:
            # Only RC's classifier overfits what R shows it; the paper augments there.
            ramp = Ramp() if first else Ramp(start=1, length=0)
            return Schedule(ramp=ramp, augment=self.augment if both else "none")
        which = ("CROWN-IBP", "R", "RC").index(recipe)
        epochs = self.epochs[which]
        return Schedule(
            epochs=epochs,
            optimiser="adam",
            lr=(self.lr, self.lr_moving, self.lr_together)[which],
            step_at=(max(1, round(0.7 * epochs)), max(1, round(0.9 * epochs))),
            step_factor=0.2,
            ramp=Ramp(start=2, length=self.ramp) if first else Ramp(start=1, length=0),
            augment=self.augment_together if both else "none",
        )

    tables = columns.tables
    figures = staticmethod(drawings)
    notes = staticmethod(columns.notes)


@STUDIES.add("a5-fashion")
@dataclass(frozen=True, kw_only=True)
class A5Fashion(A5Mnist):
    """The same on Fashion-MNIST, which the paper reports in its supplement only."""

    title: ClassVar[str] = "A5 on Fashion-MNIST"
    augment: ClassVar[Augment] = "flip-crop"
    tables_of: ClassVar[RadiiGrid | None] = None
    data: str = "fashion-mnist"
    radii: tuple[float, ...] = (0.1,)
    defences: tuple[float, ...] = (0.1,)
    epochs: tuple[int, ...] = (20, 10, 12)


@STUDIES.add("a5-cifar")
@dataclass(frozen=True, kw_only=True)
class A5Cifar(A5Mnist):
    """The same on CIFAR-10 at ε_A = 8/255 (Tables 6 to 8); the paper's C is trained at 8.8/255."""

    title: ClassVar[str] = "A5 on CIFAR-10"
    augment: ClassVar[Augment] = "flip-crop"
    tables_of: ClassVar[RadiiGrid | None] = CIFAR
    stretch: ClassVar[float] = 1.1
    full_body: ClassVar[Body] = "cifar"
    data: str = "cifar10"
    radii: tuple[float, ...] = (8 / 255,)
    defences: tuple[float, ...] = (16 / 255,)
    epochs: tuple[int, ...] = (16, 8, 10)


@STUDIES.add("a5-tiny-imagenet")
@dataclass(frozen=True, kw_only=True)
class A5TinyImageNet(A5Mnist):
    """The same on TinyImageNet, which the paper reports in its supplement only.

    Its network there is not published: ``full`` takes the one of the other tables on 64 × 64
    pixels and 200 classes, and ε_A of 1/255 is ours.
    """

    title: ClassVar[str] = "A5 on TinyImageNet"
    augment: ClassVar[Augment] = "flip-crop"
    tables_of: ClassVar[RadiiGrid | None] = None
    full_body: ClassVar[Body] = "cifar"
    data: str = "tiny-imagenet"
    radii: tuple[float, ...] = (1 / 255,)
    defences: tuple[float, ...] = (2 / 255,)
    epochs: tuple[int, ...] = (16, 8, 10)


def _measure(study: A5Mnist, recipe: str, radii: Radii, stream: Stream) -> list[Row]:
    if study.full:
        return [measuring.row(study, recipe, radii, stream)]
    with torch_threads(1):  # networks of this size gain nothing from several
        return [measuring.row(study, recipe, radii, stream)]
