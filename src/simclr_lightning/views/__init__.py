"""Random views of pictures: what is drawn (``ViewRecipe``) and the engines that draw it.

``BatchedViews`` works on whole batches on any device; ``crop_views`` and ``centre_view`` are the part that loader
workers do with pictures of different sizes; ``reference_view`` is the same in torchvision, slow, to test against.
"""

from simclr_lightning.views.batch import ImageBatch, ViewBatch
from simclr_lightning.views.batched import BatchedViews, make_views
from simclr_lightning.views.parameters import ViewParameters, draw_parameters
from simclr_lightning.views.pictures import centre_view, crop_views
from simclr_lightning.views.pixels import clean
from simclr_lightning.views.randomness import uniforms
from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.reference import reference_view

__all__ = [
    "BatchedViews",
    "ImageBatch",
    "ViewBatch",
    "ViewParameters",
    "ViewRecipe",
    "centre_view",
    "clean",
    "crop_views",
    "draw_parameters",
    "make_views",
    "reference_view",
    "uniforms",
]
