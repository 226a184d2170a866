"""Checkpoints of the peers' own classes give the peers' features."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import torchvision
from tests.models.trained import trained
from torch import Tensor, nn

from simclr_lightning import SimCLR

STEMS: tuple[Literal["imagenet", "cifar"], ...] = ("imagenet", "cifar")

Import = Callable[[str], Any]


def assert_same_features(module: nn.Module, stem: Literal["imagenet", "cifar"], theirs: Any, folder: Path) -> None:
    """The encoder that is loaded from a module's checkpoint gives the features that the peer computes."""
    path = folder / "peer.ckpt"
    hyperparameters = dict(getattr(module, "hparams", {}))
    torch.save({"epoch": 3, "state_dict": module.state_dict(), "hyper_parameters": hyperparameters}, path)
    encoder: Any = SimCLR.load_encoder(path, "resnet18", stem=stem)
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected: Tensor = theirs(images).flatten(1)
        assert expected.std() > 0.01
        torch.testing.assert_close(encoder(images), expected, rtol=1e-6, atol=1e-6)


def test_lightly(peer: Import, tmp_path: Path) -> None:
    """The module of its documentation: https://docs.lightly.ai/self-supervised-learning/examples/simclr.html."""

    class Theirs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            resnet = torchvision.models.resnet18()
            self.backbone = nn.Sequential(*list(resnet.children())[:-1])
            self.projection_head = peer("lightly.models.modules.heads").SimCLRProjectionHead(512, 2048, 2048)
            self.criterion = peer("lightly.loss.ntx_ent_loss").NTXentLoss()

    module = trained(Theirs())
    assert_same_features(module, "imagenet", module.backbone, tmp_path)


@pytest.mark.parametrize("stem", STEMS)
def test_solo_learn(stem: Literal["imagenet", "cifar"], peer: Import, tmp_path: Path) -> None:
    theirs = peer("solo.methods.simclr").SimCLR
    module = trained(
        theirs(
            encoder="resnet18", backbone_args={"cifar": stem == "cifar"}, proj_output_dim=8, proj_hidden_dim=16,
            temperature=0.1, num_classes=10, max_epochs=1, batch_size=4, optimizer="sgd", lars=False, lr=0.1,
            weight_decay=0.0, classifier_lr=0.1, exclude_bias_n_norm=False, accumulate_grad_batches=1,
            extra_optimizer_args={}, scheduler="none", min_lr=0.0, warmup_start_lr=0.0, warmup_epochs=0.0,
            num_large_crops=2, num_small_crops=0,
        )
    )  # fmt: skip
    assert_same_features(module, stem, module.encoder, tmp_path)
