"""What A5 trains: a robustifier before a classifier, alone or together with it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from suture.attacks import PGD
from suture.models import frozen
from suture.repairs.a5.camera import Camera, acquired, in_8_bits, keys_of
from suture.repairs.a5.defence import Defence
from suture.repairs.a5.robustifier import RobustifiedClassifier, Robustifier
from suture.repairs.certified_training.bounded import BoundedTrainee
from suture.repairs.certified_training.loss import Judged, certified_loss, interval_margins
from suture.repairs.certified_training.trainee import Sample
from suture.rng import Stream
from suture.types import Batch


class RobustifiedTrainee(BoundedTrainee):
    """``E(θ) = mean over x of CE_worst(x + δ_D(R(x)))`` (A5, Eq. 7 and 9).

    Args:
        model: robustifier and classifier, trained in place.
        in_shape: ``(c, h, w)``.
        eps: ε_A^R or ε_A^C: the attack that robustified images must withstand, after R.
        together: whether the classifier learns too (RC), or stays as it is (R).
        fusion: as for ``certified_loss``.
        before: also withstand this attacker, who changes what R reads; ``None`` for none.
    """

    def __init__(
        self,
        model: RobustifiedClassifier,
        in_shape: tuple[int, ...],
        eps: float,
        *,
        together: bool,
        fusion: bool | None = None,
        before: PGD | None = None,
    ) -> None:
        super().__init__(model, in_shape)
        self.eps, self.together, self.fusion, self.before = eps, together, fusion, before

    def bounded(self) -> nn.Module:
        """The classifier behind the robustifier."""
        return self.module.classifier  # type: ignore[no-any-return]

    @property
    def robustifier(self) -> Robustifier:
        """What moves the images."""
        return self.module.robustifier  # type: ignore[no-any-return]

    def parameters(self) -> list[nn.Parameter]:
        """The robustifier's, and the classifier's where both learn."""
        source = self.module if self.together else self.robustifier
        return [p for p in source.parameters() if p.requires_grad]

    def loss(self, sample: Sample, share: float, crown: float, stream: Stream) -> Judged:
        """``certified_loss`` of the robustified images, not rounded."""
        images = self._met(sample, stream)
        moved, eps = self.robustifier.moved(images), share * self.eps
        with frozen(None if self.together else self.module.classifier):
            return certified_loss(
                self.network,
                moved,
                sample.labels,
                eps,
                crown,
                natural=1.0 - share,
                fusion=self.fusion,
            )

    def _met(self, sample: Sample, stream: Stream) -> Tensor:
        """What R reads: attacked through R and C, where an attacker comes before it."""
        if self.before is None:
            return sample.images
        batch = Batch(sample.images.detach(), sample.labels)
        return self.before(self.module, batch, generator=stream.child("before")).images

    def judge(self, sample: Sample, stream: Stream) -> tuple[Tensor, Tensor]:
        """Of the images that would be stored: rounded to 8 bits, attacked before where one is."""
        stored = self.robustifier(self._met(sample, stream))
        right = self.network(stored).argmax(1) == sample.labels
        held = interval_margins(self.network, stored, sample.labels, self.eps) > 0
        return right, right & held


class Scene(nn.Module):
    """Objects, robustified by z, before a robustifier (or none) and a classifier.

    Args:
        z: ``(prototypes, c, h, w)``, the free vectors of the objects' changes.
        robustifier: ``None`` without one.
        classifier: what reads what the camera gave.
    """

    def __init__(self, z: Tensor, robustifier: Robustifier | None, classifier: nn.Module) -> None:
        super().__init__()
        self.z = nn.Parameter(z)
        self.robustifier, self.classifier = robustifier, classifier


class SceneTrainee(BoundedTrainee):
    """``E = mean over acquisitions of CE_worst(A(w + δ_D(z)))`` (A5, Eq. 10 and 11).

    Training and validation images are the prototypes, over and over: position p shows prototype
    ``p mod prototypes``, each time acquired anew.

    Args:
        scene: trained in place.
        prototypes: the objects as they were, with their classes.
        defence: ε_D and its norm.
        camera: the acquisition A.
        eps: the attack on acquired images.
        learns: names of the parts of ``scene`` that are trained.
        gain: the change is ``δ_D(gain · z)``.
        fusion: as for ``certified_loss``.
        grey: whether objects are grey and stay so: z has one channel for all.
    """

    def __init__(
        self,
        scene: Scene,
        prototypes: Batch,
        defence: Defence,
        camera: Camera,
        eps: float,
        learns: tuple[str, ...],
        gain: float,
        fusion: bool | None = None,
        *,
        grey: bool = False,
    ) -> None:
        super().__init__(scene, prototypes.shape)
        self.gain, self.fusion, self.grey = gain, fusion, grey
        self.prototypes, self.defence = prototypes, defence
        self.camera, self.eps, self.learns = camera, eps, learns

    def bounded(self) -> nn.Module:
        """The classifier behind the camera."""
        return self.module.classifier  # type: ignore[no-any-return]

    def parameters(self) -> list[nn.Parameter]:
        """Those of the parts that learn."""
        named = self.module.named_parameters()
        return [p for name, p in named if name.split(".")[0] in self.learns and p.requires_grad]

    def loss(self, sample: Sample, share: float, crown: float, stream: Stream) -> Judged:
        """Of one acquisition of each object, not rounded."""
        which = sample.positions % len(self.prototypes)
        objects = self.defence.reached(
            self.prototypes.images[which], self.gain * self.module.z[which]
        )
        seen = acquired(objects, self.camera, _keys(sample, stream), grey=self.grey)
        if self.module.robustifier is not None:
            seen = self.module.robustifier.moved(seen)
        with frozen(None if "classifier" in self.learns else self.module.classifier):
            return certified_loss(
                self.network,
                seen,
                sample.labels,
                share * self.eps,
                crown,
                natural=1.0 - share,
                fusion=self.fusion,
            )

    def judge(self, sample: Sample, stream: Stream) -> tuple[Tensor, Tensor]:
        """Of acquisitions as they would be stored."""
        which = sample.positions % len(self.prototypes)
        seen = self._acquired(which, _keys(sample, stream))
        right = self.network(seen).argmax(1) == sample.labels
        held = interval_margins(self.network, seen, sample.labels, self.eps) > 0
        return right, right & held

    @torch.no_grad()
    def objects(self) -> Tensor:
        """The prototypes as they would be printed: changed, rounded to 8 bits."""
        images = self.prototypes.images
        return self.defence.stored(images, self.defence.apply(images, self.gain * self.module.z))

    @torch.no_grad()
    def acquired(self, which: Tensor, stream: Stream) -> Tensor:
        """One picture of each of these objects, with 8 bits, robustified where there is an R."""
        return self._acquired(which, keys_of(len(which), stream))

    @torch.no_grad()
    def _acquired(self, which: Tensor, keys: Tensor) -> Tensor:
        seen = in_8_bits(acquired(self.objects()[which], self.camera, keys, grey=self.grey))
        return seen if self.module.robustifier is None else self.module.robustifier(seen)


def _keys(sample: Sample, stream: Stream) -> Tensor:
    """A key for each picture: that of its row in the batch that all processes share."""
    if sample.rows is None:
        return keys_of(len(sample.positions), stream)
    return keys_of(int(sample.rows.max()) + 1, stream)[sample.rows]
