"""A name or a path → a `Dataset` with disjoint training, validation and test splits.

>>> from suture import data
>>> batch = data.load("digits").test.batch(5)
>>> batch.images.shape
torch.Size([5, 1, 8, 8])
"""

from suture.data.dataset import Dataset, Split
from suture.data.describe import summary
from suture.data.given import batch_of, images_of
from suture.data.listing import Entry, catalogue
from suture.data.loading import load
from suture.data.pictures import grid, save_png
from suture.data.places import folder

__all__ = [
    "Dataset",
    "Entry",
    "Split",
    "batch_of",
    "catalogue",
    "folder",
    "grid",
    "images_of",
    "load",
    "save_png",
    "summary",
]
