"""Arrays from outside become stored images and labels, or an error that says what to change."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from suture.data.stores import Shape
from suture.errors import DataError

MAX_CLASSES = 65_536
"""A label above this is taken for something that is not a class number."""

Layout = Literal["nhw", "nhwc", "nchw"]


def layout_of(shape: tuple[int, ...], where: str) -> Layout:
    """How the axes are ordered; a channel axis has 1 (grey) or 3 (RGB) entries.

    Where both the second and the last axis could be channels, channels come first.

    Raises:
        DataError: for any other number of axes or channels, or an empty array.
    """
    if 0 in shape or len(shape) not in (3, 4):
        raise _bad_shape(shape, where)
    if len(shape) == 3:
        return "nhw"
    if shape[1] in (1, 3):
        return "nchw"
    if shape[3] in (1, 3):
        return "nhwc"
    raise _bad_shape(shape, where)


def _bad_shape(shape: tuple[int, ...], where: str) -> DataError:
    return DataError(
        expected=f"{where} of shape (n, h, w), (n, h, w, c) or (n, c, h, w), c = 1 or 3, not empty",
        got=f"shape {shape}",
        remedy="Reshape the array; drop an alpha channel; keep at least one image.",
    )


def channels_first(shape: tuple[int, ...], where: str) -> Shape:
    """The shape after ``to_stored``: ``(n, channels, height, width)``."""
    layout = layout_of(shape, where)
    if layout == "nhw":
        return shape[0], 1, shape[1], shape[2]
    if layout == "nhwc":
        return shape[0], shape[3], shape[1], shape[2]
    return shape[0], shape[1], shape[2], shape[3]


def check_dtype(dtype: np.dtype, where: str) -> None:
    """Images are bytes or floats; anything else has no agreed range.

    Raises:
        DataError: for any other type.
    """
    if dtype != np.uint8 and dtype.kind != "f":
        raise DataError(
            expected=f"{where} as uint8 in 0..255, or floating point in [0, 1]",
            got=str(dtype),
            remedy='Convert with images.astype("uint8").',
        )


def to_stored(array: np.ndarray, where: str) -> Tensor:
    """Images as suture stores them: uint8 or float32 ``(n, channels, height, width)``.

    Args:
        array: uint8 in 0..255 or floating point in [0, 1], in one of the three layouts.
        where: what it is, for the message.

    Raises:
        DataError: for a wrong type, shape or range, or a NaN.
    """
    check_dtype(array.dtype, where)
    layout = layout_of(array.shape, where)
    if array.dtype != np.uint8:
        check_range(array, where)
        array = array.astype(np.float32)
    if layout == "nhw":
        array = array[:, None]
    elif layout == "nhwc":
        array = array.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.array(array, order="C"))


def check_range(array: np.ndarray, where: str) -> None:
    """Raise ``DataError`` for floating-point values out of [0, 1], and for NaN."""
    low, high = float(array.min()), float(array.max())
    if np.isnan(low):
        raise DataError(
            expected=f"{where} without NaN",
            got="at least one NaN pixel",
            remedy="Find the broken image and remove or repair it.",
        )
    if low < 0 or high > 1:
        raise DataError(
            expected=f"{where} in floating point with values in [0, 1]",
            got=f"values from {low:g} to {high:g}",
            remedy="Divide by 255, or undo the normalisation: its mean and std go to the model "
            "(suture.wrap, or --mean and --std).",
        )


def to_labels(array: np.ndarray, count: int, where: str) -> Tensor:
    """Labels as int64 ``(count,)``.

    Raises:
        DataError: for a wrong number, a type that is not integer, or values out of range.
    """
    if array.dtype.kind not in "iu":
        raise DataError(
            expected=f"{where} as integers",
            got=str(array.dtype),
            remedy='Convert with labels.astype("int64"); one-hot labels with labels.argmax(1).',
        )
    if array.shape != (count,):
        raise DataError(
            expected=f"{where} of shape ({count},), one per image",
            got=f"shape {array.shape}",
            remedy="Give one label per image; labels.ravel() drops an axis of one.",
        )
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= MAX_CLASSES:
        raise DataError(
            expected=f"{where} from 0 to the number of classes less one",
            got=f"labels from {low} to {high}",
            remedy="Number the classes 0, 1, 2, …",
        )
    return torch.from_numpy(array.astype(np.int64))
