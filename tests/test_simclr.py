"""The LightningModule: what its steps return and log, its hooks, checkpoints and errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from simclr_lightning.errors import InputError
from simclr_lightning.losses import (
    ContrastiveLoss,
    NTXentLoss,
    SupConNTXent,
    base,
    contrastive_metrics,
    nt_xent,
)
from simclr_lightning.optim import LARS
from simclr_lightning.simclr import SimCLR
from simclr_lightning.views import ViewBatch

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")


def small(**arguments: Any) -> SimCLR:
    """A ResNet for 8x8 pictures with 4 to 32 channels."""
    defaults: dict[str, Any] = {"encoder": "resnet10", "width": 1 / 16, "image_size": 8, "projection_dim": 8}
    return SimCLR(**defaults | arguments)


def view_batch(pictures: int = 6, channels: int = 3) -> ViewBatch:
    first, second, images = torch.rand(3, pictures, channels, 8, 8)
    return ViewBatch.of(first, second, targets=torch.arange(pictures))._replace(images=images)


def loader(batches: Sequence[ViewBatch]) -> DataLoader[ViewBatch]:
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


def quiet_trainer(**arguments: Any) -> Trainer:
    defaults: dict[str, Any] = {
        "accelerator": "cpu",
        "max_epochs": 1,
        "log_every_n_steps": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return Trainer(**defaults | arguments)


class Squared(ContrastiveLoss):
    """A third party's loss, with a buffer."""

    gather = False
    steps: Tensor

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, projections: Tensor) -> Tensor:
        self.steps += self.training
        return self.weight * (projections[0] - projections[1]).square().mean()


class Outputs(Callback):
    """Keeps what the steps return."""

    def __init__(self) -> None:
        self.training: list[dict[str, Tensor]] = []
        self.validation: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self.training.append(outputs)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *_: Any) -> None:
        self.validation.append(outputs)


class CallShapes:
    """Records the shape of every input of a module."""

    def __init__(self, module: nn.Module) -> None:
        self.shapes: list[tuple[int, ...]] = []
        module.register_forward_pre_hook(lambda _, inputs: self.shapes.append(tuple(inputs[0].shape)))


# --- steps ---


def test_training_step_returns_features_and_projections_of_first_then_second_views() -> None:
    model, batch, outputs = small(), view_batch(), Outputs()
    with torch.no_grad():  # BatchNorm in training mode depends on the batch alone
        features = model(batch.views[0].flatten(0, 1))
        projections = model.project(features)
    quiet_trainer(callbacks=outputs, max_steps=1).fit(model, loader([batch]))
    (returned,) = outputs.training
    assert returned.keys() == {"loss", "features", "projections"}
    torch.testing.assert_close(returned["features"], features)
    torch.testing.assert_close(returned["projections"], projections)
    torch.testing.assert_close(returned["loss"], nt_xent(projections[:6], projections[6:], temperature=0.1))
    assert not any(value.requires_grad for value in returned.values())
    assert returned["features"].shape == (12, model.feature_dim) == (12, 32)
    assert returned["projections"].shape == (12, 8)


def test_both_views_go_through_the_encoder_in_one_call() -> None:
    model = small()
    calls = CallShapes(model.encoder)
    quiet_trainer(max_steps=1).fit(model, loader([view_batch()]))
    assert calls.shapes == [(12, 3, 8, 8)]


def test_training_logs_loss_and_contrastive_metrics() -> None:
    model, batch, outputs = small(), view_batch(), Outputs()
    trainer = quiet_trainer(callbacks=outputs)
    trainer.fit(model, loader([batch]))
    first, second = outputs.training[0]["projections"].chunk(2)
    expected = {f"train/contrast_{name}": value for name, value in contrastive_metrics(first, second)._asdict().items()}
    expected["train/loss"] = outputs.training[0]["loss"]
    assert trainer.callback_metrics.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(trainer.callback_metrics[name], value)


def test_metrics_are_computed_at_logged_steps_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    computed_at = []

    def counted(*arguments: Any, **options: Any) -> Any:
        computed_at.append(trainer.global_step)
        return contrastive_metrics(*arguments, **options)

    monkeypatch.setattr(base, "contrastive_metrics", counted)
    trainer = quiet_trainer(log_every_n_steps=3)
    trainer.fit(small(), loader([view_batch() for _ in range(7)]))
    assert computed_at == [2, 5]  # the third and the sixth step


def test_validation_judges_clean_pictures_in_eval_mode() -> None:
    model, batch, outputs = small(), view_batch(), Outputs()
    model(torch.rand(8, 3, 8, 8))  # moves the running statistics away from those of the batch
    state = {name: value.clone() for name, value in model.state_dict().items()}
    calls = CallShapes(model.encoder)
    (metrics,) = quiet_trainer(callbacks=outputs).validate(model, loader([batch]), verbose=False)
    assert calls.shapes == [(12, 3, 8, 8), (6, 3, 8, 8)]
    (returned,) = outputs.validation
    assert returned.keys() == {"loss", "features", "projections"}
    model.eval()
    assert batch.images is not None
    torch.testing.assert_close(returned["features"], model(batch.images))
    torch.testing.assert_close(returned["projections"], model.project(model(batch.views[0].flatten(0, 1))))
    assert metrics.keys() == {"val/loss", "val/contrast_top1", "val/contrast_top5", "val/contrast_entropy"}
    assert metrics["val/loss"] == pytest.approx(returned["loss"].item())
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name


def test_validation_without_clean_pictures_gives_no_features() -> None:
    outputs = Outputs()
    quiet_trainer(callbacks=outputs).validate(small(), loader([view_batch()._replace(images=None)]), verbose=False)
    assert outputs.validation[0].keys() == {"loss", "projections"}


def test_prediction_gives_features_targets_and_indices() -> None:
    model, batches = small(), [view_batch(6), view_batch(1)]
    predictions = quiet_trainer().predict(model, loader(batches))
    assert predictions is not None
    model.eval()
    for prediction, batch in zip(predictions, batches, strict=True):
        assert isinstance(prediction, dict)
        assert batch.images is not None
        torch.testing.assert_close(prediction["features"], model(batch.images))
        assert torch.equal(prediction["targets"], batch.targets)
        assert torch.equal(prediction["indices"], batch.indices)


def test_gradient_reaches_every_parameter() -> None:
    class Gradients(Callback):
        def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
            self.found = {name: parameter.grad for name, parameter in pl_module.named_parameters()}

    gradients = Gradients()
    quiet_trainer(callbacks=gradients).fit(small(zero_init_residual=False), loader([view_batch()]))
    assert gradients.found
    for name, gradient in gradients.found.items():
        assert gradient is not None, name
        assert gradient.any(), name


@pytest.mark.parametrize("optimizer", ["lars", "sgd", "adamw"])
def test_training_lowers_the_loss(optimizer: Any) -> None:
    batch, outputs = view_batch(16), Outputs()
    rate = {"lars": 1.0, "sgd": 0.1, "adamw": 0.01}[optimizer]
    model = small(optimizer=optimizer, learning_rate=rate, loss=NTXentLoss(0.5))
    quiet_trainer(callbacks=outputs).fit(model, loader([batch] * 15))
    assert outputs.training[-1]["loss"] < outputs.training[0]["loss"] - 0.3


def test_bf16_mixed_trains_close_to_float32() -> None:
    losses = {}
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(0)
        outputs = Outputs()
        trainer = quiet_trainer(callbacks=outputs, precision=precision)
        model = small(optimizer="sgd", learning_rate=0.001, loss=NTXentLoss(0.5))
        trainer.fit(model, loader([view_batch(32) for _ in range(3)]))
        losses[precision] = torch.stack([output["loss"] for output in outputs.training])
    assert losses["bf16-mixed"].dtype == torch.float32
    assert not torch.equal(losses["bf16-mixed"], losses["32-true"])
    torch.testing.assert_close(losses["bf16-mixed"], losses["32-true"], rtol=0.05, atol=0)


def test_diverged_training_stops_at_the_next_logged_step() -> None:
    class Poison(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            with torch.no_grad():
                next(pl_module.parameters()).fill_(torch.nan)

    # NT-Xent looks at once where that is no wait, on a CPU; whatever the loss, every fourth step is logged.
    for loss, steps in ((Squared(), 3), (NTXentLoss(), 1)):
        trainer = quiet_trainer(log_every_n_steps=4, callbacks=Poison())
        with pytest.raises(ValueError, match=r"of 6 of 6 pictures are NaN .*training has diverged.*learning rate"):
            trainer.fit(small(loss=loss), loader([view_batch() for _ in range(8)]))
        assert trainer.global_step == steps


def test_learning_rate_that_is_far_too_high_is_reported() -> None:
    trainer = quiet_trainer()
    with pytest.raises(ValueError, match="training has diverged"):
        trainer.fit(small(optimizer="sgd", learning_rate=1e30), loader([view_batch() for _ in range(8)]))


# --- parts and options ---


def test_loss_is_an_object() -> None:
    outputs = Outputs()
    quiet_trainer(callbacks=outputs).fit(small(loss=Squared(2.0)), loader([view_batch()]))
    first, second = outputs.training[0]["projections"].chunk(2)
    torch.testing.assert_close(outputs.training[0]["loss"], 2 * (first - second).square().mean())


def test_default_loss_is_nt_xent_of_all_processes() -> None:
    projections = torch.randn(2, 5, 4)
    assert torch.equal(small().loss(projections), nt_xent(*projections, gather=True))


def test_loss_is_saved_as_primitives_and_its_buffers_too(tmp_path: Path) -> None:
    model = small(loss=Squared(3.0))
    path = trained_checkpoint(model, tmp_path)
    loaded = SimCLR.load_from_checkpoint(path, weights_only=True)
    assert isinstance(loaded.loss, Squared)
    assert loaded.loss.weight == 3.0
    assert loaded.loss.steps == model.loss.steps == 1


def test_loss_whose_class_is_not_imported_is_kept(tmp_path: Path) -> None:
    path = trained_checkpoint(small(loss=Squared(3.0)), tmp_path)
    content = torch.load(path, weights_only=True)
    content["hyper_parameters"]["loss"]["class_path"] = "their_package.losses.Squared"
    torch.save(content, path)
    loaded = SimCLR.load_from_checkpoint(path, weights_only=True)
    assert loaded.hparams["loss"] == {"class_path": "their_package.losses.Squared", "init_args": {"weight": 3.0}}
    assert loaded.state_dict().keys() == content["state_dict"].keys()
    assert loaded(torch.rand(2, 3, 8, 8)).shape == (2, 32)
    with pytest.raises(InputError, match=r"Import their_package\.losses before"):
        loaded.loss(torch.randn(2, 3, 4))


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")  # without a Trainer
@pytest.mark.parametrize("micro_batch_size", [None, 2])
@pytest.mark.parametrize("counts", [(4,), (1, 1), (2, 3), (2, 1, 2)])
def test_views_of_any_number_and_size_are_contrasted(counts: tuple[int, ...], micro_batch_size: int | None) -> None:
    sizes = (16, 8, 12)
    views = tuple(torch.rand(count, 6, 3, size, size) for count, size in zip(counts, sizes, strict=False))
    batch = ViewBatch(views, torch.arange(6), torch.arange(6))
    calls: list[int] = []
    model = small(zero_init_residual=False, micro_batch_size=micro_batch_size).eval()
    model.encoder.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    outputs = model.training_step(batch, 0)
    in_order = torch.cat([model(own.flatten(0, 1)) for own in views])
    torch.testing.assert_close(outputs["features"], in_order.detach())
    projections = torch.unflatten(model.project(in_order), 0, (sum(counts), 6))
    large = counts[0] if len(counts) > 1 else None  # the others are local crops
    torch.testing.assert_close(outputs["loss"], model.loss(projections, large=large))
    together = 6 if micro_batch_size is None else micro_batch_size
    by_size = {size: sum(c for c, s in zip(counts, sizes, strict=False) if s == size) for size in sizes}
    passes = [together * count for count in by_size.values() if count]
    assert calls[: len(passes)] == passes  # all views of one size in one pass


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")  # without a Trainer
def test_a_loss_is_given_what_it_takes() -> None:
    views, targets, groups = torch.rand(2, 4, 3, 8, 8), torch.tensor([0, 0, -1, 1]), torch.tensor([5, 7, 5, 9])
    batch = ViewBatch((views,), targets, torch.arange(4))
    for loss, given in ((SupConNTXent(), {"targets": targets}), (NTXentLoss(), {"groups": groups})):
        model = small(loss=loss).eval()
        outputs = model.training_step(batch._replace(groups=given.get("groups")), 0)
        projections = torch.unflatten(outputs["projections"], 0, (2, 4))
        torch.testing.assert_close(outputs["loss"].detach(), loss(projections, **given))
        assert not torch.equal(loss(projections, **given), loss(projections))
    with pytest.raises(InputError, match="Squared knows no groups"):
        small(loss=Squared()).training_step(batch._replace(groups=groups), 0)


def test_smaller_views_come_after_large_ones() -> None:
    batch = ViewBatch.of(torch.rand(4, 3, 8, 8), *torch.rand(2, 4, 3, 16, 16))
    with pytest.raises(InputError, match="list the recipes of the largest views first"):
        small().training_step(batch, 0)


def test_one_view_is_explained() -> None:
    for views in ((), (torch.rand(1, 4, 3, 8, 8),)):
        batch = ViewBatch(views, torch.arange(4), torch.arange(4), images=torch.rand(4, 3, 8, 8))
        with pytest.raises(InputError, match=r"contrasts two or more: use SimCLRDataModule"):
            small().training_step(batch, 0)


@pytest.mark.parametrize(("layers", "dimension"), [(0, 32), (1, 8), (2, 8), (3, 8)])
def test_projection_head_has_the_layers_asked_for(layers: int, dimension: int) -> None:
    model = small(projection_layers=layers, projection_hidden=20)
    assert model.project(torch.randn(4, 32)).shape == (4, dimension)
    linears = [module for module in model.head.modules() if isinstance(module, nn.Linear)]
    assert [linear.out_features for linear in linears] == [*[20] * (layers - 1), 8][:layers]


def test_encoder_is_built_with_the_options() -> None:
    model = small(in_channels=1, width=1 / 8, image_size=64)
    assert model(torch.rand(2, 1, 64, 64)).shape == (2, 64)
    assert model.encoder.get_parameter("conv1.weight").shape == (8, 1, 7, 7)  # the stem of large pictures
    assert model.encoder.get_parameter("layer1.0.bn2.weight").eq(0).all()
    assert small(zero_init_residual=False).encoder.get_parameter("layer1.0.bn2.weight").eq(1).all()
    assert small(stem="imagenet").encoder.get_parameter("conv1.weight").shape == (4, 3, 7, 7)


@pytest.mark.parametrize("channels_last", [True, False])
def test_memory_format_changes_speed_alone(channels_last: bool) -> None:
    model = small(channels_last=channels_last).eval()
    weight = model.encoder.get_parameter("layer1.0.conv1.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert weight.is_contiguous() != channels_last
    plain = small(channels_last=False).eval()
    plain.load_state_dict(model.state_dict())
    images = torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(model(images), plain(images))


@pytest.mark.parametrize(("name", "kind"), [("lars", LARS), ("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_optimizers_neither_decay_nor_adapt_biases_and_normalisation(name: Any, kind: type) -> None:
    model = small(optimizer=name, learning_rate=0.7, weight_decay=0.2, momentum=0.8, trust_coefficient=0.05)
    optimizer = model.configure_optimizers()
    assert type(optimizer) is kind
    weights, others = optimizer.param_groups
    assert {parameter.ndim for parameter in weights["params"]} == {2, 4}
    assert {parameter.ndim for parameter in others["params"]} == {1}
    assert len(weights["params"]) + len(others["params"]) == len(list(model.parameters()))
    assert (weights["weight_decay"], others["weight_decay"]) == (0.2, 0)
    assert (weights["adapt"], others["adapt"]) == (True, False)
    for group in (weights, others):
        assert group["lr"] == 0.7
        if name != "adamw":
            assert group["momentum"] == 0.8
        if name == "lars":
            assert group["trust_coefficient"] == 0.05
        if name == "sgd":
            assert group["nesterov"]


def test_sgd_without_momentum_is_possible() -> None:
    (weights, _) = small(optimizer="sgd", momentum=0.0).configure_optimizers().param_groups
    assert (weights["momentum"], weights["nesterov"]) == (0, False)


# --- checkpoints and subclasses ---


def trained_checkpoint(model: SimCLR, folder: Path) -> Path:
    trainer = quiet_trainer()
    trainer.fit(model, loader([view_batch()]))
    trainer.save_checkpoint(folder / "model.ckpt")
    return folder / "model.ckpt"


def test_checkpoint_loads_without_arguments(tmp_path: Path) -> None:
    model = small(loss=NTXentLoss(0.3), projection_layers=3)
    path = trained_checkpoint(model, tmp_path)
    loaded = SimCLR.load_from_checkpoint(path, weights_only=True)
    assert loaded.hparams == model.hparams
    assert isinstance(loaded.loss, NTXentLoss)
    assert loaded.loss.temperature == 0.3
    assert loaded.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name


def test_hyperparameters_are_primitives() -> None:
    loss, *others = (small().hparams.pop("loss"), *small().hparams.values())
    assert loss["class_path"] == "simclr_lightning.losses.nt_xent.NTXentLoss"
    for value in (*loss["init_args"].values(), *(value for value in others if value != loss)):
        assert isinstance(value, (str, int, float, bool, type(None)))


class Mine(SimCLR):
    """A third party's subclass with its own argument and encoder."""

    def __init__(self, features: int = 5, temperature: float = 0.2) -> None:
        super().__init__(loss=NTXentLoss(temperature), projection_dim=4)

    def build_encoder(self) -> nn.Module:
        features = self.hparams["features"]
        encoder = nn.Sequential(nn.Conv2d(3, features, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        encoder.feature_dim = features
        return encoder


def test_subclass_with_own_argument_and_encoder_is_saved_and_loaded(tmp_path: Path) -> None:
    model = Mine(features=7)
    assert model.feature_dim == 7
    assert model.hparams["temperature"] == 0.2
    assert model.hparams["projection_dim"] == 4
    loaded = Mine.load_from_checkpoint(trained_checkpoint(model, tmp_path), weights_only=True)
    assert loaded.feature_dim == 7
    images = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(loaded(images), model(images))


def test_head_can_be_overridden() -> None:
    class Linear(SimCLR):
        def build_head(self) -> nn.Module:
            return nn.Linear(self.feature_dim, self.hparams["projection_dim"])

    model = Linear("resnet10", width=1 / 16, image_size=8, projection_dim=3)
    assert model.project(model(torch.rand(2, 3, 8, 8))).shape == (2, 3)


def test_resumed_training_equals_uninterrupted_training(tmp_path: Path) -> None:
    batches = [view_batch(), view_batch()]
    torch.manual_seed(1)
    uninterrupted = small()
    quiet_trainer(max_epochs=2).fit(uninterrupted, loader(batches))
    torch.manual_seed(1)
    trainer = quiet_trainer()
    trainer.fit(small(), loader(batches))
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = small()
    quiet_trainer(max_epochs=2).fit(resumed, loader(batches), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    for name, value in uninterrupted.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


# --- errors ---


def test_wrong_number_of_channels_is_explained() -> None:
    with pytest.raises(ValueError, match=r"have 1 channels but the encoder was built for 3: set in_channels=1"):
        small()(torch.rand(2, 1, 8, 8))


def test_batch_of_one_picture_is_explained() -> None:
    with pytest.raises(ValueError, match=r"holds one picture, which leaves no negatives.*--data\.batch_size"):
        quiet_trainer().fit(small(), loader([view_batch(1)]))


def test_other_batches_than_view_batches_are_explained() -> None:
    tuples = DataLoader([tuple(torch.rand(2, 4, 3, 8, 8))], batch_size=None)  # type: ignore[arg-type, var-annotated]
    with pytest.raises(TypeError, match=r"trains on a ViewBatch, got a (list|tuple).*ViewBatch\.of"):
        quiet_trainer().fit(small(), tuples)


def test_prediction_without_clean_pictures_is_explained() -> None:
    with pytest.raises(ValueError, match="Prediction needs clean pictures"):
        quiet_trainer().predict(small(), loader([view_batch()._replace(images=None)]))


def test_temperature_must_be_positive() -> None:
    with pytest.raises(ValueError, match="temperature must be a positive number, got 0"):
        small(loss=NTXentLoss(0))


def test_unknown_encoder_is_explained() -> None:
    with pytest.raises(ValueError, match="resnet50"):
        small(encoder="resnet5")


def test_unknown_optimizer_is_explained() -> None:
    with pytest.raises(ValueError, match="optimizer is 'adam': choose lars, sgd, adamw"):
        small(optimizer="adam")


def test_encoder_without_feature_dim_is_explained() -> None:
    class Forgetful(SimCLR):
        def build_encoder(self) -> nn.Module:
            return nn.Sequential(nn.Flatten())

    with pytest.raises(TypeError, match=r"Sequential must have an int attribute feature_dim.*build_encoder\(\)"):
        Forgetful()


def test_checkpoint_from_before_the_loss_was_an_object_keeps_its_temperature(tmp_path: Path) -> None:
    path = trained_checkpoint(small(), tmp_path)
    content = torch.load(path, weights_only=True)
    del content["hyper_parameters"]["loss"]
    content["hyper_parameters"] |= {"temperature": 0.37, "normalize": True, "official_scale": True, "gather": False}
    torch.save(content, path)
    loaded = SimCLR.load_from_checkpoint(path, weights_only=True)
    assert isinstance(loaded.loss, NTXentLoss)
    assert (loaded.loss.temperature, loaded.loss.official_scale, loaded.loss.gather) == (0.37, True, False)
    assert loaded.hparams["loss"]["init_args"]["temperature"] == 0.37
    resumed = small(loss=NTXentLoss(0.9))
    quiet_trainer(max_epochs=2).fit(resumed, loader([view_batch()]), ckpt_path=path, weights_only=True)
    assert isinstance(resumed.loss, NTXentLoss)
    assert resumed.loss.temperature == 0.9  # typed


@pytest.mark.parametrize("loss", [nn.MSELoss(), "NTXentLoss"])
def test_what_is_no_contrastive_loss_is_explained(loss: Any) -> None:
    with pytest.raises(TypeError, match="expected a subclass of ContrastiveLoss"):
        small(loss=loss)
