"""Lightning callbacks: the schedule, the online probe, and what a run shows of itself."""

from simclr_lightning.callbacks.class_report import ClassReport
from simclr_lightning.callbacks.embedding_pictures import EmbeddingPictures
from simclr_lightning.callbacks.end_together import EndTogether
from simclr_lightning.callbacks.epoch_lines import EpochLines
from simclr_lightning.callbacks.lars_warmup import LARSWarmup
from simclr_lightning.callbacks.linear_probe import OnlineLinearProbe
from simclr_lightning.callbacks.log_picture import log_picture
from simclr_lightning.callbacks.log_table import log_table
from simclr_lightning.callbacks.online_knn import OnlineKNN
from simclr_lightning.callbacks.other_numbers import OtherNumbers
from simclr_lightning.callbacks.progressive_resizing import ProgressiveResizing, view_size
from simclr_lightning.callbacks.representation_health import RepresentationHealth
from simclr_lightning.callbacks.retrieval_table import RetrievalTable
from simclr_lightning.callbacks.run_folder import run_folder
from simclr_lightning.callbacks.run_summary import RunSummary
from simclr_lightning.callbacks.save_when_stopped import SaveWhenStopped
from simclr_lightning.callbacks.throughput import Throughput
from simclr_lightning.callbacks.training_bar import TrainingBar
from simclr_lightning.callbacks.unreadable import UnreadablePictures
from simclr_lightning.callbacks.view_grid import ViewGrid

__all__ = [
    "ClassReport",
    "EmbeddingPictures",
    "EndTogether",
    "EpochLines",
    "LARSWarmup",
    "OnlineKNN",
    "OnlineLinearProbe",
    "OtherNumbers",
    "ProgressiveResizing",
    "RepresentationHealth",
    "RetrievalTable",
    "RunSummary",
    "SaveWhenStopped",
    "Throughput",
    "TrainingBar",
    "UnreadablePictures",
    "ViewGrid",
    "log_picture",
    "log_table",
    "run_folder",
    "view_size",
]
