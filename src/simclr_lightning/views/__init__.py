"""Random views of pictures: what is drawn (``ViewRecipe``) and the engine that draws it.

``ViewEngine`` works on whole batches on any device; ``crop_views`` and ``centre_view`` are the part that loader workers
do with pictures of different sizes.
"""

from simclr_lightning.views.batch import Crops, ImageBatch, ViewBatch, check_contrastable
from simclr_lightning.views.draw import VALIDATION_EPOCH, ViewParameters, draw_parameters, uniforms
from simclr_lightning.views.engine import ViewEngine, check_channels, clean, make_views
from simclr_lightning.views.recipe import ViewRecipe
from simclr_lightning.views.scale import ValueRange
from simclr_lightning.views.scheduled import ScheduledRecipe
from simclr_lightning.views.workers import centre_share, centre_view, centre_views, crop_views

__all__ = [
    "VALIDATION_EPOCH",
    "Crops",
    "ImageBatch",
    "ScheduledRecipe",
    "ValueRange",
    "ViewBatch",
    "ViewEngine",
    "ViewParameters",
    "ViewRecipe",
    "centre_share",
    "centre_view",
    "centre_views",
    "check_channels",
    "check_contrastable",
    "clean",
    "crop_views",
    "draw_parameters",
    "make_views",
    "uniforms",
]
