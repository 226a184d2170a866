"""Pictures of 13 bands and 16 bits, from their file through training to evaluation, features and an export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from tests.distributed.harness import run_in_processes

from simclr_lightning import LabelledDataModule, LinearEvaluation, SimCLR, SimCLRDataModule, ViewGrid
from simclr_lightning.checkpoints import load_encoder, read_checkpoint
from simclr_lightning.embed import embed_pictures
from simclr_lightning.evaluation import SimCLRTrainer
from simclr_lightning.export import export_encoder
from simclr_lightning.views import ValueRange, ViewRecipe, clean

RECIPE = ViewRecipe(size=16, jitter=0.0, grey=0.0, blur=0.0, eval_crop=1.0)
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def tiles(number: int = 48, top: int = 3000) -> np.ndarray[Any, Any]:
    """Two classes: another band is bright."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, top // 2, (number, 13, 16, 16))
    values[np.arange(number), np.arange(number) % 2] += top // 2
    return values.astype(np.uint16)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    labels = np.arange(48) % 2
    np.savez(tmp_path / "tiles.npz", train_x=tiles(), train_y=labels, test_x=tiles()[:24], test_y=labels[:24])
    return tmp_path / "tiles.npz"


def data_of(root: Path, **options: Any) -> SimCLRDataModule:
    return SimCLRDataModule("folder", root, **{"batch_size": 8, "views": RECIPE, "num_workers": 0, **options})


def model() -> SimCLR:
    torch.manual_seed(0)
    return SimCLR("resnet8", width=0.125, in_channels=13, image_size=16)


def fitted(root: Path, tmp_path: Path, **options: Any) -> Path:
    trainer = Trainer(
        **QUIET,
        max_epochs=1,
        logger=False,
        default_root_dir=tmp_path,
        callbacks=[ViewGrid(), ModelCheckpoint(tmp_path / "run" / "checkpoints", save_last=True)],
    )
    trainer.fit(model(), data_of(root, **options))
    assert list(tmp_path.rglob("views/*.png"))
    return tmp_path / "run" / "checkpoints" / "last.ckpt"


@pytest.mark.filterwarnings("ignore")  # Lightning's advice about short runs
def test_one_range_from_training_to_export(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fitted(root, tmp_path)
    scale = read_checkpoint(path).data["scale"]
    assert 0 <= scale[0] < 100
    assert 2850 < scale[1] <= 3000

    # The data has become brighter, and whatever uses the encoder scales as before.
    labels = np.arange(48) % 2
    np.savez(root, train_x=tiles() * 4, train_y=labels, test_x=tiles()[:24] * 4, test_y=labels[:24])
    fresh = data_of(root)
    fresh.setup()
    assert fresh.scaling.plain[1] > 4 * 2850

    judged = data_of(root)
    SimCLRTrainer(**QUIET, logger=False).evaluate(
        model(), judged, ckpt_path=path, protocols="knn", picture=False, output=tmp_path / "out"
    )
    assert judged.scaling.plain == scale

    classified = LabelledDataModule("folder", root, views=RECIPE, batch_size=8, num_workers=0, augmentation="none")
    Trainer(**QUIET, max_epochs=1, logger=False, enable_checkpointing=False).fit(LinearEvaluation(path), classified)
    assert classified.scaling.plain == scale

    resumed = data_of(root)
    Trainer(**QUIET, max_epochs=2, logger=False, enable_checkpointing=False).fit(model(), resumed, ckpt_path=path)
    assert resumed.scaling.plain == scale

    capsys.readouterr()
    options: Any = {"root": str(root), "accelerator": "cpu", "devices": 1, "split": "test", "num_workers": 0}
    file = embed_pictures(path, tmp_path / "features.npz", **options)
    encoder = load_encoder(path, SimCLR)
    pictures = clean(torch.from_numpy(tiles()[:24] * 4), RECIPE, ValueRange(*scale))
    with torch.no_grad(), np.load(file) as features:
        assert np.allclose(features["features"], encoder(pictures).numpy(), atol=1e-5)
    assert f"values in [0, 1] from {scale[0]} to {scale[1]}" in capsys.readouterr().out
    other = embed_pictures(path, tmp_path / "others.npz", scale=[0.0, 12000.0], **options)
    with torch.no_grad(), np.load(other) as features:
        pictures = clean(torch.from_numpy(tiles()[:24] * 4), RECIPE, ValueRange(0, 12000))
        assert np.allclose(features["features"], encoder(pictures).numpy(), atol=1e-5)

    exported = export_encoder(path, "torch_export", output=tmp_path / "encoder.pt2")
    card = exported.with_name("encoder.pt2.md").read_text()
    assert f"Of the pictures' own values, {scale[0]} is 0 and {scale[1]} is 1; others are clipped." in card
    assert "(N, 13, 16, 16)" in card


@pytest.mark.filterwarnings("ignore")
def test_a_range_for_every_band(root: Path, tmp_path: Path) -> None:
    path = fitted(root, tmp_path, scale="percentile_per_band")
    scale = read_checkpoint(path).data["scale"]
    assert [len(end) for end in scale] == [13, 13]
    options: Any = {"root": str(root), "accelerator": "cpu", "devices": 1, "split": "train", "num_workers": 0}
    with np.load(embed_pictures(path, tmp_path / "features.npz", **options)) as features, torch.no_grad():
        pictures = clean(torch.from_numpy(tiles()), RECIPE, ValueRange.of(scale))
        assert np.allclose(features["features"], load_encoder(path, SimCLR)(pictures).numpy(), atol=1e-5)


def share(root: Path) -> dict[str, Any]:
    """What this process sees of one epoch."""
    data = data_of(root)
    data.setup("fit")
    rows = [(batch.indices, data.on_after_batch_transfer(batch, 0).views[0]) for batch in data.train_dataloader()]
    return {"scale": data.scaling.plain, "indices": [row[0] for row in rows], "views": [row[1] for row in rows]}


@pytest.mark.filterwarnings("ignore")
def test_two_processes_scale_alike_and_see_the_views_of_one(root: Path) -> None:
    (alone,) = run_in_processes(share, 1, root)
    shares = run_in_processes(share, 2, root)
    assert shares[0]["scale"] == shares[1]["scale"] == alone["scale"]
    views = {int(k): alone["views"][b][:, n] for b, own in enumerate(alone["indices"]) for n, k in enumerate(own)}
    for part in shares:
        for indices, own in zip(part["indices"], part["views"], strict=True):
            for place, position in enumerate(indices.tolist()):
                assert torch.allclose(own[:, place], views[position], atol=1e-6)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("precision", ["bf16-true", "64-true", "16-true"])
def test_other_precisions_do_not_round_the_values_that_views_are_made_of(root: Path, precision: Any) -> None:
    np.savez(root, train_x=tiles().astype(np.float32) * 1e4)
    found = []
    for chosen in ("32-true", precision):
        data = data_of(root)
        trainer = Trainer(**QUIET, precision=chosen, logger=False, enable_checkpointing=False)
        data.trainer = trainer
        data.setup("fit")
        batch = trainer.precision_plugin.convert_input(next(iter(data.train_dataloader())))
        found.append(data.on_after_batch_transfer(batch, 0).views[0].float())
    assert torch.allclose(found[0], found[1], atol=0.01)
    assert found[1].isfinite().all()


@pytest.mark.parametrize("typed", ["percentile_per_band", "[0, 3000]", "null"])
def test_typed_on_the_command_line(simclr: Callable[..., None], root: Path, typed: str, capsys: Any) -> None:
    data = ["--data.dataset", "folder", "--data.root", str(root), "--data.batch_size", "8", "--data.num_workers", "0"]
    recipe = ["size", "16"], ["jitter", "0"], ["grey", "0"], ["blur", "0"], ["eval_crop", "1.0"]
    views = [word for name, value in recipe for word in (f"--data.views.{name}", value)]
    small = ["--model.encoder", "resnet8", "--model.width", "0.125", "--trainer.accelerator", "cpu"]
    run = ["--trainer.max_epochs", "1", "--trainer.logger.version", "one"]
    simclr("fit", *data, *views, "--data.scale", typed, *small, *run)
    assert "black to white" in capsys.readouterr().out
    folder = Path("runs/simclr/one")
    scale = read_checkpoint(folder / "checkpoints/last.ckpt").data["scale"]
    assert scale == [0.0, 3000.0] if typed == "[0, 3000]" else len(scale) == 2
    np.savez(root, train_x=tiles() * 4, train_y=np.arange(48) % 2, test_x=tiles()[:24], test_y=np.arange(24) % 2)
    config, checkpoint = folder / "config.yaml", folder / "checkpoints/last.ckpt"
    simclr("evaluate", "--config", config, "--ckpt_path", checkpoint, "--protocols", "knn", "--picture", "false")
    assert (folder / "evaluation.json").exists()
