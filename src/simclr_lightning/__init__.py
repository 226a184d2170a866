"""SimCLR (Chen et al. 2020) for PyTorch Lightning.

A name is imported when it is first used (PEP 562): torch and Lightning take seconds, for which ``simclr --help`` does
not wait.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simclr_lightning.callbacks import (
        EmbeddingPictures,
        LARSWarmup,
        OnlineKNN,
        OnlineLinearProbe,
        ProgressiveResizing,
        RepresentationHealth,
        RetrievalTable,
        Throughput,
        ViewGrid,
    )
    from simclr_lightning.classifiers import FineTune, LinearEvaluation, Supervised
    from simclr_lightning.data import LabelledDataModule, SimCLRDataModule
    from simclr_lightning.losses import NTXentLoss
    from simclr_lightning.optim import LARS
    from simclr_lightning.simclr import SimCLR
    from simclr_lightning.views import ViewBatch, ViewRecipe

    __version__: str

__all__ = [
    "LARS",
    "EmbeddingPictures",
    "FineTune",
    "LARSWarmup",
    "LabelledDataModule",
    "LinearEvaluation",
    "NTXentLoss",
    "OnlineKNN",
    "OnlineLinearProbe",
    "ProgressiveResizing",
    "RepresentationHealth",
    "RetrievalTable",
    "SimCLR",
    "SimCLRDataModule",
    "Supervised",
    "Throughput",
    "ViewBatch",
    "ViewGrid",
    "ViewRecipe",
    "__version__",
]

_ROOMS = {
    "callbacks": (
        "EmbeddingPictures",
        "LARSWarmup",
        "OnlineKNN",
        "OnlineLinearProbe",
        "ProgressiveResizing",
        "RepresentationHealth",
        "RetrievalTable",
        "Throughput",
        "ViewGrid",
    ),
    "classifiers": ("FineTune", "LinearEvaluation", "Supervised"),
    "data": ("LabelledDataModule", "SimCLRDataModule"),
    "losses": ("NTXentLoss",),
    "optim": ("LARS",),
    "simclr": ("SimCLR",),
    "views": ("ViewBatch", "ViewRecipe"),
}
_ROOM_OF = {name: room for room, names in _ROOMS.items() for name in names}


if not TYPE_CHECKING:  # a type checker knows every name

    def __getattr__(name: str) -> Any:
        if name == "__version__":
            value: Any = import_module(f"{__name__}.versions").version_of("simclr-lightning")
        elif name in _ROOM_OF:
            value = getattr(import_module(f"{__name__}.{_ROOM_OF[name]}"), name)
        elif name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        else:
            try:
                value = import_module(f"{__name__}.{name}")  # import simclr_lightning, then simclr_lightning.losses
            except ModuleNotFoundError as error:
                if error.name != f"{__name__}.{name}":
                    raise
                raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
