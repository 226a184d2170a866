"""SimCLR with ``micro_batch_size``: the training of the whole batch, in the memory of a micro-batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

import simclr_lightning.simclr as simclr_module
from simclr_lightning.losses import NTXentLoss
from simclr_lightning.simclr import SimCLR
from simclr_lightning.views import ViewBatch

PICTURES = 10

pytestmark = [
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:You are trying to `self.log"),  # without a Trainer
]


class Encoder(nn.Sequential):
    """Treats every picture by itself: GroupNorm instead of BatchNorm."""

    feature_dim = 24

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3, stride=2), nn.GroupNorm(2, 8), nn.ReLU(), nn.Conv2d(8, 6, 2), nn.Flatten())


class PerPicture(SimCLR):
    """Has that encoder."""

    def build_encoder(self) -> nn.Module:
        return Encoder()

    def build_head(self) -> nn.Module:
        return nn.Sequential(nn.Linear(24, 12), nn.ReLU(), nn.Linear(12, 5))


def model_of(kind: type[SimCLR] = PerPicture, **arguments: Any) -> SimCLR:
    """The same weights at every call."""
    torch.manual_seed(0)
    defaults: dict[str, Any] = {"encoder": "resnet10", "width": 1 / 16, "image_size": 8, "zero_init_residual": False}
    return kind(**defaults | {"optimizer": "sgd", "learning_rate": 0.1, "loss": NTXentLoss(0.5)} | arguments)


def batch_of(pictures: int = PICTURES, seed: int = 1) -> ViewBatch:
    first, second, images = torch.rand(3, pictures, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    return ViewBatch.of(first, second)._replace(images=images)


def trainer_of(**arguments: Any) -> Trainer:
    defaults: dict[str, Any] = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "num_sanity_val_steps": 0}
    quiet: dict[str, Any] = dict.fromkeys(
        ("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
    )
    return Trainer(**defaults | quiet | arguments)


def loader_of(batches: list[ViewBatch]) -> DataLoader[ViewBatch]:
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


def step(model: SimCLR, batch: ViewBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the training step returns, and the gradients."""
    outputs = model.train().training_step(batch, 0)
    torch.autograd.backward(outputs["loss"])
    return outputs, {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


def relative_error(value: Tensor, truth: Tensor) -> float:
    assert value.dtype == truth.dtype
    return float((value - truth).detach().norm() / truth.detach().norm())


def recorded_sizes(module: nn.Module) -> list[int]:
    """Number of pictures at every call of a module, once it is called."""
    sizes: list[int] = []
    module.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    return sizes


@pytest.mark.parametrize("size", [1, 3, 5, 9, 10, 4096])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_loss_features_and_gradients_are_those_of_the_whole_batch(
    dtype: torch.dtype, tolerance: float, size: int
) -> None:
    batch = batch_of()
    batch = batch._replace(views=tuple(own.to(dtype) for own in batch.views))
    truth, gradients = step(model_of().to(dtype), batch)
    found, found_gradients = step(model_of(micro_batch_size=size).to(dtype), batch)
    assert found.keys() == truth.keys() == {"loss", "features", "projections"}
    for name, value in truth.items():
        assert relative_error(found[name], value) < tolerance, name
    assert found_gradients.keys() == gradients.keys() == dict(model_of().named_parameters()).keys()
    for name, value in gradients.items():
        assert relative_error(found_gradients[name], value) < tolerance, name


# bfloat16 rounds the gradients of weights in every micro-batch anew: 0.06, where its own error here is above 0.4.
@pytest.mark.parametrize("size", [1, 5])
@pytest.mark.parametrize(
    ("options", "arguments", "tolerance"),
    [
        ({}, {}, 3e-5),
        ({"gradient_clip_val": 0.05}, {}, 1e-5),
        ({"accumulate_grad_batches": 2}, {}, 1e-5),
        ({}, {"optimizer": "lars", "learning_rate": 5.0}, 1e-5),
        ({"precision": "64-true"}, {}, 1e-13),
        ({"precision": "bf16-mixed"}, {}, 0.1),
    ],
    ids=["plain", "clipping", "accumulation", "LARS", "float64", "bf16"],
)
def test_trainer_moves_weights_as_with_whole_batches(
    options: dict[str, Any], arguments: dict[str, Any], tolerance: float, size: int
) -> None:
    start = torch.cat([value.detach().flatten() for value in model_of().parameters()])

    def movement(micro_batch_size: int | None) -> Tensor:
        model = model_of(micro_batch_size=micro_batch_size, **arguments)
        trainer_of(**options).fit(model, loader_of([batch_of(seed=seed) for seed in range(4)]))
        return torch.cat([value.detach().flatten() for value in model.parameters()]) - start

    truth = movement(None)
    assert truth.norm() > 1e-3
    assert relative_error(movement(size), truth) < tolerance


@pytest.mark.parametrize("momentum", [0.1, None])
def test_batch_norm_sees_every_micro_batch_once(momentum: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    def stepped() -> tuple[SimCLR, dict[str, Tensor]]:
        model = model_of(SimCLR, micro_batch_size=4)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = momentum
        return model, step(model, batch_of())[1]

    model, gradients = stepped()
    monkeypatch.setattr(simclr_module, "recomputed", lambda function, part, _: function(part))
    plain, plain_gradients = stepped()  # the same micro-batches, whose activations are kept
    assert model.encoder.get_buffer("bn1.num_batches_tracked") == 3
    assert model.encoder.get_buffer("bn1.running_mean").any()
    for name, value in plain.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    for name, value in plain_gradients.items():
        assert torch.equal(gradients[name], value), name


def test_dropout_draws_the_same_numbers_again(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dropping(PerPicture):
        def project(self, features: Tensor) -> Tensor:
            return super().project(nn.functional.dropout(features, 0.5, training=self.training))

    found, gradients = step(model_of(Dropping, micro_batch_size=3), batch_of())
    after = torch.rand(())
    monkeypatch.setattr(simclr_module, "recomputed", lambda function, part, _: function(part))
    truth, plain_gradients = step(model_of(Dropping, micro_batch_size=3), batch_of())
    assert torch.equal(torch.rand(()), after)  # later random numbers are the same, too
    assert torch.equal(found["loss"], truth["loss"])
    for name, value in plain_gradients.items():
        assert torch.equal(gradients[name], value), name


def test_both_views_of_a_picture_share_a_micro_batch_and_the_last_is_kept() -> None:
    model, batch = model_of(micro_batch_size=4), batch_of()
    sizes = recorded_sizes(model.encoder)
    seen: list[Tensor] = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    step(model, batch)
    assert sizes == [8, 6, 6, 6, 8]  # backward recomputes the second, then the first
    assert torch.equal(seen[0], batch.views[0][:, :4].flatten(0, 1))
    assert torch.equal(seen[2], batch.views[0][:, 7:].flatten(0, 1))


def test_overridden_hooks_are_called_for_every_micro_batch() -> None:
    class Mine(PerPicture):
        def forward(self, images: Tensor) -> Tensor:
            calls.append(("forward", len(images)))
            return 2 * super().forward(images)

        def project(self, features: Tensor) -> Tensor:
            calls.append(("project", len(features)))
            return super().project(features) + 1

    class Counted(NTXentLoss):
        def forward(self, projections: Tensor) -> Tensor:  # type: ignore[override]
            calls.append(("contrast", projections.shape[1]))
            return super().forward(projections)

    calls: list[tuple[str, int]] = []
    truth, _ = step(model_of(Mine, loss=Counted()), batch_of())
    assert calls == [("forward", 20), ("project", 20), ("contrast", 10)]
    calls.clear()
    found, _ = step(model_of(Mine, loss=Counted(), micro_batch_size=5), batch_of())
    both = [("forward", 10), ("project", 10)]
    assert calls == [*both, *both, ("contrast", 10), *both]
    for name, value in truth.items():
        torch.testing.assert_close(found[name], value)


def kept_bytes(run: Callable[[], object]) -> int:
    """Bytes of all tensors that autograd keeps for backward."""
    storages: dict[int, int] = {}
    kept: list[Tensor] = []  # or another tensor might get the address of one that is gone

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    return sum(storages.values())


def test_activations_of_one_micro_batch_alone_are_kept() -> None:
    pictures = 64
    batch = batch_of(pictures)

    def kept(size: int | None) -> int:
        model = model_of(SimCLR, width=1 / 8, micro_batch_size=size)
        fixed = sum(value.nbytes for value in (*model.parameters(), *model.buffers(), *batch.views))
        return kept_bytes(lambda: model.train().training_step(batch, 0)) - fixed

    whole = kept(None)
    assert whole > 4 * batch.views[0].nbytes
    assert kept(8) < whole / 5  # an eighth, and what the loss keeps
    assert kept(16) < whole / 3


def test_evaluation_and_prediction_take_micro_batches_and_give_the_same() -> None:
    batch = batch_of()
    (truth,) = trainer_of().validate(model_of(SimCLR), loader_of([batch]), verbose=False)
    model = model_of(SimCLR, micro_batch_size=4)
    sizes = recorded_sizes(model.encoder)
    (found,) = trainer_of().validate(model, loader_of([batch]), verbose=False)
    assert sizes == [8, 6, 6, 4, 3, 3]
    assert found == pytest.approx(truth)
    for name, value in model_of(SimCLR).state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    sizes.clear()
    predictions = trainer_of().predict(model, loader_of([batch]))
    assert sizes == [4, 3, 3]
    assert predictions is not None
    assert isinstance(predictions[0], dict)
    assert batch.images is not None
    with torch.no_grad():
        torch.testing.assert_close(predictions[0]["features"], model.eval()(batch.images))


def test_size_is_a_hyperparameter_that_must_make_sense() -> None:
    assert model_of(micro_batch_size=3).hparams["micro_batch_size"] == 3
    assert model_of().hparams["micro_batch_size"] is None
    with pytest.raises(ValueError, match="micro_batch_size must be a whole number of pictures, at least 1, got 0"):
        model_of(micro_batch_size=0)
