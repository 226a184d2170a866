"""``evaluate``: from a checkpoint to figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.loggers.logger import DummyLogger
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import nn

from simclr_lightning import SimCLR, SimCLRDataModule
from simclr_lightning.evaluation import SimCLRTrainer, evaluate, knn_accuracy, label_curve, linear_accuracy
from simclr_lightning.evaluation.inner_fits import FineTuneRecipe
from simclr_lightning.features import RawPixels, clean_features
from simclr_lightning.metrics import Metric

Make = Callable[..., Any]


def test_a_checkpoint_is_compared_with_random_encoder_and_raw_pixels(
    trainer: Make, columns: Make, pictures: Make, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = trainer().evaluate(columns(), pictures(), checkpoint, protocols="linear,linear@10%", draws=3, seed=2)
    assert [
        (result.encoder, result.protocol, result.labels, len(result.accuracies)) for result in evaluation.results
    ] == [
        (encoder, *column)
        for encoder in ("raw pixels", "random encoder", "pre-trained encoder")
        for column in (("linear", 60, 1), ("linear@10%", 6, 3))
    ]
    assert evaluation.accuracy("pre-trained encoder", "linear") > 90
    assert evaluation.accuracy("random encoder", "linear") < evaluation.accuracy("pre-trained encoder", "linear") - 5

    run = checkpoint.parent.parent
    content = json.loads((run / "evaluation.json").read_text())
    assert [figure["accuracies"] for figure in content["figures"]] == [
        result.accuracies for result in evaluation.results
    ]
    assert {figure["encoder"]: figure["checkpoint"] for figure in content["figures"]} == {
        "raw pixels": None,
        "random encoder": None,
        "pre-trained encoder": str(checkpoint),
    }
    assert {figure["test_split"] for figure in content["figures"]} == {"test"}
    assert (run / "features.png").stat().st_size > 1000
    printed = capsys.readouterr().out.replace("\n", "")
    assert str(run / "features.png") in printed
    assert "pre-trained encoder" in printed


def test_figures_are_those_of_the_loaded_weights(
    trainer: Make, columns: Make, pictures: Make, checkpoint: Path
) -> None:
    model, datamodule = columns(), pictures({"train": 300, "test": 60})
    evaluation = trainer().evaluate(model, datamodule, checkpoint, protocols=["knn"])
    pretrained = columns()
    pretrained.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    train, test = (clean_features(trainer(), pretrained, datamodule, split) for split in ("train", "test"))
    assert evaluation.accuracy("pre-trained encoder", "knn") == 100 * knn_accuracy(train, test)
    stored = pretrained.state_dict()
    assert all(torch.equal(tensor, stored[name]) for name, tensor in model.state_dict().items())


def test_without_a_checkpoint_only_the_baselines_are_judged(trainer: Make, columns: Make, pictures: Make) -> None:
    own = trainer()
    evaluation = own.evaluate(columns(), pictures(), protocols="linear")
    assert [result.encoder for result in evaluation.results] == ["raw pixels", "random encoder"]
    assert "--ckpt_path" in evaluation.notes[0]
    assert (Path(own.default_root_dir) / "features.png").exists()


def test_a_trained_model_is_not_called_random(trainer: Make, columns: Make, pictures: Make) -> None:
    model = columns()
    model.encoder(torch.rand(5, 1, 4, 4))  # in training mode BatchNorm counts its batches
    evaluation = trainer().evaluate(model, pictures(), protocols="linear")
    assert [result.encoder for result in evaluation.results] == ["raw pixels", "model as it is"]
    assert [note.partition(" by ")[0] for note in evaluation.notes] == ["Raw pixels are better than the model as it is"]


def test_raw_pixels_and_random_encoders_that_are_better_are_told(
    trainer: Make,
    columns: Make,
    pictures: Make,
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In the closing lines of the table, and in the file."""
    monkeypatch.chdir(checkpoint.parent)
    content = torch.load(checkpoint, weights_only=True)
    content["state_dict"]["encoder.0.weight"].zero_()  # it has collapsed: equal features for all pictures
    torch.save(content, checkpoint)
    evaluation = trainer().evaluate(columns(), pictures(), checkpoint, protocols="linear,knn", output="judged")
    pixels, random = evaluation.notes
    judged = evaluation.accuracy("pre-trained encoder", "knn")
    for note, name, start in ((pixels, "raw pixels", "Raw pixels are"), (random, "random encoder", "The random")):
        assert note.startswith(f"{start}")
        figure = evaluation.accuracy(name, "knn")
        assert f"knn ({figure:.1f} against {judged:.1f})" in note
    assert "--trainer.max_epochs" in pixels
    assert "--model.learning_rate" in random
    written = json.loads(Path("judged", "evaluation.json").read_text())
    assert written["notes"] == evaluation.notes
    printed = " ".join(capsys.readouterr().out.split())
    assert "Raw pixels are better than the pre-trained encoder by linear (" in printed


def test_residual_branches_that_start_at_zero_are_told(trainer: Make, columns: Make, pictures: Make) -> None:
    model = columns()
    model.branch = nn.BatchNorm2d(4)
    nn.init.zeros_(model.branch.weight)
    evaluation = trainer().evaluate(model, pictures(), protocols="linear")
    assert "zero_init_residual" in evaluation.notes[0]


def test_validation_pictures_serve_where_there_are_no_test_pictures(
    trainer: Make, columns: Make, pictures: Make
) -> None:
    evaluation = trainer().evaluate(columns(), pictures({"train": 60, "val": 12}), protocols="linear")
    assert (evaluation.split, evaluation.pictures) == ("val", 12)
    assert "Measured on the validation pictures" in evaluation.notes[0]
    assert "no test pictures" in evaluation.notes[0]


def test_large_pictures_have_no_row_of_raw_pixels(trainer: Make, columns: Make, pictures: Make) -> None:
    class Cropping(type(columns())):  # type: ignore[misc]
        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            return super().predict_step(batch._replace(images=batch.images[..., :4, :4]), batch_idx)

    evaluation = trainer().evaluate(Cropping(), pictures(size=120), protocols="linear")
    assert [result.encoder for result in evaluation.results] == ["random encoder"]
    assert "No raw pixels: pictures are too large" in evaluation.notes[0]


def test_the_folder_can_be_chosen(
    trainer: Make, columns: Make, pictures: Make, checkpoint: Path, tmp_path: Path
) -> None:
    trainer().evaluate(columns(), pictures(), checkpoint, protocols="linear", output=tmp_path / "a" / "b")
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["evaluation.json", "features.png"]


def test_the_picture_can_be_left_out(trainer: Make, columns: Make, pictures: Make, tmp_path: Path) -> None:
    trainer().evaluate(columns(), pictures(), protocols="linear", picture=False, output=tmp_path / "figures")
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["evaluation.json"]


def test_a_checkpoint_outside_a_run_leaves_the_figures_in_this_run(
    trainer: Make, columns: Make, pictures: Make, checkpoint: Path, tmp_path: Path
) -> None:
    moved = checkpoint.rename(tmp_path / "moved.ckpt")
    own = trainer(logger=CSVLogger(tmp_path, "evaluations", version=3))
    own.evaluate(columns(), pictures(), moved, protocols="linear")
    assert (tmp_path / "evaluations" / "version_3" / "evaluation.json").exists()


def test_a_checkpoint_that_does_not_fit_is_refused_before_anything_is_computed(
    trainer: Make, columns: Make, pictures: Make, checkpoint: Path
) -> None:
    class Untouched(type(pictures())):  # type: ignore[misc]
        def clean_dataloader(self, split: str) -> Any:
            raise AssertionError("The pictures were read.")

    with pytest.raises(ValueError, match=r"of another shape: .*encoder\.0\.weight"):
        trainer().evaluate(columns(features=5), Untouched({"train": 6}), checkpoint)
    assert not list(checkpoint.parent.parent.glob("evaluation.json"))


def test_several_devices_are_refused(trainer: Make, columns: Make, pictures: Make) -> None:
    with pytest.raises(ValueError, match=r"one device, not on 2: --trainer.devices 1"):
        trainer(devices=2).evaluate(columns(), pictures())


def test_missing_data_are_named(trainer: Make, columns: Make) -> None:
    with pytest.raises(ValueError, match="pass a datamodule"):
        trainer().evaluate(columns())
    with pytest.raises(ValueError, match=r"has no method clean_dataloader\(split\)"):
        trainer().evaluate(columns(), LightningDataModule())


def test_pictures_without_labels_are_an_error(trainer: Make, columns: Make, pictures: Make) -> None:
    with pytest.raises(ValueError, match="has a label, without which features cannot be judged"):
        trainer().evaluate(columns(), pictures(labelled=False))


@pytest.mark.parametrize(("cause", "end"), [(SIGTERMException, SystemExit), (MemoryError, MemoryError)])
@pytest.mark.parametrize(("command", "name"), [("evaluate", "evaluation"), ("label_curve", "label_curve")])
def test_an_interruption_keeps_what_was_finished_and_what_was_there(
    command: str,
    name: str,
    cause: type[BaseException],
    end: type[BaseException],
    trainer: Make,
    columns: Make,
    pictures: Make,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    class Interrupted(type(columns())):  # type: ignore[misc]
        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            raise cause

    def interrupt(*, raw_pixels: bool) -> str:
        data = pictures({"train": 300, "test": 30})
        with pytest.raises(end):
            getattr(trainer(), command)(Interrupted(), data, raw_pixels=raw_pixels, output=tmp_path / "figures")
        return capsys.readouterr().out.replace("\n", "")

    unfinished = tmp_path / "figures" / f"{name}_unfinished.json"
    assert "nothing is written" in interrupt(raw_pixels=False)
    assert not unfinished.parent.exists()

    unfinished.parent.mkdir()
    complete = unfinished.with_name(f"{name}.json")
    complete.write_text("of another run")
    assert f"the figures that were finished are in {unfinished}" in interrupt(raw_pixels=True)
    content = json.loads(unfinished.read_text())
    figures = content["figures" if command == "evaluate" else "points"]
    assert {figure["encoder"] for figure in figures} == {"raw pixels"}
    assert all(figure["accuracies"] for figure in figures)
    assert complete.read_text() == "of another run"

    first = unfinished.read_text()
    second = unfinished.with_stem(f"{unfinished.stem}-2")
    assert f"the figures that were finished are in {second}" in interrupt(raw_pixels=True)
    assert unfinished.read_text() == first
    getattr(trainer(), command)(columns(), pictures({"train": 300, "test": 30}), output=tmp_path / "figures")
    assert not unfinished.exists()  # the complete run asked for the same
    assert not second.exists()


def test_the_data_are_prepared_and_set_up_once(trainer: Make, columns: Make, pictures: Make) -> None:
    called: list[str] = []

    class Lazy(type(pictures())):  # type: ignore[misc]
        def prepare_data(self) -> None:
            called.append("prepare_data")

        def setup(self, stage: str) -> None:
            called.append(stage)

    trainer().evaluate(columns(), Lazy({"train": 60, "test": 30}), protocols="linear")
    assert called == ["prepare_data", "fit", "test"]


def test_no_draw_is_an_error(trainer: Make, columns: Make, pictures: Make) -> None:
    with pytest.raises(ValueError, match="draws is 0"):
        trainer().evaluate(columns(), pictures(), draws=0)


class Recorder(DummyLogger):
    """Takes metrics and pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.names |= metrics.keys()

    def log_image(self, key: str, images: list[Any], step: int | None = None) -> None:
        self.names.add(key)


class Untouched(Callback):
    """Belongs to a training, with which judging has nothing to do."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        raise AssertionError("A callback of the training was called.")


@pytest.mark.parametrize("judge", [evaluate, label_curve])
def test_anybodys_trainer_will_do_and_is_left_as_it_was(
    judge: Callable[..., Any], columns: Make, pictures: Make, checkpoint: Path, tmp_path: Path
) -> None:
    recorder = Recorder()
    kept = CSVLogger(tmp_path, "run", "")  # which the checkpoint is from
    rows = tmp_path / "run" / "metrics.csv"
    rows.write_text("step,loss\n1,5.5\n")
    trainer: Any = Trainer(
        accelerator="cpu", logger=[kept, recorder], callbacks=[Untouched()], max_epochs=3, enable_progress_bar=False,
        enable_checkpointing=False, enable_model_summary=False,
    )  # fmt: skip
    before = {name: value for name, value in vars(trainer).items() if not name.startswith("_")}
    callbacks = list(trainer.callbacks)
    model, data = columns(), pictures()
    if judge is evaluate:
        judge(trainer, model, data, checkpoint, protocols="linear,linear_sgd,linear@10%", draws=2)
        expected = {"evaluate/raw pixels/linear", "evaluate/pre-trained encoder/linear_sgd", "features"}
    else:
        judge(trainer, model, data, checkpoint, counts=[2], draws=2)
        expected = {"label_curve/raw pixels", "label_curve/pre-trained encoder", "label_curve"}
    assert expected <= recorder.names
    assert rows.read_text() == "step,loss\n1,5.5\n"
    assert {name: value for name, value in vars(trainer).items() if not name.startswith("_")} == before
    assert trainer.callbacks == callbacks
    assert (trainer.loggers, trainer.state.fn, trainer.max_epochs) == ([kept, recorder], None, 3)


def test_a_trainer_goes_on_after_its_model_was_judged(trainer: Make, pictures: Make, tmp_path: Path) -> None:
    own = trainer(max_epochs=1, limit_train_batches=2, limit_val_batches=0)
    model = SimCLR(encoder="resnet8", width=0.125, stem="pooled", in_channels=1, optimizer="sgd")
    datamodule = SimCLRDataModule("digits", batch_size=64)
    own.fit(model, datamodule)
    optimizers, step = own.optimizers, own.global_step
    own.evaluate(model, datamodule, protocols="knn,finetune@10%", finetune=FineTuneRecipe(epochs=1), output=tmp_path)
    assert (own.optimizers, own.global_step) == (optimizers, step)
    assert model.trainer is own
    own.fit_loop.max_epochs = 2
    own.fit(model, datamodule)
    assert own.global_step == 2 * step


def test_the_commands_are_the_functions() -> None:
    assert (SimCLRTrainer.evaluate, SimCLRTrainer.label_curve) == (evaluate, label_curve)
    for command in (evaluate, label_curve):
        parser = ArgumentParser(exit_on_error=False)
        parser.add_method_arguments(SimCLRTrainer, command.__name__, skip={"model", "datamodule"})
        text = " ".join(parser.format_help().split())
        for explained in ("checkpoints of further encoders by name", "whether pixels are judged, too"):
            assert explained in text


@pytest.mark.parametrize("typed", ["linear,knn", "[linear, knn]", '["linear", "knn"]'])
def test_protocols_are_typed_as_a_list_or_with_commas(typed: str) -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_method_arguments(SimCLRTrainer, "evaluate", skip={"model", "datamodule"})
    protocols = parser.parse_args(["--protocols", typed]).protocols
    assert protocols in ("linear,knn", ["linear", "knn"])
    assert "linear@1%" in parser.format_help()


def test_our_model_and_data_are_evaluated(trainer: Make, tmp_path: Path) -> None:
    model = SimCLR(encoder="resnet8", width=0.125, stem="pooled", in_channels=1, zero_init_residual=False)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    datamodule = SimCLRDataModule("digits")
    evaluation = trainer().evaluate(model, datamodule, protocols="knn,linear@1%", draws=2, output=tmp_path)
    assert (evaluation.split, evaluation.pictures) == ("test", 360)
    assert evaluation.accuracy("raw pixels", "knn") > 85
    assert 20 < evaluation.accuracy("random encoder", "linear@1%") < 75
    assert [result.labels for result in evaluation.results] == [1437, 14] * 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("asked", [None, "top1", "mean_per_class"])
def test_the_metric_that_is_asked_for_is_that_of_every_protocol(trainer: Make, tmp_path: Path, asked: Any) -> None:
    data = SimCLRDataModule("digits", label_fraction=0.1, metric=asked)
    data.setup()
    model = SimCLR("resnet8", width=0.125, in_channels=1)
    metric: Metric = asked or "top1"
    kinds = "linear,knn,linear_sgd,transfer,finetune@100%"
    recipe = FineTuneRecipe(epochs=1, draws=1)
    evaluation = trainer().evaluate(
        model, data, protocols=kinds, draws=1, finetune=recipe, picture=False, output=tmp_path
    )
    assert {row.metric for row in evaluation.rows} == {metric}
    parts = [clean_features(trainer(), RawPixels(), data, split) for split in ("train", "test")]
    others = {name: 100 * knn_accuracy(*parts, k=143, metric=name) for name in ("top1", "mean_per_class")}
    assert others["top1"] != others["mean_per_class"]
    assert evaluation.accuracy("raw pixels", "knn") == others[metric]
    assert evaluation.accuracy("raw pixels", "linear") == 100 * linear_accuracy(*parts, metric=metric)
    (tuned,) = [
        own for own in evaluation.results if own.protocol == "finetune@100%" and own.encoder == "random encoder"
    ]
    assert ("mean_per_class" in tuned.also[0]) == (metric == "top1")


def test_a_label_curve_says_by_what_it_judges(trainer: Make, tmp_path: Path) -> None:
    data = SimCLRDataModule("digits", label_fraction=0.1, metric="mean_per_class")
    model = SimCLR("resnet8", width=0.125, in_channels=1)
    curve = label_curve(trainer(), model, data, counts=[1], draws=1, output=tmp_path)
    assert any("mean_per_class" in note for note in curve.notes)
    data.setup()
    parts = [clean_features(trainer(), RawPixels(), data, split) for split in ("train", "test")]
    assert curve.curves["raw pixels"][-1].accuracy == 100 * linear_accuracy(*parts, metric="mean_per_class")


def test_pictures_of_several_classes_have_their_own_metric() -> None:
    with pytest.raises(
        ValueError, match=r"metric is 'top1': pictures of voc2007 may show several classes.*--data\.metric"
    ):
        SimCLRDataModule("voc2007", metric="top1")
    with pytest.raises(ValueError, match=r"metric is 'map11': choose top1 or mean_per_class"):
        SimCLRDataModule("digits", metric="map11")  # type: ignore[arg-type]
