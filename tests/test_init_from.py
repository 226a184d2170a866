"""Training from weights: the encoder's alone, all of them, once; and an encoder that stays as it is for a while."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from lightning.pytorch import Callback, LightningModule, Trainer
from tests.distributed.harness import run_in_processes
from tests.models.trained import trained
from torch import Tensor, nn
from torch.utils.data import DataLoader

from simclr_lightning import LARSWarmup, SimCLR, ViewBatch
from simclr_lightning.checkpoints import load_model
from simclr_lightning.classifiers import FineTune, LinearEvaluation, Supervised
from simclr_lightning.distributed import rank, world_size
from simclr_lightning.errors import InputError, MissingFileError
from simclr_lightning.models.published import for_channels, published_weights

pytestmark = pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
GREY = IMAGES[:, :1]


def small(**arguments: Any) -> SimCLR:
    defaults: dict[str, Any] = {"encoder": "resnet10", "width": 1 / 16, "stem": "cifar", "zero_init_residual": False}
    return SimCLR(**defaults | {"projection_dim": 8} | arguments)


def features(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = network.eval()(images)
    return result


def quiet(**arguments: Any) -> Trainer:
    bare = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return Trainer(**{"accelerator": "cpu", "max_epochs": 1, "enable_checkpointing": False, **bare, **arguments})


def batches(count: int = 4, pictures: int = 6, channels: int = 3) -> DataLoader[ViewBatch]:
    """Of this process: its part of the pictures of all."""
    views = torch.rand(count, 2, pictures, channels, 8, 8, generator=torch.Generator().manual_seed(1))
    share = pictures // world_size()
    own = views[:, :, rank() * share : (rank() + 1) * share]
    return DataLoader([ViewBatch.of(*pair) for pair in own], batch_size=None)  # type: ignore[arg-type]


# --- whose weights ---


def test_own_checkpoint_gives_the_encoder_alone(save: Callable[..., Path]) -> None:
    source = trained(small())
    model = small(init_from=str(save(source)), projection_layers=3)
    assert torch.equal(features(model, IMAGES), features(source, IMAGES))
    assert model.head.state_dict().keys() != source.head.state_dict().keys()
    assert not torch.equal(next(model.head.parameters()), next(source.head.parameters()))
    assert model.encoder_origin is not None
    assert model.training is False  # by features(), not by loading:
    assert small(init_from=model.encoder_origin).encoder.training


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1)])
def test_weights_are_those_of_any_number_of_fields(before: int, after: int, save: Callable[..., Path]) -> None:
    source = trained(small(pool_grid=before))
    model = small(init_from=str(save(source)), pool_grid=after)
    both = [features(own, IMAGES) for own in (source, model)]
    torch.testing.assert_close(*(torch.unflatten(found, 1, (32, -1)).mean(-1) for found in both))


@pytest.mark.parametrize("kind", ["linear", "finetune", "supervised"])
def test_checkpoint_of_a_classifier(kind: str, save: Callable[..., Path]) -> None:
    source = trained(small())
    options: dict[str, Any] = {"encoder": "resnet10", "width": 1 / 16, "stem": "cifar"}
    kinds: dict[str, Callable[[], Any]] = {
        "linear": lambda: LinearEvaluation.of(source, num_classes=3),
        "finetune": lambda: FineTune.of(source, num_classes=3, head_layers=1),
        "supervised": lambda: Supervised(**options, num_classes=3),
    }
    classifier = kinds[kind]()
    model = small(init_from=str(save(classifier)))
    assert torch.equal(features(model, IMAGES), features(classifier.encoder, IMAGES))


@pytest.mark.parametrize("form", ["torchvision", "lightly", "safetensors"])
def test_weights_of_other_packages(form: str, tmp_path: Path) -> None:
    network = trained(torchvision.models.resnet18(weights=None))
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        safetensors.torch.save_file(network.state_dict(), path)
    elif form == "lightly":
        backbone = nn.Sequential(*list(network.children())[:-1])
        parts = nn.ModuleDict({"backbone": backbone, "projection_head": nn.Linear(2, 2)})
        torch.save({"state_dict": parts.state_dict()}, path)
    else:
        torch.save(network.state_dict(), path)
    model = SimCLR("resnet18", init_from=str(path), channels_last=False)
    network.fc = nn.Identity()
    assert torch.equal(features(model, IMAGES), features(network, IMAGES))


def test_published_weights_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    network = trained(torchvision.models.mobilenet_v3_small(weights=None))
    asked: list[Any] = []

    def download(url: str, **options: Any) -> Any:
        asked.append((url, options))
        return network.state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    model = SimCLR("torchvision/mobilenet_v3_small", init_from="torchvision", channels_last=False)
    network.classifier[3] = network.classifier[2] = nn.Identity()
    assert torch.equal(features(model, IMAGES), features(network, IMAGES))
    ((url, options),) = asked
    assert "mobilenet_v3_small" in url
    assert options["weights_only"], "nothing in the file is executed"
    SimCLR("torchvision/mobilenet_v3_small")
    assert len(asked) == 1, "only who asks has something downloaded"


@pytest.mark.parametrize(("name", "size"), [("resnet10t", 32), ("vit_tiny_patch16_224", 32)])
def test_published_weights_of_timm(name: str, size: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    network = trained(timm.create_model(name, pretrained=False))
    torch.save(network.state_dict(), tmp_path / "published.pth")
    config: Any = timm.get_pretrained_cfg(name)
    create: Any = timm.create_model

    def from_file(*arguments: Any, **options: Any) -> Any:  # timm's own loading, but of a file
        overlay = {"file": str(tmp_path / "published.pth")} if options["pretrained"] else None
        return create(*arguments, **options, pretrained_cfg_overlay=overlay)

    monkeypatch.setattr(timm, "create_model", from_file)
    model = SimCLR(f"timm/{name}", init_from="timm", image_size=size, channels_last=False)
    resized = {"img_size": size} if config.fixed_input_size else {}
    same = from_file(name, pretrained=True, num_classes=0, **resized)
    assert torch.equal(features(model, IMAGES), features(same, IMAGES))
    blocks = "layer1.0.conv1.weight" if name == "resnet10t" else "blocks.0.mlp.fc1.weight"
    assert torch.equal(model.encoder.state_dict()[blocks], network.state_dict()[blocks])


# --- other channels ---


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 13])
@pytest.mark.parametrize("own", [True, False])
def test_grey_pictures_have_the_features_that_they_had(
    channels: int, own: bool, save: Callable[..., Path], tmp_path: Path
) -> None:
    source: Any = trained(small()) if own else trained(torchvision.models.resnet18(weights=None))
    if own:
        path = save(source)
        model = small(init_from=str(path), in_channels=channels)
    else:
        path = tmp_path / "weights.pth"
        torch.save(source.state_dict(), path)
        model = SimCLR("resnet18", init_from=str(path), in_channels=channels)
        source.fc = nn.Identity()
    grey, theirs = GREY.repeat(1, channels, 1, 1), GREY.repeat(1, 3, 1, 1)
    torch.testing.assert_close(features(model, grey), features(source, theirs), rtol=1e-4, atol=1e-5)


def test_from_one_channel_to_three(save: Callable[..., Path]) -> None:
    source = trained(small(in_channels=1))
    model = small(init_from=str(save(source)))
    expected = features(source, GREY)
    torch.testing.assert_close(features(model, GREY.repeat(1, 3, 1, 1)), expected, rtol=1e-4, atol=1e-5)


def test_channels_are_repeated_in_their_order_and_averaged() -> None:
    weight = torch.randn(5, 3, 2, 2, dtype=torch.float64)
    assert torch.equal(for_channels(weight, 3), weight)
    torch.testing.assert_close(for_channels(weight, 6), torch.cat([weight, weight], 1) / 2)
    torch.testing.assert_close(for_channels(weight, 1), 3 * weight.mean(1, keepdim=True))


# --- refusals ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"width": 1 / 8},
            r"of another shape: encoder\.bn1\.bias \(\(4,\) instead of \(8,\)\)",
        ),
        ({"encoder": "resnet8"}, r"unknown to the model: encoder\.layer4"),
        ({"encoder": "resnet18"}, r"missing from the checkpoint: encoder\.layer1\.1"),
        ({"stem": "imagenet"}, r"of another shape: encoder\.conv1\.weight"),
        ({"stem": "imagenet", "in_channels": 1}, r"of another shape: encoder\.conv1\.weight"),
    ],
)
def test_what_does_not_fit_is_named(arguments: Any, message: str, save: Callable[..., Path]) -> None:
    path = save(small())
    with pytest.raises(InputError, match=message) as caught:
        small(init_from=str(path), **arguments)
    assert len(str(caught.value).splitlines()) <= 3


def test_a_file_that_is_not_there_or_no_weights(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"There is no file 'gone\.pth'.*torchvision or timm"):
        small(init_from="gone.pth")
    torch.save(small(), tmp_path / "objects.pth")
    with pytest.raises(InputError, match="weights_only=True, which refuses them"):
        small(init_from=str(tmp_path / "objects.pth"))


@pytest.mark.parametrize(
    ("library", "encoder", "message"),
    [
        (
            "torchvision",
            "resnet8",
            r"none of torchvision: name one \(--model\.encoder torchvision/resnet18\)",
        ),
        ("torchvision", "timm/resnet18", "is none of torchvision"),
        ("timm", "resnet18", "is none of timm"),
    ],
)
def test_encoder_of_another_library(library: str, encoder: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        published_weights(library, encoder)


def test_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(url: str, **_: Any) -> Any:
        raise OSError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(InputError, match=r"cannot be had \(Name or service not known\): try again online"):
        SimCLR("torchvision/resnet18", init_from="torchvision")


@pytest.mark.parametrize("epochs", [-1, float("nan"), float("inf"), True, "1"])
def test_freeze_epochs_is_a_number(epochs: Any) -> None:
    with pytest.raises(InputError, match="freeze_epochs is"):
        small(freeze_epochs=epochs)


# --- checkpoints of the run ---


@pytest.fixture
def run(save: Callable[..., Path], tmp_path: Path) -> Path:
    """Checkpoint after an epoch of a run whose source is gone."""
    source = save(trained(small()), "source.ckpt")
    trainer = quiet(default_root_dir=tmp_path)
    trainer.fit(small(init_from=str(source), freeze_epochs=0.5), batches())
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    source.unlink()
    return tmp_path / "run.ckpt"


def test_source_is_not_read_again(run: Path, save: Callable[..., Path], tmp_path: Path) -> None:
    content = torch.load(run, weights_only=True)
    assert content["init_from"] == str(tmp_path / "source.ckpt")
    loaded = SimCLR.load_from_checkpoint(run, weights_only=True)
    assert loaded.encoder_origin == content["init_from"]
    for model in (loaded, load_model(SimCLR, run), FineTune(run, num_classes=3), small(init_from=str(run))):
        weights: Any = model.encoder.state_dict()
        assert all(torch.equal(weights[name], content["state_dict"][f"encoder.{name}"]) for name in weights)
    again = quiet(max_epochs=2)
    again.fit(loaded, batches(), ckpt_path=run, weights_only=True)
    assert again.global_step == 8
    classifier = FineTune.load_from_checkpoint(save(FineTune(run, num_classes=3)), weights_only=True)
    assert torch.equal(features(classifier.encoder, IMAGES), features(SimCLR.load_encoder(run), IMAGES))


def test_checkpoints_from_before_have_neither_argument(run: Path) -> None:
    content = torch.load(run, weights_only=True)
    for name in ("init_from", "freeze_epochs"):
        del content["hyper_parameters"][name]
    del content["init_from"]
    torch.save(content, run)
    for model in (SimCLR.load_from_checkpoint(run, weights_only=True), load_model(SimCLR, run)):
        assert model.encoder_origin is None
        quiet(max_epochs=2).fit(model, batches(), ckpt_path=run, weights_only=True)


# --- a frozen encoder ---


class Frozen(Callback):
    """Whether the encoder's weights, statistics and counters were those of the beginning, after every step."""

    def __init__(self) -> None:
        self.same: list[bool] = []
        self.rates: list[float] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.before = {name: value.clone() for name, value in pl_module.encoder.state_dict().items()}  # type: ignore[union-attr]

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        now = pl_module.encoder.state_dict()
        unlike = [name for name, value in self.before.items() if not torch.equal(now[name], value)]
        assert len(unlike) in (0, len(self.before)), unlike
        self.same.append(not unlike)
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def fitted(freeze_epochs: float, trainer: Any = None, **arguments: Any) -> tuple[SimCLR, Frozen]:
    torch.manual_seed(0)
    settings = {"optimizer": "lars", "learning_rate": 1.0, "weight_decay": 0.1, **arguments}
    model, frozen = small(freeze_epochs=freeze_epochs, **settings), Frozen()
    callbacks = [LARSWarmup(warmup_steps=0, batch_size=6), frozen]
    quiet(**{"max_epochs": 3, "callbacks": callbacks, **(trainer or {})}).fit(model, batches())
    return model, frozen


@pytest.mark.parametrize("micro_batch_size", [None, 2])
@pytest.mark.parametrize("optimizer", ["lars", "sgd", "adamw"])
@pytest.mark.parametrize(("epochs", "steps"), [(0, 0), (1, 4), (1.5, 6), (2, 8), (9, 12)])
def test_encoder_stays_for_so_many_epochs(epochs: float, steps: int, optimizer: str, micro_batch_size: Any) -> None:
    arguments: dict[str, Any] = {"optimizer": optimizer, "learning_rate": 0.1, "micro_batch_size": micro_batch_size}
    model, frozen = fitted(epochs, **arguments)
    assert frozen.same == [True] * steps + [False] * (12 - steps)
    torch.manual_seed(0)
    untrained = small()
    assert not torch.equal(next(model.head.parameters()), next(untrained.head.parameters())), "the head learns"
    assert model.encoder.training == (steps < 12)


def test_schedule_is_the_same_and_momentum_begins_with_the_weights() -> None:
    rates = fitted(2)[1].rates
    assert rates == fitted(0)[1].rates
    stopped = Frozen()
    trainer = quiet(max_epochs=2, callbacks=[stopped])
    model = small(freeze_epochs=2, weight_decay=0.1)
    trainer.fit(model, batches())
    (optimizer,) = trainer.optimizers
    assert not any(parameter in optimizer.state for parameter in model.encoder.parameters())
    assert all(parameter in optimizer.state for parameter in model.head.parameters())


def test_a_frozen_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole, _ = fitted(1.5)
    for epochs in (1, 2):  # within, and after
        torch.manual_seed(0)
        model = small(freeze_epochs=1.5, optimizer="lars", learning_rate=1.0, weight_decay=0.1)

        class Stop(Callback):
            def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
                trainer.should_stop = trainer.current_epoch + 1 == epochs  # noqa: B023

        first = quiet(max_epochs=3, callbacks=[LARSWarmup(warmup_steps=0, batch_size=6), Stop()])
        first.fit(model, batches())
        first.save_checkpoint(tmp_path / "part.ckpt")
        resumed = SimCLR.load_from_checkpoint(tmp_path / "part.ckpt", weights_only=True)
        second = quiet(max_epochs=3, callbacks=[LARSWarmup(warmup_steps=0, batch_size=6)])
        second.fit(resumed, batches(), ckpt_path=tmp_path / "part.ckpt", weights_only=True)
        assert all(torch.equal(value, whole.state_dict()[name]) for name, value in resumed.state_dict().items())


def test_validation_between_leaves_it_frozen() -> None:
    torch.manual_seed(0)
    model, frozen = small(freeze_epochs=2), Frozen()
    settings: dict[str, Any] = {"max_epochs": 3, "callbacks": [frozen], "val_check_interval": 2}
    quiet(**settings).fit(model, batches(), batches(1))
    assert frozen.same == [True] * 8 + [False] * 4


def frozen_in_processes(options: dict[str, Any]) -> dict[str, Any]:
    strategy: Any = "ddp" if world_size() > 1 else "auto"
    if options.pop("fsdp", False) and world_size() > 1:
        from lightning.pytorch.strategies import ModelParallelStrategy

        strategy = ModelParallelStrategy(
            data_parallel_size=world_size(), tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    torch.manual_seed(0)
    model = GroupNormed(freeze_epochs=1.5, optimizer="lars", learning_rate=1.0, weight_decay=0.1, **options)
    settings = {"max_epochs": 3, "strategy": strategy, "devices": world_size(), "use_distributed_sampler": False}
    kinds: list[bool] = []

    class Gradients(Callback):
        def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
            kinds.append(any(parameter.grad is not None for parameter in pl_module.encoder.parameters()))

    callbacks = [LARSWarmup(warmup_steps=0, batch_size=6), Gradients()]
    quiet(**settings, callbacks=callbacks, gradient_clip_val=1.0).fit(model, batches())
    weights = {name: getattr(value, "full_tensor", lambda v=value: v)() for name, value in model.state_dict().items()}
    return {"weights": weights, "learns": kinds}


class GroupNormed(SimCLR):
    """Without BatchNorm, whose statistics are those of a process."""

    def build_encoder(self) -> nn.Module:
        layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, stride=2), nn.GroupNorm(2, 8), nn.ReLU()]
        encoder: Any = nn.Sequential(*layers, nn.Conv2d(8, 12, 2), nn.Flatten())
        encoder.feature_dim = 48
        return encoder  # type: ignore[no-any-return]

    def build_head(self) -> nn.Module:
        return nn.Sequential(nn.Linear(48, 12), nn.ReLU(), nn.Linear(12, 5, bias=False))


@pytest.mark.parametrize(
    "options", [{}, {"micro_batch_size": 2}, {"fsdp": True}], ids=["ddp", "ddp-micro-batches", "fsdp2"]
)
def test_two_processes_are_as_one(options: dict[str, Any]) -> None:
    (alone,) = run_in_processes(frozen_in_processes, 1, options)
    assert alone["learns"] == [False] * 6 + [True] * 6
    for process in run_in_processes(frozen_in_processes, 2, options):
        assert process["learns"] == alone["learns"]
        for name, value in process["weights"].items():
            torch.testing.assert_close(value, alone["weights"][name], rtol=1e-4, atol=1e-5)
