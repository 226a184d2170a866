from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import DummyLogger
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from simclr_lightning.callbacks.view_grid import ViewGrid, draw_views, normalisation_of, undo_normalisation
from simclr_lightning.errors import InputError
from simclr_lightning.views import ViewBatch, ViewRecipe

pytestmark = [
    pytest.mark.filterwarnings("ignore:The '.*_dataloader' does not have many workers"),
    pytest.mark.filterwarnings(r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning"),  # Lightning's
]

MARGIN, GAP = 22, 2  # pixels: of a line of text, and between views


class Model(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.weight * 1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Data(LightningDataModule):
    def __init__(self, batches: list[Any], **recipe: Any) -> None:
        super().__init__()
        self.batches = batches
        self.recipes = (SimpleNamespace(**recipe),)

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]


class Recording(DummyLogger):
    """Keeps what is logged; has no picture methods."""

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class LikeWandb(Recording):
    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        self.pictures.append((key, images, step))


class LikeTensorBoard(Recording):
    @property
    def experiment(self) -> Any:
        return SimpleNamespace(add_image=lambda *arguments: self.pictures.append(arguments))


def random_batch(pictures: int = 3, channels: int = 3, side: int = 8, *, seed: int = 0) -> ViewBatch:
    views = torch.rand(2, pictures, channels, side, side, generator=torch.Generator().manual_seed(seed))
    return ViewBatch.of(*views)


def fit(
    root: Path, grid: ViewGrid, batches: list[Any], *, recipe: dict[str, Any] | None = None, **arguments: Any
) -> None:
    settings = {"max_epochs": 1, "logger": False, **arguments}
    trainer = Trainer(
        accelerator="cpu",
        default_root_dir=root,
        callbacks=[grid],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
        **settings,
    )
    trainer.fit(Model(), datamodule=Data(batches, **(recipe or {})))


def panel(image: Image.Image, row: int, column: int, side: int) -> np.ndarray[Any, Any]:
    """Pixels (side, side, 3) of one view in the picture."""
    top = MARGIN + GAP + row * (side + GAP)
    left = MARGIN + GAP + column * (side + GAP)
    return np.asarray(image)[top : top + side, left : left + side]


def as_bytes(view: Tensor, enlargement: int) -> np.ndarray[Any, Any]:
    """(C, H, W) in [0, 1] as bytes (H, W, 3), every pixel a square."""
    pixels = (view.clamp(0, 1).numpy() * 255).astype(np.uint8).transpose(1, 2, 0)
    return np.kron(pixels, np.ones((enlargement, enlargement, 1), dtype=np.uint8))


def saved(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))


def test_first_views_stand_above_second_views_enlarged_without_smoothing(tmp_path: Path) -> None:
    batch = random_batch(pictures=4)
    fit(tmp_path, ViewGrid(num_pictures=3), [batch, random_batch(seed=1)])
    assert saved(tmp_path) == ["pictures/views/epoch=0-step=0.png"]
    image = Image.open(tmp_path / "pictures" / "views" / "epoch=0-step=0.png")
    assert image.mode == "RGB"
    assert image.height == MARGIN + GAP + 2 * (96 + GAP)
    for row in range(2):
        for column in range(3):
            expected = as_bytes(batch.views[0][row, column], 12)
            assert np.abs(panel(image, row, column, 96).astype(int) - expected).max() <= 1  # rounded up or down
    assert (np.asarray(image)[MARGIN + GAP :, MARGIN + 3 * (96 + GAP) + GAP :] == 255).all()  # no fourth column


def test_large_views_keep_their_size() -> None:
    image = draw_views(random_batch(side=100).views, title="T")
    assert image.height == MARGIN + GAP + 2 * (100 + GAP)


def test_the_run_folder_is_that_of_the_logger(tmp_path: Path) -> None:
    fit(tmp_path, ViewGrid(filename="pairs"), [random_batch()], logger=CSVLogger(tmp_path / "runs", name="mine"))
    assert saved(tmp_path) == ["runs/mine/version_0/pictures/pairs/epoch=0-step=0.png"]


@pytest.mark.parametrize(("every", "epochs"), [(None, [0]), (1, [0, 1, 2, 3, 4]), (2, [0, 2, 4])])
def test_epochs_that_are_due_are_drawn(every: int | None, epochs: list[int], tmp_path: Path) -> None:
    fit(tmp_path, ViewGrid(every_n_epochs=every), [random_batch(), random_batch()], max_epochs=5)
    assert saved(tmp_path) == [f"pictures/views/epoch={epoch}-step={2 * epoch}.png" for epoch in epochs]


def test_a_second_fit_is_drawn_again(tmp_path: Path) -> None:
    grid = ViewGrid()
    for root in (tmp_path / "a", tmp_path / "b"):
        fit(root, grid, [random_batch()])
    assert saved(tmp_path) == [f"{root}/pictures/views/epoch=0-step=0.png" for root in "ab"]


def test_fast_dev_run_writes_nothing(tmp_path: Path) -> None:
    fit(tmp_path, ViewGrid(), [random_batch()], fast_dev_run=True)
    assert saved(tmp_path) == []


def test_normalisation_is_undone(tmp_path: Path) -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    batch = random_batch()
    normalised = (batch.views[0] - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    fit(tmp_path, ViewGrid(), [batch._replace(views=(normalised,))], recipe={"mean": mean, "std": std})
    image = Image.open(tmp_path / "pictures" / "views" / "epoch=0-step=0.png")
    assert np.abs(panel(image, 1, 2, 96).astype(int) - as_bytes(batch.views[0][1, 2], 12)).max() <= 1


def test_no_normalisation_changes_nothing() -> None:
    (views,) = random_batch().views
    assert torch.equal(undo_normalisation(views, None, None), views)
    assert undo_normalisation(views.bfloat16(), None, None).dtype == torch.float32


@pytest.mark.parametrize(
    ("channels", "red", "green", "blue"),
    [
        (1, [1], [1], [1]),
        (2, [0, 1], [0, 0], [1, 0]),
        (3, [1, 0, 0], [0, 1, 0], [0, 0, 1]),
        (5, [0, 0, 0, 1 / 3, 2 / 3], [0, 1 / 4, 1 / 2, 1 / 4, 0], [2 / 3, 1 / 3, 0, 0, 0]),
    ],
)
def test_channels_that_are_no_colours(channels: int, red: list[float], green: list[float], blue: list[float]) -> None:
    (views,) = random_batch(pictures=2, channels=channels).views
    image = draw_views([views], title="T")
    expected = torch.einsum("kc,chw->khw", torch.tensor([red, green, blue]).float(), views[1, 1])
    assert np.abs(panel(image, 1, 1, 96).astype(int) - as_bytes(expected, 12)).max() <= 1


def test_channels_normalised_by_themselves_are_shown_about_half_bright() -> None:
    own = ViewRecipe("microscopy", size=8)
    batch = random_batch()
    std, mean = torch.std_mean(batch.views[0], (-2, -1), correction=0, keepdim=True)
    batch = batch._replace(views=((batch.views[0] - mean) / std,))
    assert undo_normalisation(batch.views[0], *normalisation_of(own)).mean().item() == pytest.approx(0.5, abs=1e-4)
    assert normalisation_of(ViewRecipe("cifar10", mean=(0.1,) * 3, std=(0.2,) * 3)) == ((0.1,) * 3, (0.2,) * 3)
    assert normalisation_of(None) == (None, None)


def test_the_picture_says_that_colours_are_false(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    pen = "PIL.ImageDraw.ImageDraw.text"
    monkeypatch.setattr(pen, lambda self, position, text, **options: texts.append(text))
    draw_views(random_batch(channels=3).views, title="Epoch 4")
    draw_views(random_batch(channels=5).views, title="Epoch 4")
    complete, incomplete = (text for text in texts if text.startswith("Epoch 4"))
    assert "each column is one picture" in complete
    assert "channels" not in complete
    assert incomplete.endswith("5 channels in false colour, the first blue, the last red")


def test_it_says_once_where_the_picture_is_and_what_was_clipped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    batch = random_batch()
    with caplog.at_level(logging.INFO):
        fit(tmp_path, ViewGrid(every_n_epochs=1), [batch._replace(views=(batch.views[0] * 6 - 3,))], max_epochs=2)
    messages = [message for message in caplog.messages if "epoch=" in message]
    assert len(messages) == 1
    assert str(tmp_path / "pictures" / "views" / "epoch=0-step=0.png") in messages[0]
    assert "[-3.00, 3.00], were clipped" in messages[0]


def test_loggers_that_take_pictures_get_it(tmp_path: Path) -> None:
    wandb, tensorboard, neither = LikeWandb(), LikeTensorBoard(), Recording()
    fit(tmp_path, ViewGrid(), [random_batch()], logger=[wandb, tensorboard, neither])
    (path,) = tmp_path.rglob("*.png")
    expected = np.asarray(Image.open(path))
    ((key, (image,), step),) = wandb.pictures
    assert (key, step) == ("views", 0)
    assert np.array_equal(np.asarray(image), expected)
    ((tag, tensor, step),) = tensorboard.pictures
    assert (tag, step) == ("views", 0)
    assert np.array_equal(tensor.permute(1, 2, 0).numpy(), expected)
    assert neither.pictures == []


def test_the_title_says_when(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    monkeypatch.setattr("PIL.ImageDraw.ImageDraw.text", lambda self, position, text, **options: texts.append(text))
    fit(tmp_path, ViewGrid(every_n_epochs=1), [random_batch(), random_batch()], max_epochs=2)
    assert [text.split(":")[0] for text in texts if "Epoch" in text] == ["Epoch 0, step 0", "Epoch 1, step 2"]


def test_only_rank_zero_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    fit(tmp_path, ViewGrid(), [random_batch()])
    assert saved(tmp_path) == []


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([torch.rand(2, 3)], "this training batch is a list"),
        (random_batch()._replace(views=(torch.rand(2, 3),)), r"is a ViewBatch whose views are of shape \(2, 3\)"),
        (random_batch()._replace(views=(1,)), "is a ViewBatch whose views are a list"),  # type: ignore[arg-type]
        (random_batch()._replace(views=()), "is a ViewBatch whose views are a list"),
    ],
)
def test_a_batch_without_views_is_an_error(batch: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"{message}.* remove ViewGrid"):
        fit(tmp_path, ViewGrid(), [batch])


def test_numbers_below_one_are_errors() -> None:
    with pytest.raises(ValueError, match="num_pictures is 0"):
        ViewGrid(num_pictures=0)
    with pytest.raises(ValueError, match="every_n_epochs is 0"):
        ViewGrid(every_n_epochs=0)


def test_views_of_each_recipe_are_a_block_of_rows(tmp_path: Path) -> None:
    large, small = random_batch(side=48).views[0], random_batch(side=24, seed=1).views[0][:1]
    batch = ViewBatch((large, small), torch.arange(large.shape[1]), torch.arange(large.shape[1]))
    fit(tmp_path, ViewGrid(), [batch])
    image = Image.open(tmp_path / "pictures" / "views" / "epoch=0-step=0.png")
    pixels = np.asarray(image)
    left = MARGIN + GAP + 96 + GAP  # of the second column
    for row, view in enumerate([*large, *small]):
        top = MARGIN + GAP + row * (96 + GAP) + GAP * (row == 2)  # every block begins with a gap
        cell = pixels[top : top + 96, left : left + 96]
        assert np.abs(cell.astype(int) - as_bytes(view[1], 96 // view.shape[-1])).max() <= 1
    assert image.height == MARGIN + 3 * (96 + GAP) + 2 * GAP
