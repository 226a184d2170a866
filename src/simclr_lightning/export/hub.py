"""A folder as the Hugging Face Hub takes it: weights in safetensors, config.json for timm and transformers, a card."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import yaml

from simclr_lightning.checkpoints import import_path, plain_scale
from simclr_lightning.checkpoints.hub_folder import CONFIG, ENCODER, OTHER_WEIGHTS, SECTION, section_of
from simclr_lightning.errors import InputError
from simclr_lightning.export.trained import Trained, literal
from simclr_lightning.simclr import SimCLR
from simclr_lightning.views import centre_share

CARD = "README.md"
"""Name of the model card, as the Hub shows it."""

_FILTERS = ("bicubic", "bilinear")


def write_hub_folder(trained: Trained, folder: Path) -> None:
    """Write everything but the card into a new folder.

    Raises:
        InputError: if JSON cannot hold a hyperparameter of the model.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import torch
        >>> from simclr_lightning.checkpoints import Checkpoint
        >>> model = SimCLR(encoder="resnet8", width=0.125, image_size=16).eval()
        >>> checkpoint = Checkpoint(Path("last.ckpt"), {"hyper_parameters": dict(model.hparams)})
        >>> trained = Trained(checkpoint, model, model.encoder, torch.rand(2, 3, 16, 16))
        >>> with TemporaryDirectory() as name:
        ...     write_hub_folder(trained, Path(name, "mine"))
        ...     sorted(file.name for file in Path(name, "mine").iterdir())
        ['config.json', 'model.safetensors', 'simclr.safetensors']
    """
    from safetensors.torch import save_file

    checkpoint = trained.checkpoint
    clean = {**checkpoint.clean_pictures, "eval_size": trained.images.shape[-1]}
    content = {**checkpoint.content, "hyper_parameters": checkpoint.hyperparameters}
    config = {**_for_timm(trained, clean), SECTION: section_of(content, clean, plain_scale(checkpoint.data))}
    try:
        text = json.dumps(config, indent=2, allow_nan=False)
    except (RecursionError, TypeError, ValueError) as error:
        raise InputError(
            f"JSON cannot hold the hyperparameters of {checkpoint.path} ({error}): take the format torch_export or "
            "onnx, whose files need none."
        ) from error
    folder.mkdir()
    (folder / CONFIG).write_text(f"{text}\n", encoding="utf-8")
    encoder = {name: tensor.contiguous() for name, tensor in trained.encoder.state_dict().items()}
    others = {
        name: tensor.contiguous()
        for name, tensor in trained.model.state_dict().items()
        if not name.startswith("encoder.")
    }
    save_file(encoder, folder / ENCODER, {"format": "pt"})
    if others:
        save_file(others, folder / OTHER_WEIGHTS, {"format": "pt"})


def load_hub_folder(trained: Trained, folder: str) -> str:
    """Python that loads a folder's encoder: by timm where it has the network, else by this package.

    Example:
        >>> import torch
        >>> from simclr_lightning.checkpoints import Checkpoint
        >>> model = SimCLR(encoder="resnet8", width=0.125)
        >>> trained = Trained(Checkpoint(Path("last.ckpt"), {}), model, model.encoder, torch.rand(2, 3, 16, 16))
        >>> print(load_hub_folder(trained, "mine"))
        import torch
        from simclr_lightning import SimCLR
        <BLANKLINE>
        encoder = SimCLR.from_pretrained("mine").encoder
    """
    if trained.in_timm is None:
        return f"import torch\n{_whole_model('encoder', trained.model, folder)}.encoder"
    name = literal(f"local-dir:{folder}")
    return f"import timm\nimport torch\n\nencoder = timm.create_model({name}, pretrained=True).eval()"


def notes(trained: Trained, folder: str) -> str:
    """What a card says of the ways to load a folder, in Markdown.

    Example:
        >>> import torch
        >>> from simclr_lightning.checkpoints import Checkpoint
        >>> model = SimCLR(encoder="resnet8", width=0.125)
        >>> trained = Trained(Checkpoint(Path("last.ckpt"), {}), model, model.encoder, torch.rand(2, 3, 16, 16))
        >>> notes(trained, "mine").splitlines()[0]
        'timm has no such network, and so transformers has none. It takes this package, simclr-lightning,'
    """
    if trained.in_timm is None:
        loading = """timm has no such network, and so transformers has none. It takes this package, simclr-lightning,
which reads the folder as data and runs nothing in it."""
    else:
        name = trained.in_timm.name
        loading = f"""This is timm's `{name}`. From the Hub it is `hf-hub:OWNER/NAME` instead of `local-dir:FOLDER`,
and `num_classes=10` adds a new classifier. In transformers, `AutoModel.from_pretrained(FOLDER)` gives the features as
`pooler_output`. What prepares a picture of PIL:

```python
prepare = timm.data.create_transform(**timm.data.resolve_model_data_config(encoder))
```"""
    return f"""{loading}

The whole model of SimCLR, with its projection head:

```python
{_whole_model("model", trained.model, folder)}
```
"""


def metadata(trained: Trained) -> str:
    """The YAML in front of a card. Nothing in it is from a checkpoint, and the licence is for its owner to name.

    Example:
        >>> import torch
        >>> from simclr_lightning.checkpoints import Checkpoint
        >>> model = SimCLR(encoder="resnet8", width=0.125)
        >>> trained = Trained(Checkpoint(Path("last.ckpt"), {}), model, model.encoder, torch.rand(2, 3, 16, 16))
        >>> metadata(trained).splitlines()[1]
        'library_name: simclr-lightning'
    """
    tags = ["simclr", "self-supervised-learning", "simclr-lightning"]
    told = {
        "library_name": "simclr-lightning" if trained.in_timm is None else "timm",
        "pipeline_tag": "image-feature-extraction",
        "tags": tags if trained.in_timm is None else [*tags, "timm", "transformers"],
    }
    return f"---\n{yaml.safe_dump(told, sort_keys=False)}---\n\n"


def _whole_model(variable: str, model: SimCLR, folder: str) -> str:
    package, _, name = import_path(type(model)).rpartition(".")
    package = "simclr_lightning" if type(model) is SimCLR else package
    return f"from {package} import {name}\n\n{variable} = {name}.from_pretrained({literal(folder)})"


def _for_timm(trained: Trained, clean: dict[str, Any]) -> dict[str, Any]:
    """The keys of config.json that timm and transformers read."""
    found = trained.in_timm
    if found is None:  # they say that they do not know this name, instead of loading half of it
        return {"architecture": f"simclr_lightning/{type(trained.encoder).__name__}"}
    known = (
        {} if found.config is None else {"first_conv": found.config.first_conv, "classifier": found.config.classifier}
    )
    if found.config is not None and found.config.fixed_input_size:
        known["fixed_input_size"] = True
    return {
        "architecture": found.name,
        "num_classes": 0,
        "num_features": trained.model.feature_dim,
        "model_args": found.arguments,
        "pretrained_cfg": {**_preprocessing(clean, *trained.images.shape[1:]), "num_classes": 0, **known},
    }


def _preprocessing(clean: dict[str, Any], channels: int, height: int, width: int) -> dict[str, Any]:
    """How clean pictures are prepared, in timm's words."""
    mean, std = (_numbers(clean.get(name), channels) for name in ("mean", "std"))
    if mean is None or std is None:
        mean, std = [0.0] * channels, [1.0] * channels  # left out, they would be ImageNet's
    kernel, share = clean.get("interpolation"), _numbers([clean.get("eval_crop")], 1)
    return {
        "input_size": [channels, height, width],
        "interpolation": kernel if kernel in _FILTERS else _FILTERS[0],
        "crop_pct": centre_share(share[0] if share else None, height),
        "crop_mode": "center",
        "mean": mean,
        "std": std,
    }


def _numbers(value: Any, channels: int) -> list[float] | None:
    """A finite number for each channel, None if that is not what a checkpoint tells."""
    if not isinstance(value, list | tuple) or len(value) != channels:
        return None
    if not all(isinstance(number, float | int) and math.isfinite(number) for number in value):
        return None
    return [float(number) for number in value]
