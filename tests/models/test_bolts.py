"""Beside lightning-bolts 0.7.0: the same loss, schedule and views; its checkpoints and its data.

Where it is installed (the extra bolts) it is used as it is. Otherwise the modules in question are, from .venv/peers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from PIL import Image
from tests.models.trained import trained
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms

from simclr_lightning import LARSWarmup, SimCLR, ViewRecipe
from simclr_lightning.checkpoints import Checkpoint
from simclr_lightning.checkpoints.bolts import BoltsEncoder
from simclr_lightning.data.adapted import AdaptedDataModule
from simclr_lightning.errors import InputError
from simclr_lightning.losses import nt_xent
from simclr_lightning.optim import warmup_cosine
from simclr_lightning.views import ImageBatch, ViewEngine

pytestmark = [
    pytest.mark.filterwarnings("ignore:The feature .* is currently marked under review"),
    pytest.mark.filterwarnings("ignore:.*lr_scheduler.step"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
]
Import = Callable[[str], Any]
SIMCLR = "pl_bolts.models.self_supervised.simclr.simclr_module"

LOSSES = {0.1: 0.23175743926223036, 0.5: 1.1335519358947097}
"""Temperature -> NT-Xent of lightning-bolts 0.7.0 for the rows below, in float64."""

RATES = {10: 1.0, 40: 0.75, 70: 0.25, 100: 0.0}
"""Step -> rate of its LinearWarmupCosineAnnealingLR(warmup_epochs=10, max_epochs=100) for a base of 1."""


def rows() -> tuple[Tensor, Tensor]:
    """Projections (6, 8) of two views, not of unit length."""
    angles = 0.9 * torch.arange(48, dtype=torch.float64).reshape(6, 8)
    return angles.cos().requires_grad_(), (angles + 0.3).cos().requires_grad_()


# ---- what it computes


@pytest.mark.parametrize("temperature", LOSSES)
def test_the_loss_is_the_one_that_was_recorded(temperature: float) -> None:
    # It subtracts e^(1 / temperature), in float32, from a sum that has the pair of a view with itself; ours has none.
    assert nt_xent(*rows(), temperature=temperature).item() == pytest.approx(LOSSES[temperature], rel=5e-7)


@pytest.mark.parametrize("temperature", LOSSES)
def test_loss_and_gradient(temperature: float, peer: Import) -> None:
    theirs, ours = rows(), rows()
    expected = peer(SIMCLR).SimCLR.nt_xent_loss(None, *map(F.normalize, theirs), temperature)
    assert expected.item() == pytest.approx(LOSSES[temperature], rel=1e-12)
    found = nt_xent(*ours, temperature=temperature)
    torch.testing.assert_close(found, expected, rtol=5e-7, atol=0)
    # Its gradient has a part along each row, from the pair of the row with itself, which the unit length takes away.
    for own, other in zip(torch.autograd.grad(found, ours), torch.autograd.grad(expected, theirs), strict=True):
        torch.testing.assert_close(own, other, rtol=2e-6, atol=1e-6 * float(other.abs().max()))


def test_the_schedule_is_the_one_that_was_recorded() -> None:
    assert [warmup_cosine(step, 10, 100) for step in RATES] == pytest.approx(list(RATES.values()), abs=1e-15)


def test_schedules(peer: Import) -> None:
    module = peer("pl_bolts.optimizers.lr_scheduler")
    factor = module.linear_warmup_decay(10, 100, cosine=True)  # which its SimCLR uses
    ours = [warmup_cosine(step, 10, 100) for step in range(101)]
    assert [factor(step) for step in range(101)] == pytest.approx(ours, abs=1e-15)

    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = module.LinearWarmupCosineAnnealingLR(optimizer, warmup_epochs=10, max_epochs=100)
    rates = []
    for _ in range(101):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert {step: rates[step] for step in RATES} == pytest.approx(RATES, abs=1e-12)
    assert rates[10:] == pytest.approx(ours[10:], abs=1e-12)
    assert rates[:10] == pytest.approx([step / 9 for step in range(10)], abs=1e-12)  # at its peak one step before


@pytest.mark.parametrize("blur", [True, False])
def test_views_step_by_step(blur: bool, peer: Import) -> None:
    theirs = peer("pl_bolts.transforms.self_supervised.simclr_transforms").SimCLRTrainDataTransform(
        224, gaussian_blur=blur, jitter_strength=0.5
    )
    ours = ViewRecipe(size=224, jitter_strength=0.5, interpolation="bilinear", blur=0.5 if blur else 0.0)
    crop, flip, jitter, grey, *blurred = theirs.data_transforms.transforms
    assert (crop.size, crop.scale, crop.ratio) == ((224, 224), ours.crop_area, ours.crop_ratio)
    assert crop.interpolation == transforms.InterpolationMode.BILINEAR
    assert (flip.p, jitter.p, grey.p) == (ours.flip, ours.jitter, ours.grey)
    (colours,) = jitter.transforms
    half = ours.ranges()
    for name, width in zip(("brightness", "contrast", "saturation"), half, strict=False):
        assert getattr(colours, name) == pytest.approx((1 - width, 1 + width))
    assert colours.hue == pytest.approx((-half[3], half[3]))
    assert len(blurred) == blur
    for step in blurred:
        (gaussian,) = step.transforms
        assert (step.p, gaussian.sigma) == (ours.blur, ours.blur_sigma)
        assert gaussian.kernel_size == (ours.blur_kernel, ours.blur_kernel)


def described(views: Tensor) -> Tensor:
    """Of views (N, 3, S, S): mean and spread of each channel, and how rough they are, (N, 7)."""
    rough = (views.diff(dim=-1).abs().mean((1, 2, 3)) + views.diff(dim=-2).abs().mean((1, 2, 3)))[:, None]
    return torch.cat([views.mean((2, 3)), views.std((2, 3)), rough], 1)


def distances(first: Tensor, second: Tensor) -> Tensor:
    """Between two samples' means and variances, in standard errors, (14,)."""
    both = [torch.cat([own, (own - own.mean(0)).square()], 1) for own in (first, second)]
    error = sum(own.var(0) / len(own) for own in both)
    return ((both[0].mean(0) - both[1].mean(0)) / error.sqrt()).abs()  # type: ignore[union-attr]


def test_views_as_a_whole(peer: Import) -> None:
    """Of one picture, many: they are distributed alike, and those of another recipe are not."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 9, 9, generator=generator)
    pixels = (255 * F.interpolate(coarse, 60, mode="bicubic").clamp(0, 1)).to(torch.uint8)[0]
    picture, number = Image.fromarray(pixels.permute(1, 2, 0).numpy()), 400
    transform = peer("pl_bolts.transforms.self_supervised.simclr_transforms").SimCLRTrainDataTransform(32)
    theirs = described(torch.stack([transform.train_transform(picture) for _ in range(number)]))

    def ours(**fields: Any) -> Tensor:
        engine = ViewEngine(ViewRecipe(size=32, interpolation="bilinear", **fields))
        images = pixels.expand(number, -1, -1, -1)
        unlabelled, indices = torch.full((number,), -1), torch.arange(number)
        return described(engine(ImageBatch(images, None, unlabelled, indices))[0].flatten(0, 1))

    assert distances(theirs, ours()).max() < 4
    for other in ({"crop_area": (0.6, 1.0)}, {"jitter_strength": 0.3}):
        assert distances(theirs, ours(**other)).max() > 5, other


# ---- its checkpoints


def assert_close(found: Tensor, expected: Tensor) -> None:
    """To what float32 rounds in another memory format."""
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("layers", [(True, True), (True, False), (False, False)])
def test_checkpoints_tell_their_encoder(layers: tuple[bool, bool], peer: Import, tmp_path: Path) -> None:
    path = tmp_path / "theirs.ckpt"
    module = trained(
        peer(SIMCLR).SimCLR(
            gpus=0, num_samples=8, batch_size=4, dataset="cifar10", arch="resnet18", hidden_mlp=512,
            first_conv=layers[0], maxpool1=layers[1], data_dir=".",
        )
    )  # fmt: skip
    torch.save({"epoch": 3, "state_dict": module.state_dict(), "hyper_parameters": dict(module.hparams)}, path)
    encoder = SimCLR.load_encoder(path) if layers[1] is False else SimCLR.load_encoder(path, "resnet18")
    images = torch.rand(2, 3, 48, 48)
    with torch.no_grad():
        expected = module(images)
        assert_close(encoder(images), expected)
    stem = "pooled" if layers == (False, False) else "cifar"
    with pytest.raises(InputError, match=rf"was trained with the stem \w+, and {stem} is named: leave"):
        SimCLR.load_encoder(path, "resnet18", stem=stem)  # type: ignore[arg-type]
    if layers == (False, False):
        ours = SimCLR("resnet18", stem="cifar", init_from=str(path)).encoder.eval()
        with torch.no_grad():
            assert_close(ours(images), expected)


# ---- its data


class Drawn:
    """What torchvision's data sets are for its data modules."""

    def __init__(self, root: str, train: bool = True, transform: Any = None, download: bool = False) -> None:
        self.train, self.transform = train, transform

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> tuple[Any, int]:
        picture = Image.new("RGB", (32, 32), (10 * index, 100, 255 - 10 * index))
        return self.transform(picture), index % 3


def test_its_data_modules_feed_simclr(peer: Import, tmp_path: Path) -> None:
    module = peer("pl_bolts.datamodules.vision_datamodule").VisionDataModule
    simclr = peer("pl_bolts.transforms.self_supervised.simclr_transforms")
    theirs = type("Theirs", (module,), {"dataset_cls": Drawn, "default_transforms": None})(
        str(tmp_path), val_split=8, batch_size=8, drop_last=True, pin_memory=False
    )
    theirs.train_transforms = simclr.SimCLRTrainDataTransform(32, gaussian_blur=False)
    theirs.val_transforms = simclr.SimCLREvalDataTransform(32, gaussian_blur=False)
    data = AdaptedDataModule(theirs)
    model = SimCLR("resnet8", width=0.125, stem="cifar", projection_dim=8)
    schedule = LARSWarmup(warmup_epochs=1)
    trainer = Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[schedule], num_sanity_val_steps=0,
    )  # fmt: skip
    before = [parameter.clone() for parameter in model.parameters()]
    trainer.fit(model, datamodule=data)
    assert trainer.global_step == 4
    assert (schedule.total_steps_, schedule.global_batch_size_, schedule.warmup_steps_) == (4, 8, 2)
    assert "val/loss" in trainer.callback_metrics
    assert all(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
    batch = data.on_before_batch_transfer(next(iter(data.val_dataloader())), 0)
    assert batch.views[0].shape == (2, 8, 3, 32, 32)
    assert batch.images is not None
    assert batch.images.shape == (8, 3, 32, 32)


def test_batches_of_its_stl10_are_those_without_labels() -> None:
    views, targets = [torch.rand(4, 3, 8, 8) for _ in range(3)], torch.full((4,), -1)
    data = AdaptedDataModule(object())
    batch = data.on_before_batch_transfer([[views, targets], [[torch.rand(2, 3, 8, 8)] * 3, torch.arange(2)]], 0)
    assert torch.equal(batch.views[0], torch.stack(views[:2]))
    assert torch.equal(batch.targets, targets)
    assert batch.images is views[2]
    assert data.on_before_batch_transfer(batch, 0) is batch
    assert data.val_dataloader() == data.test_dataloader() == []
    four = AdaptedDataModule(object(), views=4)
    many = four.on_before_batch_transfer([[*views[:2], *torch.rand(2, 4, 3, 6, 6)], targets, ["a.jpg"] * 4], 0)
    assert [own.shape[-1] for own in many.views] == [8, 6]
    assert many.images is None


@pytest.mark.parametrize("batch", [torch.rand(4, 3, 8, 8), [torch.rand(4, 3, 8, 8), torch.arange(4)], [], "cat"])
def test_other_batches_are_refused(batch: Any) -> None:
    with pytest.raises(InputError, match=r"The loader gives .*, and \[views, targets\] with a list of 2 views"):
        AdaptedDataModule(object()).on_before_batch_transfer(batch, 0)


# ---- the package as it is installed


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_that_its_own_trainer_wrote(tmp_path: Path) -> None:
    old = pytest.importorskip("pytorch_lightning")
    if old.__version__ >= "2":
        pytest.skip("the extra bolts is not installed")
    bolts = pytest.importorskip(SIMCLR)
    module = bolts.SimCLR(
        gpus=0, num_samples=8, batch_size=4, dataset="cifar10", arch="resnet18", hidden_mlp=512, first_conv=False,
        maxpool1=False, max_epochs=1, warmup_epochs=0, optimizer="lars", exclude_bn_bias=True,
    )  # fmt: skip
    pictures = [((torch.rand(3, 32, 32),) * 3, 1) for _ in range(8)]
    trainer = old.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, default_root_dir=tmp_path, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, DataLoader(pictures, batch_size=4))  # type: ignore[arg-type]
    trainer.save_checkpoint(tmp_path / "theirs.ckpt")
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = module.eval()(images)
        assert_close(SimCLR.load_encoder(tmp_path / "theirs.ckpt")(images), expected)


def test_a_small_first_layer_with_a_pool_is_a_stem_of_ours() -> None:
    told = {"arch": "resnet50", "first_conv": False, "maxpool1": True, "hidden_mlp": 2048}
    assert BoltsEncoder.of(Checkpoint("theirs.ckpt", {"hyper_parameters": told})) == ("resnet50", "pooled", True)
