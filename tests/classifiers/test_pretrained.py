"""What a classifier starts from is named, or the message says how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from simclr_lightning import SimCLR
from simclr_lightning.classifiers import Supervised
from simclr_lightning.classifiers.pretrained import starting_model

Save = Callable[..., Path]


def test_a_checkpoint_to_start_from_is_named_or_the_message_says_how(save: Save, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Which encoder\?.*--model\.checkpoint runs/"):
        starting_model(None, None, SimCLR)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint 'typo\.ckpt'.*--model\.checkpoint runs/"):
        starting_model("typo.ckpt", None, SimCLR)
    with pytest.raises(ValueError, match="does not tell its architecture"):
        starting_model(save(Supervised("resnet8", width=0.25, num_classes=3)), None, SimCLR)
