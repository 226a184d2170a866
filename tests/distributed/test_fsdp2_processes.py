"""``Trainer(strategy=ModelParallelStrategy(...))``, which is FSDP2, trains as one process does with all pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from jsonargparse import Namespace
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from tests.distributed.harness import run_in_processes
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from simclr_lightning import LabelledDataModule
from simclr_lightning.callbacks import RepresentationHealth
from simclr_lightning.checkpoints import Checkpoint, DurableCheckpointIO
from simclr_lightning.classifiers import Classifier, FineTune, LinearEvaluation
from simclr_lightning.distributed import rank, world_size
from simclr_lightning.errors import InputError
from simclr_lightning.losses import LearnedTemperatureNTXent
from simclr_lightning.optim import parameter_groups
from simclr_lightning.simclr import SimCLR
from simclr_lightning.unchanged import check_goes_on
from simclr_lightning.views import ViewBatch

pytestmark = [
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`"),
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended before the epoch ended"),
    pytest.mark.filterwarnings("ignore:Complete collapse"),  # of noise, at a rate that shows differences
]

PICTURES = 12  # of a global batch
STEPS = 4
PROCESSES = 2


class Block(nn.Module):
    """Treats every picture by itself, without BatchNorm."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 8, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.GroupNorm(2, 8)

    def forward(self, images: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(images)))


class Encoder(nn.Module):
    """Blocks in a sequence, and a layer outside of it, whose outputs cannot be split evenly."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_dim = 5
        self.stage = nn.Sequential(Block(3, 2), Block(8, 1))
        self.last = nn.Conv2d(8, 5, 1)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.last(self.stage(images)).mean((2, 3), keepdim=True).flatten(1)  # a view
        return features


class Normalised(nn.Module):
    """BatchNorm, whose statistics are those of a process."""

    def __init__(self) -> None:
        super().__init__()
        self.feature_dim = 5
        self.layers = nn.Sequential(nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layers(images).mean((2, 3))
        return features


class Head(nn.Module):
    """Adds the same number to all projections of a picture: the weight of one row, which one process holds."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(5, 12)
        self.out = nn.Linear(12, 7, bias=False)
        self.shift = nn.Linear(12, 1)

    def forward(self, features: Tensor) -> Tensor:
        hidden = torch.relu(self.hidden(features))
        projections: Tensor = self.out(hidden) + self.shift(hidden)
        return projections


class Model(SimCLR):
    """A small SimCLR, in float64 so that rounding hides nothing."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.double()

    def build_encoder(self) -> nn.Module:
        return Normalised() if self.hparams["encoder"] == "normalised" else Encoder()

    def build_head(self) -> nn.Module:
        return Head()


class Losses(Callback):
    """Records the loss, and the gradients as they are when the optimizer steps."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []
        self.gradients: list[dict[str, Tensor]] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self.losses.append(trainer.callback_metrics["train/loss"].clone())
        gradients = {name: value.grad for name, value in pl_module.named_parameters() if value.grad is not None}
        self.gradients.append({name: whole(value).clone() for name, value in gradients.items()})


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def batches() -> list[ViewBatch]:
    """Of this process: its part of the pictures of all processes."""
    generator = torch.Generator().manual_seed(2)
    result = []
    for _ in range(STEPS):
        pictures = torch.randn(2, PICTURES, 3, 8, 8, generator=generator, dtype=torch.float64)
        result.append(ViewBatch.of(*pictures.tensor_split(world_size(), dim=1)[rank()]))
    return result


def trainer_for(strategy: str, folder: str, **options: Any) -> Trainer:
    strategies: dict[str, Any] = {
        "fsdp2": lambda: ModelParallelStrategy(world_size(), 1, save_distributed_checkpoint=False),
        "fsdp2 in pieces": lambda: ModelParallelStrategy(world_size(), 1),
        "tensor": lambda: ModelParallelStrategy(1, world_size()),
        "forgotten": ModelParallelStrategy,
    }
    return Trainer(
        accelerator="cpu",
        strategy=strategies[strategy]() if strategy in strategies else strategy,
        devices=world_size(),
        log_every_n_steps=1,
        use_distributed_sampler=False,  # each process has its own pictures already
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )


def loader() -> DataLoader[ViewBatch]:
    return DataLoader(batches(), batch_size=None)  # type: ignore[arg-type]


def train(strategy: str, folder: str, trainer: dict[str, Any], **options: Any) -> dict[str, Any]:
    torch.manual_seed(rank())  # the weights of the first process are those of all
    model = Model(weight_decay=1e-2, **{"learning_rate": 1.0, **options})
    losses = Losses()
    trained = trainer_for(
        strategy, folder, callbacks=[losses, RepresentationHealth(pictures=4)], max_steps=STEPS, **trainer
    )
    trained.fit(model, loader())
    return {
        "losses": losses.losses,
        "gradients": losses.gradients,
        "weights": {name: whole(value).detach() for name, value in model.named_parameters()},
        "buffers": dict(model.named_buffers()),
        "split": [isinstance(value, DTensor) for value in model.parameters()],
        "groups": [len(group["params"]) for group in trained.optimizers[0].param_groups],
    }


Cases = dict[str, tuple[dict[str, Any], dict[str, Any]]]  # arguments of the Trainer, and of the model
CASES: Cases = {
    "lars": ({}, {}),
    "sgd": ({}, {"optimizer": "sgd", "learning_rate": 0.1}),
    "contiguous": ({}, {"channels_last": False}),
    "clipped": ({"gradient_clip_val": 1e-2}, {}),
    "accumulated": ({"accumulate_grad_batches": 2}, {}),
    "micro-batches": ({}, {"micro_batch_size": 2}),
    "learned temperature": ({}, {"loss": LearnedTemperatureNTXent(0.2).config()}),
}
NORMALISED: Cases = {
    "batchnorm": ({}, {"encoder": "normalised"}),
    "batchnorm, adamw": ({}, {"encoder": "normalised", "optimizer": "adamw", "learning_rate": 1e-3}),
    "batchnorm, micro-batches": ({}, {"encoder": "normalised", "micro_batch_size": 3}),
}


def trainings(folder: str) -> dict[Any, Any]:
    strategies = ("fsdp2", "ddp") if world_size() > 1 else ("auto",)
    results: dict[Any, Any] = {}
    for strategy in strategies:
        for name, (trainer, options) in (CASES | NORMALISED).items():
            results[strategy, name] = train(strategy, folder, trainer, **{"optimizer": "lars", **options})
    return results


class Gray(SimCLR):
    """Of pictures of one channel, in float32."""

    def build_encoder(self) -> nn.Module:
        encoder = Encoder()
        encoder.stage[0] = Block(1, 2)
        return encoder


def judged(folder: str) -> dict[Any, Any]:
    """Classifiers after an epoch and a validation on 143 pictures, which two processes cannot share equally."""
    results = {}
    for strategy in ("fsdp2", "ddp"):
        for kind in (LinearEvaluation, FineTune):
            torch.manual_seed(0)
            classifier: Classifier = kind.of(Gray(), learning_rate=0.1)
            trainer = trainer_for(strategy, folder, max_epochs=1)
            trainer.fit(classifier, LabelledDataModule(batch_size=100, augmentation="none", val_fraction=143 / 1437))
            weights = {name: whole(value).detach() for name, value in classifier.named_parameters()}
            results[strategy, kind.__name__] = (weights, trainer.callback_metrics)
    return results


def begun(folder: str) -> None:
    """Writes checkpoints after half of the steps."""
    for strategy in ("fsdp2", "fsdp2 in pieces") if world_size() > 1 else ("auto",):
        torch.manual_seed(rank())
        trainer = trainer_for(strategy, folder, max_steps=STEPS // 2)
        trainer.fit(Model(weight_decay=1e-2, learning_rate=1.0), loader())
        trainer.save_checkpoint(Path(folder, f"{strategy}.ckpt"))


def resumed(folder: str, strategy: str, name: str) -> dict[str, Tensor]:
    """Weights after all steps; the batches begin anew."""
    torch.manual_seed(17)
    model = Model(weight_decay=1e-2, learning_rate=1.0)
    trainer = trainer_for(strategy, folder, max_steps=STEPS)
    trainer.fit(model, loader(), ckpt_path=Path(folder, f"{name}.ckpt"), weights_only=False)
    assert trainer.global_step == STEPS
    return {name: whole(value).detach() for name, value in model.named_parameters()}


def refusals(folder: str) -> dict[str, str]:
    """Messages."""
    results = {}
    for strategy in ("tensor", "forgotten"):
        with pytest.raises(InputError) as caught:
            trainer_for(strategy, folder, max_steps=1).fit(Model(), loader())
        results[strategy] = str(caught.value)
    for use_orig_params in (True, False):  # Lightning's FSDPStrategy takes no CPU
        network = nn.Sequential(Encoder(), Head())
        flattened = FullyShardedDataParallel(network, use_orig_params=use_orig_params, device_id=torch.device("cpu"))
        with pytest.raises(InputError) as caught:
            parameter_groups(flattened, weight_decay=0.1)
        results[f"fsdp {use_orig_params}"] = str(caught.value)
    return results


def parameter_of_no_part(folder: str) -> str:
    model = Model()
    model.register_parameter("temperature", nn.Parameter(torch.ones(1)))
    with pytest.raises(InputError) as caught:
        trainer_for("fsdp2", folder, max_steps=1).fit(model, loader())
    return str(caught.value)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def alone(folder: str) -> dict[Any, Any]:
    (result,) = run_in_processes(trainings, 1, folder)
    return dict(result)


@pytest.fixture(scope="module")
def together(folder: str) -> list[dict[Any, Any]]:
    return run_in_processes(trainings, PROCESSES, folder)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("strategy", ["fsdp2", "ddp"])
def test_fsdp2_trains_as_ddp_and_one_process_do(
    alone: dict[Any, Any], together: list[dict[Any, Any]], case: str, strategy: str
) -> None:
    expected = alone["auto", case]
    assert not any(expected["split"])
    learned = [name for name in expected["weights"] if name.startswith("loss.")]
    assert len(learned) == (case == "learned temperature")
    for process in together:
        found = process[strategy, case]
        assert all(value == (strategy == "fsdp2") for value in found["split"])
        assert found["groups"] == expected["groups"] == [6, 7 + len(learned)]  # weights; biases and normalisation
        torch.testing.assert_close(found["losses"], expected["losses"], rtol=1e-12, atol=0)
        assert len(found["gradients"]) == len(expected["gradients"]) > 0
        for value, truth in zip(found["gradients"], expected["gradients"], strict=True):
            torch.testing.assert_close(value, truth, rtol=1e-10, atol=1e-14)
        torch.testing.assert_close(found["weights"], expected["weights"], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", NORMALISED)
def test_batchnorm_is_that_of_ddp(together: list[dict[Any, Any]], case: str) -> None:
    for process in together:
        found, expected = process["fsdp2", case], process["ddp", case]
        torch.testing.assert_close(found["losses"], expected["losses"], rtol=1e-12, atol=0)
        torch.testing.assert_close(found["weights"], expected["weights"], rtol=1e-10, atol=1e-12)
    first = together[0]  # whose statistics a checkpoint holds
    assert len(first["fsdp2", case]["buffers"]) == 3
    torch.testing.assert_close(first["fsdp2", case]["buffers"], first["ddp", case]["buffers"], rtol=1e-10, atol=1e-12)


def test_classifiers_are_trained_and_judged_as_under_ddp(folder: str) -> None:
    for process in run_in_processes(judged, PROCESSES, folder):
        for kind in ("LinearEvaluation", "FineTune"):
            weights, metrics = process["fsdp2", kind]
            expected_weights, expected_metrics = process["ddp", kind]
            torch.testing.assert_close(weights, expected_weights, rtol=1e-4, atol=1e-6)
            assert "val/top1" in metrics
            torch.testing.assert_close(metrics, expected_metrics, rtol=1e-4, atol=1e-6)


def test_a_checkpoint_goes_on_from_one_file_or_from_pieces_and_under_other_strategies(folder: str) -> None:
    run_in_processes(begun, 1, folder)
    run_in_processes(begun, PROCESSES, folder)
    assert Path(folder, "fsdp2 in pieces.ckpt").is_dir()
    (expected,) = run_in_processes(resumed, 1, folder, "auto", "auto")
    others = run_in_processes(resumed, 1, folder, "auto", "fsdp2")
    others += run_in_processes(resumed, PROCESSES, folder, "ddp", "fsdp2")
    for name in ("fsdp2", "fsdp2 in pieces"):
        others += run_in_processes(resumed, PROCESSES, folder, name, name)
    assert len(others) == 7
    for weights in others:
        torch.testing.assert_close(weights, expected, rtol=1e-10, atol=1e-12)


def test_another_strategy_that_cannot_go_on_says_so_before_it_begins(tmp_path: Path) -> None:
    namespace: Any = Namespace
    fsdp2 = namespace(class_path="lightning.pytorch.strategies.ModelParallelStrategy", init_args=namespace())
    names = {"state": {"encoder.weight": {}, "encoder.bias": {}}, "param_groups": [{}, {}]}
    numbers = {**names, "state": {0: {}, 1: {}}}

    def check(strategy: Any, path: Path, state: dict[str, Any] | None) -> None:
        content = {} if state is None else {"optimizer_states": [state]}
        model = namespace(init_args=namespace())
        chosen = namespace(model=model, trainer=namespace(strategy=strategy, max_epochs=-1, max_steps=-1))
        check_goes_on(chosen, Checkpoint(path, content), asked=True)

    file, pieces = tmp_path / "last.ckpt", tmp_path / "pieces.ckpt" / "meta.pt"
    pieces.parent.mkdir()
    pieces.touch()
    for strategy, path, state in [
        (fsdp2, file, names),
        (fsdp2, pieces, None),
        ("ddp", file, names),
        ("auto", file, numbers),
        (fsdp2, file, {**numbers, "param_groups": [{}]}),  # numbered as the parameters are
    ]:
        check(strategy, path, state)
    with pytest.raises(InputError, match="numbers its parameters, such as DDP, and FSDP2 would give") as caught:
        check(fsdp2, file, numbers)
    assert f"--model.init_from {file}" in str(caught.value)
    with pytest.raises(InputError, match="is a folder of pieces, from which only `simclr fit` by FSDP2 goes on"):
        check("ddp", pieces, None)
    with pytest.raises(InputError, match=r"pieces\.ckpt is a folder of pieces"):
        DurableCheckpointIO().load_checkpoint(pieces.parent)


def test_what_would_train_something_else_is_refused_with_words(folder: str) -> None:
    for found in run_in_processes(refusals, PROCESSES, folder):
        for name in ("fsdp True", "fsdp False"):
            assert "flattens all parameters" in found[name]
            assert "--trainer.strategy ddp" in found[name]
        for name in ("tensor", "forgotten"):
            assert "--trainer.strategy.data_parallel_size 2 --trainer.strategy.tensor_parallel_size 1" in found[name]
        assert all(message.count("\n") < 3 for message in found.values())
    for message in run_in_processes(parameter_of_no_part, PROCESSES, folder):
        assert "its parameter temperature belongs to none" in message
