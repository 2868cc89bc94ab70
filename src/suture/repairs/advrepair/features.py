"""Feature space: boxes around sampled features (paper, section 3.4). They prove nothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from suture.repairs.advrepair.regions import Regions
from suture.rng import Stream, bits, uniform
from suture.types import Box


def sampled_boxes(
    encoder: nn.Module, regions: Regions, samples: int, stream: Stream, batch_size: int
) -> Box:
    """The tightest box of the features of each region's samples: ``(m, f)``.

    Inputs are drawn uniformly from the region's box; its centre is always among them. Nothing
    says that the features of all inputs lie inside: this is no abstraction, and no proof.
    """
    lows, highs = [], []
    for index in range(len(regions)):
        inputs = _draws(regions, index, samples, stream.child(index))
        with torch.no_grad():
            features = torch.cat([encoder(p).flatten(1) for p in inputs.split(batch_size)])
        lows.append(features.amin(0))
        highs.append(features.amax(0))
    return Box(torch.stack(lows), torch.stack(highs))


def _draws(regions: Regions, index: int, samples: int, stream: Stream) -> Tensor:
    low, high = regions.box.lower[index], regions.box.upper[index]
    keys = bits(torch.arange(max(1, samples) - 1) ^ stream.key >> 1, 0)
    share = uniform(bits(keys[:, None], torch.arange(low.numel())[None]))
    drawn = low + share.view(-1, *low.shape).to(low) * (high - low)
    return torch.cat([regions.centre[index][None], drawn])
