"""Whose SimCLR: the contestants of time_to_accuracy.py, each with its own documented recipe for CIFAR-10.

A peer contributes what it has: augmentations, projection head, loss and optimizer. It is given the encoder, and its
settings are those that it documents for CIFAR-10; of its head, the hidden and the output width. Where the documents
disagree the setting that suits a short run is taken. Two changes apply to all: batches of 256 pictures, and a schedule
that ends with the budget instead of after hundreds of epochs.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
import yaml
from lightning.pytorch import LightningModule
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from simclr_lightning import SimCLR, SimCLRDataModule
from simclr_lightning.data.pictures import InMemoryPictures
from simclr_lightning.data.splits import Split
from simclr_lightning.models import RESNETS, ResNet
from simclr_lightning.views import clean

CONFIG = Path(__file__).parents[1] / "experiments" / "cifar10" / "cpu.yaml"


@dataclass
class Contestant:
    """What is trained, on what, and how its encoder wants to see pictures.

    Attributes:
        recipe: in one line, for the table.
        module: what the Trainer fits; its optimizer has the peak learning rate.
        data: training batches of 256 pictures.
        normalise: clean pictures (N, 3, 32, 32) uint8 to the encoder's input.
        warmup: share of the run in which the learning rate rises; then it falls along a cosine to 0.
    """

    recipe: str
    module: SimCLR | Peer
    data: SimCLRDataModule | DataLoader[Any]
    normalise: Callable[[Tensor], Tensor]
    warmup: float


def pictures(root: str) -> SimCLRDataModule:
    """All pictures, decoded into memory; with our recipe of the views."""
    arguments = yaml.safe_load(CONFIG.read_text())["data"]["init_args"]
    data = SimCLRDataModule(**arguments | {"root": root})
    data.setup()
    return data


def decoded(split: Split | None) -> tuple[Tensor, Tensor]:
    """Pictures (N, 3, 32, 32) uint8 and classes (N,) int64 of a part of the data."""
    if split is None or not isinstance(split.pictures, InMemoryPictures):
        raise ValueError("The folder needs train/<class>/*.jpg and test/<class>/*.jpg.")
    return split.pictures.images[split.positions], split.pictures.targets[split.positions]


def untrained_encoder(seed: int) -> ResNet:
    """The encoder that every contestant starts from: that of CONFIG."""
    torch.manual_seed(seed)
    arguments = yaml.safe_load(CONFIG.read_text())["model"]["init_args"]
    encoder = ResNet(*RESNETS[arguments["encoder"]], width=arguments["width"], stem=arguments["stem"])
    encoder.to(memory_format=torch.channels_last)
    return encoder


def simclr_lightning(encoder: ResNet, data: SimCLRDataModule) -> Contestant:
    """Ours: experiments/cifar10/cpu.yaml."""
    config = yaml.safe_load(CONFIG.read_text())
    module = SimCLR(**config["model"]["init_args"])
    module.encoder.load_state_dict(encoder.state_dict())
    schedule = next(one for one in config["trainer"]["callbacks"] if one["class_path"].endswith("LARSWarmup"))
    return Contestant(
        recipe="experiments/cifar10/cpu.yaml: views of 20 px, SGD 1.0, temperature 0.2, head 128-128",
        module=module,
        data=data,
        normalise=lambda images: clean(images, data.recipe),
        warmup=schedule["init_args"]["warmup_epochs"] / config["trainer"]["max_epochs"],
    )


def lightly(encoder: ResNet, data: SimCLRDataModule) -> Contestant:
    """Lightly 1.6: the SimCLR of its CIFAR-10 benchmark.

    github.com/lightly-ai/lightly: docs/source/getting_started/benchmarks/cifar10_benchmark.py. Its learning rate is
    0.06 for 128 pictures and grows linearly with the batch. Its shorter example, examples/pytorch_lightning/simclr.py,
    has neither momentum nor schedule and says that it follows no reference settings.
    """
    from lightly.loss import NTXentLoss  # type: ignore[import-not-found]
    from lightly.models.modules import SimCLRProjectionHead  # type: ignore[import-not-found]
    from lightly.transforms import SimCLRTransform  # type: ignore[import-not-found]
    from lightly.transforms.utils import IMAGENET_NORMALIZE  # type: ignore[import-not-found]

    module = Peer(
        encoder,
        SimCLRProjectionHead(encoder.feature_dim, 512, 128),
        NTXentLoss(),
        lambda model: torch.optim.SGD(model.parameters(), lr=0.06 * 256 / 128, momentum=0.9, weight_decay=5e-4),
    )
    views = SimCLRTransform(input_size=32, cj_strength=0.5, gaussian_blur=0.0)
    return Contestant(
        recipe="CIFAR-10 benchmark: views of 32 px, SGD 0.12, temperature 0.5, head 512-128",
        module=module,
        data=loader(data, views),
        normalise=normalisation(transforms.Normalize(**IMAGENET_NORMALIZE)),
        warmup=0.0,
    )


def lightning_bolts(encoder: ResNet, data: SimCLRDataModule) -> Contestant:
    """lightning-bolts 0.7: its command for CIFAR-10, with LARS as in the table beside it.

    lightning-bolts.readthedocs.io/en/latest/models/self_supervised.html: ``--batch_size 256 --learning_rate 1.5
    --exclude_bn_bias --max_epochs 800``, 10 epochs of warm-up; simclr_module.py sets the temperature and the views. It
    names ``--optimizer sgd``, which the module does not have, and 8 GPUs; the module does not scale the learning rate.
    Its LightningModule does not run on today's Lightning, so its parts are used.
    """
    from pl_bolts.models.self_supervised.simclr import simclr_module as bolts  # type: ignore[import-not-found]
    from pl_bolts.transforms.dataset_normalizations import cifar10_normalization  # type: ignore[import-not-found]
    from pl_bolts.transforms.self_supervised import simclr_transforms  # type: ignore[import-not-found]

    module = Peer(
        encoder,
        bolts.Projection(encoder.feature_dim, 2048, 128),
        lambda first, second: bolts.SimCLR.nt_xent_loss(None, first, second, temperature=0.5),
        lambda model: bolts.LARS(
            [
                {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 1e-6},
                {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
            ],
            lr=1.5,
            momentum=0.9,
            trust_coefficient=0.001,
        ),
    )
    views = simclr_transforms.SimCLRTrainDataTransform(
        32, gaussian_blur=False, jitter_strength=0.5, normalize=cifar10_normalization()
    )
    return Contestant(
        recipe="CIFAR-10 command: views of 32 px, LARS 1.5, temperature 0.5, head 2048-128",
        module=module,
        # Called itself, it makes a third view, for the online evaluation.
        data=loader(data, lambda picture: (views.train_transform(picture), views.train_transform(picture))),
        normalise=normalisation(cifar10_normalization()),
        warmup=10 / 800,
    )


def solo_learn(encoder: ResNet, data: SimCLRDataModule) -> Contestant:
    """solo-learn 1.0.2: its script for CIFAR.

    github.com/vturrisi/solo-learn, release 1.0.2: bash_files/pretrain/cifar/simclr.sh; 10 of 1000 epochs of warm-up.
    The newer scripts/pretrain/cifar/simclr.yaml blurs the views and decays ten times as much. Its classifier, which
    learns from labels beside, is left out. The package pins an old Lightning, so its files are loaded one by one.
    """
    loss = solo_file("losses/simclr.py").simclr_loss_func
    lars = solo_file("utils/lars.py").LARSWrapper
    views = solo_file("utils/pretrain_dataloader.py").CifarTransform(0.8, 0.8, 0.8, 0.2, gaussian_prob=0.0)

    module = Peer(
        encoder,
        nn.Sequential(nn.Linear(encoder.feature_dim, 2048), nn.ReLU(), nn.Linear(2048, 256)),
        lambda first, second: loss(first, second, temperature=0.2),
        lambda model: lars(
            torch.optim.SGD(model.parameters(), lr=0.4, momentum=0.9, weight_decay=1e-5),
            eta=0.02,
            clip=True,
            exclude_bias_n_norm=True,
        ),
    )
    return Contestant(
        recipe="CIFAR script: views of 32 px, clipped LARS 0.4, temperature 0.2, head 2048-256",
        module=module,
        data=loader(data, lambda picture: (views(picture), views(picture))),
        normalise=normalisation(views.transform.transforms[-1]),
        warmup=10 / 1000,
    )


CONTESTANTS: dict[str, Callable[[ResNet, SimCLRDataModule], Contestant]] = {
    "simclr_lightning": simclr_lightning,
    "lightly": lightly,
    "lightning-bolts": lightning_bolts,
    "solo-learn": solo_learn,
}


class Peer(LightningModule):
    """SimCLR as all three peers have it: the views go through the encoder one after the other."""

    def __init__(
        self,
        encoder: nn.Module,
        head: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.loss = loss
        self.optimizer = optimizer

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        first, second = (
            self.head(self.encoder(views.contiguous(memory_format=torch.channels_last))) for views in batch
        )
        return self.loss(first, second)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer(self)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        # solo-learn's LARS adapts the gradients before it calls a closure: it would adapt those of the step before.
        # Under mixed precision, which its script asks for, Lightning calls the closure first, as here.
        optimizer_closure()
        optimizer.step()


class InMemoryCIFAR(Dataset[Any]):
    """Transformed PIL pictures from an array, as torchvision's CIFAR10 gives them; without labels."""

    def __init__(self, images: Tensor, transform: Callable[[Image.Image], Any]) -> None:
        self.images = images.permute(0, 2, 3, 1).contiguous().numpy()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Any:
        return self.transform(Image.fromarray(self.images[index]))


def loader(data: SimCLRDataModule, views: Callable[[Image.Image], Any]) -> DataLoader[Any]:
    """Batches of both views, [(N, 3, 32, 32), (N, 3, 32, 32)], of the training pictures in random order."""
    dataset = InMemoryCIFAR(decoded(data.splits.train)[0], views)
    return DataLoader(dataset, batch_size=256, shuffle=True, drop_last=True)


def normalisation(normalise: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """What a peer's views end with, ToTensor and Normalize, for whole batches."""
    return lambda images: normalise(images.float() / 255)


def solo_file(path: str) -> Any:
    """A file of solo-learn, without its package."""
    file = metadata.distribution("solo-learn").locate_file(f"solo/{path}")
    spec = importlib.util.spec_from_file_location(f"solo_{Path(path).stem}", str(file))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
