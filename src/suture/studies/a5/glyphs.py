"""A5 for letters: Table 9, objects that are changed before a camera sees them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import ClassVar

from suture import models
from suture.engine.threads import torch_threads
from suture.repairs import A5Physical
from suture.repairs.a5 import Camera, Defence, acquisitions, glyphs
from suture.repairs.certified_training import Ramp, Schedule
from suture.rng import Stream
from suture.studies.a5 import columns, letters, measuring, training
from suture.studies.base import STUDIES, Cell, Row, Study
from suture.studies.networks import here
from suture.studies.paper import printed
from suture.types import Batch

RECIPES = ("vanilla", "CROWN-IBP", "P", "PC", "PRC")
_BEFORE = {"CROWN-IBP": "vanilla", "P": "CROWN-IBP", "PC": "vanilla", "PRC": "vanilla"}
"""Whose reader each recipe starts from; the characters start as they are."""


@STUDIES.add("a5-glyphs")
@dataclass(frozen=True, kw_only=True)
class A5Glyphs(Study):
    """A vanilla reader; from it CROWN-IBP training, PC and PRC, trained alike; P after the first.

    The defaults fit two cores: 32 × 32 pixels, the small network, intervals alone while the radius
    grows; ``full`` takes 128 × 128 pixels, the paper's network and schedule.

    Attributes:
        side: of the pictures, in pixels; the camera's strengths scale with it.
        font: of the 62 characters.
        channels: of the pictures; with three, as the authors' letter network reads them, all are
            equal until the attacker comes.
        classifier: zoo name.
        robust_body: the robustifier of PRC.
        eps: ε_A, of the attack on pictures.
        defence: ε_D, of the characters' change.
        recipes: what is measured.
        draws: pictures of each character an epoch.
        judged: pictures of each character by which epochs are judged.
        epochs: of vanilla training; of CROWN-IBP training, PC and PRC, which all start from it
            and are trained alike; of P, for the reader of CROWN-IBP training.
        ramp: epochs during which the radius grows, where the reader learns.
        lr: learning rate; falls to a fifth at 75 % and 90 % of the epochs.
        pictures: of each character, by which the result is measured.
        attacked: pictures that meet the attacker and the slower bounds.
    """

    title: ClassVar[str] = "A5 on letters before a camera"
    on_device: ClassVar[bool] = True
    paper: ClassVar[str] = f"{printed('a5').citation}, Table 9."
    side: int = 32
    font: str = "DejaVuSansMono"
    channels: int = 1
    classifier: str = "a5_small"
    robust_body: str = "small"
    eps: float = 0.1
    defence: float = 0.5
    recipes: tuple[str, ...] = RECIPES
    draws: int = 100
    judged: int = 10
    epochs: tuple[int, ...] = (20, 80, 20)
    ramp: int = 40
    lr: float = 1e-3
    pictures: int = 100
    attacked: int = 62

    def cells(self) -> list[Cell]:
        """One a recipe; what a recipe starts from is made once a process."""
        return [Cell(recipe, partial(_measure, self, recipe)) for recipe in self.recipes]

    def schedule(self, recipe: str) -> Schedule:
        """How a recipe is trained."""
        grows = recipe in ("CROWN-IBP", "PC", "PRC")
        if self.full:
            return Schedule(ramp=Ramp() if grows else Ramp(start=1, length=0))
        epochs = self.epochs[1 if grows else 0 if recipe == "vanilla" else 2]
        return Schedule(
            epochs=epochs,
            batch_size=62,
            optimiser="adam",
            lr=self.lr,
            step_at=(max(1, round(0.75 * epochs)), max(1, round(0.9 * epochs))),
            step_factor=0.2,
            ramp=Ramp(start=1, length=self.ramp if grows else 0),
            crown=False,
        )

    @property
    def objects(self) -> Batch:
        """The characters as they are."""
        drawn = glyphs(128 if self.full else self.side, self.font)
        return here(Batch(drawn.images.expand(-1, self.depth, -1, -1), drawn.labels))

    @property
    def depth(self) -> int:
        """Channels; with ``full`` the three of the authors' network."""
        return 3 if self.full else self.channels

    @property
    def camera(self) -> Camera:
        """The authors' at 128 pixels; shift and blur scale with the side."""
        if self.full:
            return Camera()
        share = self.side / 128
        return Camera(shift=5 * share, blur=(0.01, max(0.02, share)), kernel=3)

    def method(self, recipe: str) -> A5Physical:
        """The repair that makes it."""
        plain = recipe in ("vanilla", "CROWN-IBP")
        return A5Physical(
            recipe="C" if plain else recipe,  # type: ignore[arg-type]
            eps=0.0 if recipe == "vanilla" else self.eps,
            defence=Defence(self.defence),
            camera=self.camera,
            body="mnist" if self.full else self.robust_body,  # type: ignore[arg-type]
            schedule=self.schedule(recipe),
            draws=self.draws,
            judged=self.judged,
            certificates=0,
            grey=self.depth > 1,
        )

    tables = staticmethod(columns.letter_tables)
    figures = staticmethod(letters.drawings)
    notes = staticmethod(columns.letter_notes)


@cache
def made(study: A5Glyphs, recipe: str) -> training.Made:
    """A recipe's result, trained once a process."""
    if recipe in _BEFORE:
        model = made(study, _BEFORE[recipe]).model
    else:
        model = models.build(
            "a5_font" if study.full else study.classifier,
            in_shape=study.objects.shape,
            classes=62,
            mean=(0.5,),
            std=(0.5,),
            seed=0,
        )
    return training.made(study.method(recipe), here(model), study.objects)


def _measure(study: A5Glyphs, recipe: str, stream: Stream) -> list[Row]:
    with torch_threads(1):  # networks of this size gain nothing from several
        return [_row(study, recipe, stream)]


def _row(study: A5Glyphs, recipe: str, stream: Stream) -> Row:
    own = made(study, recipe)
    nominal, objects = study.objects, own.images["robustified"]
    # The same camera draws for every recipe, none of them seen in training.
    draws = Stream(0).child("pictures that measure")
    seen = acquisitions(objects, study.camera, study.pictures, draws, grey=study.depth > 1)
    reader, stored = measuring.as_read(own.model, Batch(*seen))
    change = (objects.images - nominal.images).abs()
    facts: Row = {
        "recipe": recipe,
        "eps": study.eps,
        "eps_d": study.defence,
        "full": study.full,
        "method": own.method,
        "train_seconds": round(own.seconds, 1),
        "curves": measuring.curves(own.trace),
        "moved": float(change.max()),
        "mean_moved": float(change.mean()),
        "sheet": {
            "shape": list(nominal.shape),
            "nominal": measuring.packed(nominal.images),
            "robustified": measuring.packed(objects.images),
            "seen": measuring.packed(stored.images[: len(nominal)]),
        },
    }
    facts |= measuring.certified(reader, stored, study.eps, study.attacked)
    return facts | measuring.attacked(reader, stored[: study.attacked], study.eps, stream)
