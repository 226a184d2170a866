"""Whose SimCLR: the contestants of time_to_accuracy.py, each with its own documented recipe for CIFAR-10.

A peer contributes what it has: augmentations, projection head, loss and optimizer. It is given the encoder, and its
settings are those that it documents for CIFAR-10; of its head, the hidden and the output width. Where the documents
disagree the setting that suits a short run is taken. Two changes apply to all: batches of 256 pictures, and a schedule
that ends with the budget instead of after hundreds of epochs.

Each peer competes a second time, with our recipe through the same parts of it, so that speed and recipe are told apart:
what is left between that and ours is how fast the parts are, and their details (interpolation, BatchNorm in the head).
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
from runner import OURS
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from simclr_lightning import SimCLR, SimCLRDataModule
from simclr_lightning.data.pictures import InMemoryPictures
from simclr_lightning.data.splits import Split
from simclr_lightning.models import RESNETS, ResNet
from simclr_lightning.views import ViewRecipe, clean

CONFIG = Path(__file__).parents[1] / "experiments" / "cifar10" / "cpu.yaml"


@dataclass
class Recipe:
    """Settings of a SimCLR on CIFAR-10, whoever's parts carry them out.

    Attributes:
        views: side of the views in pixels.
        least_area: of a random crop, as a share of the picture.
        jitter: strength of the colour jitter: 0.8, 0.8, 0.8 and 0.2 times it.
        hidden: width of the head's hidden layer; None: that of the features.
        dimension: of the projections.
        temperature: of the loss.
        optimizer: of a model, with the peak learning rate; in a few words.
        make_optimizer: makes it.
        warmup: share of the run in which the learning rate rises; then it falls along a cosine to 0.
        source: where it is from.
    """

    views: int
    least_area: float
    jitter: float
    hidden: int | None
    dimension: int
    temperature: float
    optimizer: str
    make_optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    warmup: float
    source: str

    def text(self, features: int) -> str:
        """In one line, for the table."""
        head = f"{self.hidden or features}-{self.dimension}"
        views = f"views of {self.views} px from {100 * self.least_area:g} %"
        return f"{self.source}: {views}, {self.optimizer}, temperature {self.temperature:g}, head {head}"


@dataclass
class Contestant:
    """What is trained, on what, and how its encoder wants to see pictures.

    Attributes:
        recipe: in one line, for the table.
        module: what the Trainer fits; its optimizer has the peak learning rate.
        data: training batches of 256 pictures.
        normalise: clean pictures (N, 3, 32, 32) uint8 to the encoder's input.
        warmup: as that of the recipe.
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


def decayed(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters in two groups: biases and normalisation layers are not decayed."""
    return [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in model.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]


def our_recipe() -> Recipe:
    """That of experiments/cifar10/cpu.yaml."""
    config = yaml.safe_load(CONFIG.read_text())
    model, views = config["model"]["init_args"], config["data"]["init_args"]["views"]
    schedule = next(one for one in config["trainer"]["callbacks"] if one["class_path"].endswith("LARSWarmup"))
    rate, decay = model["learning_rate"], model["weight_decay"]
    return Recipe(
        views=views["size"],
        least_area=views["crop_area"][0],
        jitter=ViewRecipe(views["preset"]).jitter_strength,
        hidden=model.get("projection_hidden"),
        dimension=model["projection_dim"],
        temperature=model["loss"]["init_args"]["temperature"],
        optimizer=f"SGD {rate:g}",
        make_optimizer=lambda peer: torch.optim.SGD(decayed(peer, decay), lr=rate, momentum=0.9, nesterov=True),
        warmup=schedule["init_args"]["warmup_epochs"] / config["trainer"]["max_epochs"],
        source="experiments/cifar10/cpu.yaml",
    )


def simclr_lightning(encoder: ResNet, data: SimCLRDataModule) -> Contestant:
    """Ours: experiments/cifar10/cpu.yaml."""
    module = SimCLR(**yaml.safe_load(CONFIG.read_text())["model"]["init_args"])
    module.encoder.load_state_dict(encoder.state_dict())
    recipe = our_recipe()
    return Contestant(
        recipe=recipe.text(encoder.feature_dim),
        module=module,
        data=data,
        normalise=lambda images: clean(images, data.recipe),
        warmup=recipe.warmup,
    )


def lightly_recipe() -> Recipe:
    """The SimCLR of its CIFAR-10 benchmark.

    github.com/lightly-ai/lightly: docs/source/getting_started/benchmarks/cifar10_benchmark.py. Its learning rate is
    0.06 for 128 pictures and grows linearly with the batch. Its shorter example, examples/pytorch_lightning/simclr.py,
    has neither momentum nor schedule and says that it follows no reference settings.
    """
    rate = 0.06 * 256 / 128
    return Recipe(
        views=32,
        least_area=0.08,
        jitter=0.5,
        hidden=512,
        dimension=128,
        temperature=0.5,
        optimizer=f"SGD {rate:g}",
        make_optimizer=lambda peer: torch.optim.SGD(peer.parameters(), lr=rate, momentum=0.9, weight_decay=5e-4),
        warmup=0.0,
        source="CIFAR-10 benchmark",
    )


def lightly(encoder: ResNet, data: SimCLRDataModule, recipe: Recipe) -> Contestant:
    """Lightly 1.6."""
    from lightly.loss import NTXentLoss  # type: ignore[import-not-found]
    from lightly.models.modules import SimCLRProjectionHead  # type: ignore[import-not-found]
    from lightly.transforms import SimCLRTransform  # type: ignore[import-not-found]
    from lightly.transforms.utils import IMAGENET_NORMALIZE  # type: ignore[import-not-found]

    head = SimCLRProjectionHead(encoder.feature_dim, recipe.hidden or encoder.feature_dim, recipe.dimension)
    views = SimCLRTransform(
        input_size=recipe.views, min_scale=recipe.least_area, cj_strength=recipe.jitter, gaussian_blur=0.0
    )
    return Contestant(
        recipe=recipe.text(encoder.feature_dim),
        module=Peer(encoder, head, NTXentLoss(recipe.temperature), recipe.make_optimizer),
        data=loader(data, views),
        normalise=normalisation(transforms.Normalize(**IMAGENET_NORMALIZE)),
        warmup=recipe.warmup,
    )


def lightning_bolts_recipe() -> Recipe:
    """Its command for CIFAR-10, with LARS as in the table beside it.

    lightning-bolts.readthedocs.io/en/latest/models/self_supervised.html: ``--batch_size 256 --learning_rate 1.5
    --exclude_bn_bias --max_epochs 800``, 10 epochs of warm-up; simclr_module.py sets the temperature and the views. It
    names ``--optimizer sgd``, which the module does not have, and 8 GPUs; the module does not scale the learning rate.
    """

    def lars(model: nn.Module) -> torch.optim.Optimizer:
        from pl_bolts.models.self_supervised.simclr import simclr_module as bolts  # type: ignore[import-not-found]

        made: torch.optim.Optimizer = bolts.LARS(decayed(model, 1e-6), lr=1.5, momentum=0.9, trust_coefficient=0.001)
        return made

    return Recipe(
        views=32,
        least_area=0.08,
        jitter=0.5,
        hidden=2048,
        dimension=128,
        temperature=0.5,
        optimizer="LARS 1.5",
        make_optimizer=lars,
        warmup=10 / 800,
        source="CIFAR-10 command",
    )


def lightning_bolts(encoder: ResNet, data: SimCLRDataModule, recipe: Recipe) -> Contestant:
    """lightning-bolts 0.7. Its LightningModule does not run on today's Lightning, so its parts are used."""
    from pl_bolts.models.self_supervised.simclr import simclr_module as bolts
    from pl_bolts.transforms.dataset_normalizations import cifar10_normalization  # type: ignore[import-not-found]
    from pl_bolts.transforms.self_supervised import simclr_transforms  # type: ignore[import-not-found]

    module = Peer(
        encoder,
        bolts.Projection(encoder.feature_dim, recipe.hidden or encoder.feature_dim, recipe.dimension),
        lambda first, second: bolts.SimCLR.nt_xent_loss(None, first, second, temperature=recipe.temperature),
        recipe.make_optimizer,
    )
    views = simclr_transforms.SimCLRTrainDataTransform(
        recipe.views, gaussian_blur=False, jitter_strength=recipe.jitter, normalize=cifar10_normalization()
    )
    (crop,) = (step for step in views.data_transforms.transforms if isinstance(step, transforms.RandomResizedCrop))
    crop.scale = (recipe.least_area, 1.0)  # it has no argument for it
    return Contestant(
        recipe=recipe.text(encoder.feature_dim),
        module=module,
        # Called itself, it makes a third view, for the online evaluation.
        data=loader(data, lambda picture: (views.train_transform(picture), views.train_transform(picture))),
        normalise=normalisation(cifar10_normalization()),
        warmup=recipe.warmup,
    )


def solo_learn_recipe() -> Recipe:
    """Its script for CIFAR.

    github.com/vturrisi/solo-learn, release 1.0.2: bash_files/pretrain/cifar/simclr.sh; 10 of 1000 epochs of warm-up.
    The newer scripts/pretrain/cifar/simclr.yaml blurs the views and decays ten times as much.
    """

    def lars(model: nn.Module) -> torch.optim.Optimizer:
        made: torch.optim.Optimizer = solo_file("utils/lars.py").LARSWrapper(
            torch.optim.SGD(model.parameters(), lr=0.4, momentum=0.9, weight_decay=1e-5),
            eta=0.02,
            clip=True,
            exclude_bias_n_norm=True,
        )
        return made

    return Recipe(
        views=32,
        least_area=0.08,
        jitter=1.0,
        hidden=2048,
        dimension=256,
        temperature=0.2,
        optimizer="clipped LARS 0.4",
        make_optimizer=lars,
        warmup=10 / 1000,
        source="CIFAR script",
    )


def solo_learn(encoder: ResNet, data: SimCLRDataModule, recipe: Recipe) -> Contestant:
    """solo-learn 1.0.2.

    Its classifier, which learns from labels beside, is left out. The package pins an old Lightning, so its files are
    loaded one by one.
    """
    loss = solo_file("losses/simclr.py").simclr_loss_func
    colour = (0.8 * recipe.jitter, 0.8 * recipe.jitter, 0.8 * recipe.jitter, 0.2 * recipe.jitter)
    views = solo_file("utils/pretrain_dataloader.py").CifarTransform(
        *colour, gaussian_prob=0.0, min_scale=recipe.least_area, crop_size=recipe.views
    )
    hidden = recipe.hidden or encoder.feature_dim
    module = Peer(
        encoder,
        nn.Sequential(nn.Linear(encoder.feature_dim, hidden), nn.ReLU(), nn.Linear(hidden, recipe.dimension)),
        lambda first, second: loss(first, second, temperature=recipe.temperature),
        recipe.make_optimizer,
    )
    return Contestant(
        recipe=recipe.text(encoder.feature_dim),
        module=module,
        data=loader(data, lambda picture: (views(picture), views(picture))),
        normalise=normalisation(views.transform.transforms[-1]),
        warmup=recipe.warmup,
    )


PEERS: dict[str, tuple[Callable[[ResNet, SimCLRDataModule, Recipe], Contestant], Callable[[], Recipe]]] = {
    "lightly": (lightly, lightly_recipe),
    "lightning-bolts": (lightning_bolts, lightning_bolts_recipe),
    "solo-learn": (solo_learn, solo_learn_recipe),
}
OUR_RECIPE = ", our recipe"
"""What the name of a peer with our recipe ends with."""


def contestant(name: str, encoder: ResNet, data: SimCLRDataModule) -> Contestant:
    """The contestant of a name."""
    if name == OURS:
        return simclr_lightning(encoder, data)
    parts, recipe = PEERS[name.removesuffix(OUR_RECIPE)]
    return parts(encoder, data, our_recipe() if name.endswith(OUR_RECIPE) else recipe())


CONTESTANTS = [OURS, *(f"{peer}{end}" for peer in PEERS for end in ("", OUR_RECIPE))]


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
