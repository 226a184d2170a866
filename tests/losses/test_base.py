"""A loss is an object that a config names and a checkpoint keeps."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from simclr_lightning.errors import InputError
from simclr_lightning.losses import ContrastiveLoss, NTXentLoss, build_loss
from simclr_lightning.losses.base import UnknownLoss


class Queue(ContrastiveLoss):
    queue: Tensor

    def __init__(self, length: int = 4, *, scale: float = 1.0, sizes: tuple[int, ...] = (1, 2), **rest: str) -> None:
        super().__init__()
        self.register_buffer("queue", torch.zeros(length, 3))
        self.inner = nn.Linear(3, 1)
        self.scale = scale

    def forward(self, projections: Tensor) -> Tensor:
        return self.scale * projections.mean()


def test_arguments_are_remembered_by_name_with_defaults() -> None:
    arguments = Queue(6, name="x").config()["init_args"]
    assert arguments == {"length": 6, "scale": 1.0, "sizes": (1, 2), "name": "x"}


def test_a_loss_is_built_anew_from_its_config() -> None:
    loss = build_loss(Queue(6, scale=2.0).config())
    assert isinstance(loss, Queue)
    assert loss.scale == 2.0
    assert loss.queue.shape == (6, 3)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda loss: pickle.loads(pickle.dumps(loss))])
def test_copies_remember_too(copied: object) -> None:
    loss = copied(Queue(5))  # type: ignore[operator]
    assert loss.config() == Queue(5).config()
    assert torch.equal(loss.queue, Queue(5).queue)


def test_wrong_arguments_are_the_constructors_to_complain_of() -> None:
    with pytest.raises(TypeError, match="temprature"):
        NTXentLoss(temprature=0.1)  # type: ignore[call-arg]
    with pytest.raises(InputError, match=r"does not take the arguments .*'temprature'"):
        build_loss({"class_path": "simclr_lightning.losses.nt_xent.NTXentLoss", "init_args": {"temprature": 1}})


def test_arguments_that_a_checkpoint_cannot_keep_are_refused() -> None:
    with pytest.raises(InputError, match="scale of Queue is a Tensor: checkpoints hold numbers"):
        Queue(scale=torch.ones(())).config()  # type: ignore[arg-type]


def test_nothing_is_imported_because_a_config_names_it() -> None:
    config = {"class_path": "antigravity.Loss", "init_args": {"beta": 1}}
    loss = build_loss(config)
    assert isinstance(loss, UnknownLoss)
    assert loss.config() == config
    with pytest.raises(InputError, match="Import antigravity before the checkpoint is loaded"):
        loss(torch.randn(2, 3, 4))


def test_an_unknown_loss_keeps_its_tensors() -> None:
    model = nn.ModuleDict({"loss": UnknownLoss("theirs.Loss", {})})
    saved = {"loss.queue": torch.randn(3), "loss.inner.weight": torch.randn(1, 3), "loss.inner.bias": torch.randn(1)}
    model.load_state_dict(saved, strict=True)
    assert model.state_dict().keys() == saved.keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, saved[name])
    model.load_state_dict(saved, strict=True)  # once more


def test_other_losses_have_no_figures_to_expect_and_are_watched_by_cosines() -> None:
    assert Queue().expected(16) is None
    eye = torch.eye(4)
    assert Queue().metrics(torch.stack([eye, eye])).top1 == 1


def test_a_loss_may_be_named_where_it_is_exported() -> None:
    for path in ("simclr_lightning.losses.NTXentLoss", "simclr_lightning.losses.nt_xent.NTXentLoss"):
        loss = build_loss({"class_path": path, "init_args": {"temperature": 0.3}})
        assert isinstance(loss, NTXentLoss)
        assert loss.temperature == 0.3


@pytest.mark.parametrize("path", ["os.system", "torch.nn.Linear", "None", "", "simclr_lightning.losses.nt_xent"])
def test_what_is_no_loss_is_not_called(path: str) -> None:
    assert isinstance(build_loss({"class_path": path, "init_args": {"command": "true"}}), UnknownLoss)
