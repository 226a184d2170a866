"""Pictures and how they reach the device: data sets, samplers, loaders and ``SimCLRDataModule``."""

from simclr_lightning.data.datamodule import VALIDATION_EPOCH, SimCLRDataModule
from simclr_lightning.data.datasets import DATASETS
from simclr_lightning.data.decode import BadPictureError, read_picture
from simclr_lightning.data.feature_batches import FeatureBatch
from simclr_lightning.data.labelled import LabelledDataModule
from simclr_lightning.data.loading import CleanBatch, EvaluationBatch, LabelledBatch, TrainingBatch
from simclr_lightning.data.pictures import DatasetPictures, FilePictures, InMemoryPictures, Pictures
from simclr_lightning.data.sampler import GlobalBatchSampler, Key
from simclr_lightning.data.subsets import balanced_subset, stratified_split

__all__ = [
    "DATASETS",
    "VALIDATION_EPOCH",
    "BadPictureError",
    "CleanBatch",
    "DatasetPictures",
    "EvaluationBatch",
    "FeatureBatch",
    "FilePictures",
    "GlobalBatchSampler",
    "InMemoryPictures",
    "Key",
    "LabelledBatch",
    "LabelledDataModule",
    "Pictures",
    "SimCLRDataModule",
    "TrainingBatch",
    "balanced_subset",
    "read_picture",
    "stratified_split",
]
