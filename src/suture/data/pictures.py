"""Pictures of a batch, for `suture data show` and for reports."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from suture.errors import ArgumentError
from suture.storage import write_bytes
from suture.types import Batch

TILE = 64
"""Smaller images are enlarged by a whole factor until their longer side has this many pixels."""
_GAP, _LINE, _PAPER, _INK = 4, 14, (255, 255, 255), (0, 0, 0)


def grid(batch: Batch, *, columns: int = 10, captions: Sequence[str] | None = None) -> Image.Image:
    """The images of a batch in rows, each with a caption below.

    Args:
        batch: 1 or 3 channels; tiny images are enlarged without smoothing.
        columns: images in a row.
        captions: one per image; ``None`` for the labels; empty for none.

    Raises:
        ArgumentError: for no columns, a wrong number of captions, or other channels.
    """
    texts = [str(int(label)) for label in batch.labels] if captions is None else list(captions)
    _check(batch, columns, texts)
    tiles = [_tile(image) for image in batch.images.cpu()]
    width, height = tiles[0].width + _GAP, tiles[0].height + _GAP + (_LINE if texts else 0)
    across, down = min(columns, len(tiles)), -(-len(tiles) // columns)
    sheet = Image.new("RGB", (across * width + _GAP, down * height + _GAP), _PAPER)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        corner = (column * width + _GAP, row * height + _GAP)
        sheet.paste(tile, corner)
        if texts:
            _write(sheet, texts[place], corner[0], corner[1] + tile.height, tile.width)
    return sheet


def _check(batch: Batch, columns: int, texts: list[str]) -> None:
    if columns < 1 or len(texts) not in (0, len(batch)) or batch.shape[0] not in (1, 3):
        raise ArgumentError(
            expected=f"columns of at least 1, {len(batch)} captions or none, 1 or 3 channels",
            got=f"columns={columns}, {len(texts)} captions, {batch.shape[0]} channels",
            remedy="Leave captions out to show the labels.",
        )


def _tile(image: Tensor) -> Image.Image:
    pixels = (image * 255).round().numpy().astype(np.uint8)
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
    factor = max(1, -(-TILE // max(picture.size)))
    size = (picture.width * factor, picture.height * factor)
    return picture.convert("RGB").resize(size, Image.Resampling.NEAREST)


def _write(sheet: Image.Image, text: str, left: int, top: int, width: int) -> None:
    """The caption, cut at the tile's width."""
    font, draw = ImageFont.load_default(size=10), ImageDraw.Draw(sheet)
    while text and draw.textlength(text, font=font) > width:
        text = text[:-1]
    draw.text((left, top), text, fill=_INK, font=font)


def save_png(image: Image.Image, path: Path) -> None:
    """Write a picture as PNG, whole or not at all.

    Raises:
        StorageError: when the file cannot be written.
    """
    content = io.BytesIO()
    image.save(content, "PNG")
    write_bytes(Path(path), content.getvalue())
