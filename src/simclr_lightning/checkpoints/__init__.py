"""Checkpoints: the one way to a model or an encoder. Nothing is imported or run because a file names it."""

from simclr_lightning.checkpoints.content import is_address, newest_checkpoint
from simclr_lightning.checkpoints.durable import DurableCheckpointIO
from simclr_lightning.checkpoints.encoder import LoadsEncoder, load_encoder
from simclr_lightning.checkpoints.file import CLEAN_FIELDS, Checkpoint, plain_scale, read_checkpoint, run_of, upgraded
from simclr_lightning.checkpoints.loading import SafelyLoaded
from simclr_lightning.checkpoints.misfit import explain_misfits
from simclr_lightning.checkpoints.model import (
    Architecture,
    architecture_of,
    build_described,
    build_model,
    fitting_weights,
    import_path,
    load_model,
)
from simclr_lightning.checkpoints.start import start_from

__all__ = [
    "CLEAN_FIELDS",
    "Architecture",
    "Checkpoint",
    "DurableCheckpointIO",
    "LoadsEncoder",
    "SafelyLoaded",
    "architecture_of",
    "build_described",
    "build_model",
    "explain_misfits",
    "fitting_weights",
    "import_path",
    "is_address",
    "load_encoder",
    "load_model",
    "newest_checkpoint",
    "plain_scale",
    "read_checkpoint",
    "run_of",
    "start_from",
    "upgraded",
]
