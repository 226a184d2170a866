"""Pictures and how they reach the device: data sets, samplers, loaders and the data modules."""

from simclr_lightning.data import datasets, huggingface  # noqa: F401  # register the data sets that have a name
from simclr_lightning.data.adapted import AdaptedDataModule
from simclr_lightning.data.dataset_pictures import DatasetPictures
from simclr_lightning.data.decode import BadPictureError, read_picture
from simclr_lightning.data.feature_batches import FeatureBatch
from simclr_lightning.data.global_batches import GlobalBatchSampler
from simclr_lightning.data.iterable import IterableStream
from simclr_lightning.data.labelled import LabelledDataModule
from simclr_lightning.data.labels import balanced_subset, stratified_split
from simclr_lightning.data.module import PictureDataModule
from simclr_lightning.data.pictures import FilePictures, InMemoryPictures, Pictures, PictureSets
from simclr_lightning.data.pretraining import SimCLRDataModule
from simclr_lightning.data.serving import Key
from simclr_lightning.data.sources import SOURCES, Source, find_source, register_source
from simclr_lightning.data.stream import Stream
from simclr_lightning.views import VALIDATION_EPOCH

__all__ = [
    "SOURCES",
    "VALIDATION_EPOCH",
    "AdaptedDataModule",
    "BadPictureError",
    "DatasetPictures",
    "FeatureBatch",
    "FilePictures",
    "GlobalBatchSampler",
    "InMemoryPictures",
    "IterableStream",
    "Key",
    "LabelledDataModule",
    "PictureDataModule",
    "PictureSets",
    "Pictures",
    "SimCLRDataModule",
    "Source",
    "Stream",
    "balanced_subset",
    "find_source",
    "read_picture",
    "register_source",
    "stratified_split",
]
