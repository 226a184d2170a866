"""Clean features: the one way from pictures to what an encoder in evaluation mode makes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import Any, NamedTuple, cast

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.utilities.model_helpers import is_overridden
from rich.progress import track
from torch import Tensor, nn

from simclr_lightning.errors import InputError


class Features(NamedTuple):
    """Features of pictures, and their classes.

    Attributes:
        features: (N, F) float32, on the CPU.
        targets: (N,) int64 class indices, -1 where unlabelled. Where a picture may show several classes (N, C) int64: 1
            where it does, 0 where it does not, -1 where it does not count.
        indices: (N,) int64 positions of the pictures in the data set; None where they are not told.

    Example:
        >>> features = Features(torch.rand(3, 8), torch.tensor([0, 1, -1]))
        >>> features.take(features.targets >= 0).targets
        tensor([0, 1])
    """

    features: Tensor
    targets: Tensor
    indices: Tensor | None = None

    def take(self, positions: Tensor) -> Features:
        """The pictures at ``positions``, (n,) int64 or a mask (N,) bool."""
        indices = None if self.indices is None else self.indices[positions]
        return Features(self.features[positions], self.targets[positions], indices)


class RawPixels(nn.Module):
    """The baseline without an encoder: features are the pixels of the clean pictures.

    Pictures of more than 64 x 64 x 3 values get no features, (N, 0): learning from so many takes long and says little.

    Example:
        >>> RawPixels()(torch.rand(2, 3, 8, 8)).shape, RawPixels()(torch.rand(2, 3, 65, 65)).shape
        (torch.Size([2, 192]), torch.Size([2, 0]))
    """

    def forward(self, images: Tensor) -> Tensor:
        """Flattened pictures (N, C * H * W)."""
        pixels = images.flatten(1)
        return pixels if pixels.shape[1] <= 64 * 64 * 3 else pixels[:, :0]


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, without gradients; afterwards every part of the module has the mode that it had.

    Example:
        >>> layers = nn.Sequential(nn.BatchNorm1d(2).eval(), nn.Dropout())
        >>> with evaluation_mode(layers):
        ...     layers[1].training, torch.is_grad_enabled()
        (False, False)
        >>> layers[0].training, layers[1].training, torch.is_grad_enabled()
        (False, True, True)
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def encode(module: nn.Module, images: Tensor, *, precision: AbstractContextManager[Any] | None = None) -> Tensor:
    """Features of pictures that are on the module's device; the module is left exactly as it was.

    Args:
        module: from pictures to features.
        images: (N, C, H, W) float, as the module takes them.
        precision: in which context to compute, such as ``trainer.precision_plugin.forward_context()`` or
            ``fabric.autocast()``.

    Returns:
        (N, F), of the dtype that the module gives.

    Example:
        >>> encoder = nn.Sequential(nn.Flatten(), nn.Linear(48, 4), nn.Dropout())
        >>> features = encode(encoder, torch.rand(2, 3, 4, 4))
        >>> features.shape, features.requires_grad, encoder.training
        (torch.Size([2, 4]), False, True)
    """
    with evaluation_mode(module), precision or nullcontext():
        features: Tensor = module(images)
    return features


def encode_batch(trainer: Trainer, module: LightningModule, batch: Any) -> tuple[Tensor, Any]:
    """Features of a batch's clean pictures, beside a running fit.

    Args:
        trainer: of the module; tells device and precision.
        module: from pictures (N, C, H, W) to features (N, F); it is left exactly as it was.
        batch: as a loader gives it; with ``images`` when the hooks of data module and module have finished it.

    Returns:
        Features (N, F) on the Trainer's device, and the finished batch.

    Example:
        >>> from types import SimpleNamespace
        >>> class Halves(LightningModule):
        ...     def forward(self, images):
        ...         return images.flatten(1) / 2
        >>> trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        >>> encode_batch(trainer, Halves(), SimpleNamespace(images=torch.ones(2, 1, 1, 3)))[0]
        tensor([[0.5000, 0.5000, 0.5000],
                [0.5000, 0.5000, 0.5000]])
    """
    batch = finished_batch(trainer, module, getattr(trainer, "datamodule", None), batch)
    return encode(module, batch.images, precision=trainer.precision_plugin.forward_context()), batch


def clean_features(
    trainer: Trainer,
    module: nn.Module,
    datamodule: LightningDataModule,
    split: str,
) -> Features:
    """Features of the labelled pictures of a split, from a module in evaluation mode, without gradients.

    Device and precision are the Trainer's, whatever Trainer it is, and whether or not it has run before. The module is
    afterwards where it was, in the modes that it had. Progress is shown where the Trainer shows it.

    Args:
        trainer: of one device.
        module: an encoder, from pictures (N, C, H, W) to features (N, F), or a LightningModule whose ``predict_step``
            returns a dictionary with features (N, F).
        datamodule: is set up, has ``clean_dataloader(split)``, whose batches have ``images`` and ``targets`` when the
            batch hooks have finished them.
        split: train, val or test.

    Raises:
        TypeError: if ``predict_step`` returns something else.
        InputError: if there are no pictures, or none with a label.

    Example:
        >>> from simclr_lightning import SimCLRDataModule
        >>> data = SimCLRDataModule()
        >>> data.setup()
        >>> trainer = Trainer(accelerator="cpu", logger=False, barebones=True)
        >>> clean_features(trainer, RawPixels(), data, "test").features.shape
        torch.Size([360, 256])
    """
    loader: Any = datamodule.clean_dataloader(split)  # type: ignore[attr-defined]  # not one of Lightning's methods
    found = loader_features(trainer, module, datamodule, loader, split)
    if not len(found.targets):
        raise InputError(f"There are no {split} pictures to evaluate on.")
    targets = _targets(found, getattr(loader, "dataset", None))
    found = Features(found.features.float(), targets, found.indices)
    labelled = (targets.reshape(len(targets), -1) >= 0).any(1)  # (N, C): a picture may have several labels
    if not labelled.any():
        raise InputError(
            f"None of the {len(labelled)} {split} pictures has a label, without which features cannot be judged: give "
            "class folders, or a separate labelled folder (--data.probe)."
        )
    return found if labelled.all() else found.take(labelled)


def loader_features(
    trainer: Trainer, module: nn.Module, datamodule: LightningDataModule, loader: Iterable[Any], name: str
) -> Features:
    """Features of all pictures of a loader, labelled or not, on the CPU, of the dtype that the module gives.

    Args:
        trainer: as for :func:`clean_features`.
        module: as for :func:`clean_features`.
        datamodule: whose batch hooks finish the loader's batches.
        loader: gives the batches.
        name: of the pictures, for the progress bar.

    Raises:
        TypeError: if ``predict_step`` returns something else than a dictionary with features.

    Example:
        >>> from types import SimpleNamespace
        >>> batch = SimpleNamespace(images=torch.rand(2, 3, 8, 8), targets=torch.tensor([4, -1]))
        >>> trainer = Trainer(accelerator="cpu", logger=False, barebones=True)
        >>> features = loader_features(trainer, RawPixels(), LightningDataModule(), [batch], "new")
        >>> features.features.shape, features.targets
        (torch.Size([2, 192]), tensor([ 4, -1]))
    """
    datamodule.trainer = trainer
    if isinstance(module, LightningModule) and trainer.lightning_module is not module:  # nor was it set up before
        module.trainer = trainer
        module.configure_model()
        module.setup("predict")
    silent = trainer.progress_bar_callback is None
    rows = []
    with _on_device(trainer, module):
        for number, loaded in enumerate(track(loader, f"Encoding {name} pictures", disable=silent)):
            batch = finished_batch(trainer, module, datamodule, loaded)
            with evaluation_mode(module), trainer.precision_plugin.forward_context():
                features = _predicted(module, batch, number)
            indices = getattr(batch, "indices", None)
            rows.append((features.cpu(), batch.targets.cpu(), None if indices is None else indices.cpu()))
    if not rows:
        return Features(torch.empty(0, 0), torch.empty(0, dtype=torch.int64))
    columns = list(zip(*rows, strict=True))
    indices = None if columns[2][0] is None else torch.cat(columns[2])
    return Features(torch.cat(columns[0]), torch.cat(columns[1]), indices)


def finished_batch(trainer: Trainer, module: nn.Module, datamodule: LightningDataModule | None, batch: Any) -> Any:
    """A loader's batch on the Trainer's device, by the batch hooks of the data module, or else of the module.

    The Trainer has no public method for it that works before it has run.

    Args:
        trainer: tells device and precision.
        module: whose hooks count where the data module has none.
        datamodule: whose hooks are called.
        batch: as a loader gives it.

    Example:
        >>> trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
        >>> finished_batch(trainer, nn.Identity(), LightningDataModule(), torch.ones(2))
        tensor([1., 1.])
    """
    batch = trainer.precision_plugin.convert_input(batch)
    for name, arguments in (
        ("on_before_batch_transfer", ()),
        ("transfer_batch_to_device", (trainer.strategy.root_device,)),
        ("on_after_batch_transfer", ()),
    ):
        theirs = datamodule is not None and is_overridden(name, datamodule)
        owner = datamodule if theirs or not isinstance(module, LightningModule) else module
        batch = getattr(owner, name)(batch, *arguments, 0)
    return batch


def _predicted(module: nn.Module, batch: Any, number: int) -> Tensor:
    if not isinstance(module, LightningModule):
        return cast("Tensor", module(batch.images))
    outputs = module.predict_step(batch, number)
    if not isinstance(outputs, dict) or not isinstance(outputs.get("features"), Tensor):
        raise TypeError(
            f"{type(module).__name__}.predict_step must return a dictionary with features (N, F), got a "
            f"{type(outputs).__name__}."
        )
    return cast("Tensor", outputs["features"])


def _targets(found: Features, dataset: Any) -> Tensor:
    """Several classes of a picture, where the data set tells them."""
    pictures: Any = getattr(dataset, "pictures", None)
    if getattr(pictures, "multi_targets", None) is None or found.indices is None:
        return found.targets
    skipped = (found.targets < 0) & (pictures.targets[found.indices] >= 0)  # another picture was served in its place
    targets: Tensor = pictures.multi_targets[found.indices]
    return targets.masked_fill(skipped[:, None], -1)


@contextmanager
def _on_device(trainer: Trainer, module: nn.Module) -> Iterator[None]:
    """The module on the Trainer's device and in its precision, as in its loops; afterwards where it was."""
    device = trainer.strategy.root_device
    homes = {tensor.device for tensor in chain(module.parameters(), module.buffers())}
    trainer.accelerator.setup_device(device)
    trainer.precision_plugin.convert_module(module)
    module.to(device)
    try:
        yield
    finally:
        if len(homes) == 1:
            module.to(homes.pop())
