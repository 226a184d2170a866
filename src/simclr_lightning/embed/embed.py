"""``simclr embed``: a checkpoint and pictures in, one file of features out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from lightning.fabric import Fabric
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from simclr_lightning.checkpoints import CLEAN_FIELDS, is_address, load_encoder, plain_scale, read_checkpoint
from simclr_lightning.checkpoints.hub_folder import bytes_of
from simclr_lightning.data import PictureSets
from simclr_lightning.data.bad_pictures import Reading
from simclr_lightning.data.chosen import choose_source
from simclr_lightning.data.folder import find_roots
from simclr_lightning.data.readers.array_sets import holds_a_set
from simclr_lightning.data.value_range import check_scale
from simclr_lightning.embed.arguments import check_arguments, check_channels, check_described
from simclr_lightning.embed.compute import compute_parts
from simclr_lightning.embed.concat import ConcatPictures, SplitName
from simclr_lightning.embed.parts import FORMATS, Parts
from simclr_lightning.embed.patches import PatchNetwork, check_stage
from simclr_lightning.errors import ExistingFileError, InputError, options_without, require_packages
from simclr_lightning.models import Stem
from simclr_lightning.simclr import SimCLR
from simclr_lightning.versions import version_of
from simclr_lightning.views import ValueRange, ViewRecipe

PART = 1024
"""Pictures of a part, about: what a run that is stopped may have to do again."""


def embed_pictures(
    ckpt_path: str | Path,
    output: str | Path,
    root: str | Path = "data",
    dataset: str | Callable[..., Any] = "folder",
    split: SplitName = "all",
    encoder: str | None = None,
    width: float = 1.0,
    stem: Stem = "auto",
    in_channels: int = 3,
    model: type[SimCLR] = SimCLR,
    eval_size: int | None = None,
    eval_crop: float | None = None,
    interpolation: Literal["bicubic", "bilinear"] | None = None,
    scale: Literal["dtype"] | list[float] | list[list[float]] | None = None,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    normalize: bool = False,
    patches: bool = False,
    stage: str | None = None,
    on_bad_picture: Literal["raise", "skip"] = "raise",
    max_bad_share: float = 0.1,
    max_megapixels: float | None = None,
    batch_size: int = 256,
    num_workers: int | None = None,
    accelerator: str = "auto",
    devices: int | str = "auto",
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = "32-true",
    download: bool = True,
) -> Path:
    """Write the features of all pictures of a folder or a data set into one file, with their names and labels.

    Pictures are prepared as for ``simclr evaluate``: without augmentation, by the checkpoint's recipe. Memory does not
    grow with their number. A run that was stopped goes on where it was when the same command is typed again: until the
    file is complete, its parts are in a folder beside it, named after it with .parts at the end. No file is
    overwritten.

    The file holds the same features in the same order for any number of processes, which ``devices`` starts, or
    ``torchrun``; all nodes need the folder of the output.

    Args:
        ckpt_path: checkpoint of a pre-trained model; of another package, where ``encoder`` says what it holds.
        output: the file, with the suffix .npz or .parquet (which needs pyarrow).
        root: folder of the pictures, or several, [a, b].
        dataset: folder, or whatever else ``simclr fit --data.dataset`` takes: a name such as cifar10, or the import
            path of a callable that returns a map-style data set.
        split: train, val or test, or all of them, one after the other.
        encoder: architecture of a checkpoint that does not tell it, as in ``SimCLR.load_encoder``.
        width: of that architecture.
        stem: of that architecture.
        in_channels: of that architecture.
        model: class of the model, where it is not SimCLR, as an import path: my_project.MySimCLR.
        eval_size: side of the clean pictures in pixels; by default the checkpoint's.
        eval_crop: share of the shorter side that clean pictures keep; by default the checkpoint's, or that of
            ``ViewRecipe``.
        interpolation: filter that resizes pictures, bicubic or bilinear; by default the checkpoint's, or bicubic.
        scale: what counts as black and as white, as two numbers; dtype: the range of the pictures' type. By default the
            checkpoint's, or dtype.
        mean: per channel, subtracted from pixels in [0, 1]; by default the checkpoint's, or none.
        std: per channel, divides what is left; given together with ``mean``.
        normalize: scale the features of every picture, or patch, to unit length.
        patches: write the encoder's map of features, (F, h, w) for each picture, instead of their pooled vector.
        stage: part of the encoder whose map is wanted, such as layer3 or blocks.5; by default the last one.
        on_bad_picture: what to do about a picture that cannot be read. raise: stop with its name. skip: name it and
            leave it out of the file; OUTPUT.unreadable.txt lists them.
        max_bad_share: share of the pictures seen that skip may leave out; with more, the run stops.
        max_megapixels: larger pictures count as unreadable, and are not decoded. None: 179.
        batch_size: pictures that each process encodes at once.
        num_workers: processes that load pictures, for each device. None: none for pictures in memory, otherwise one per
            core that is left, at most 32.
        accelerator: auto, cpu, gpu, or another one of Lightning's.
        devices: how many of them, or auto.
        precision: 32-true, as ``simclr evaluate`` has it by default, or 16-mixed or bf16-mixed, which are faster on
            accelerators.
        download: fetch the data set if it is not under ``root``.

    Returns:
        The path of the file.

    Raises:
        BadPictureError: if a picture cannot be read and is not to be skipped; what was computed is kept.
        ExistingFileError: if the file is there already.
        MissingFileError: if there is no such checkpoint or folder, or no picture in it.
        MissingPackageError: if the format needs a package that is missing.
        InputError: if an argument is out of range, the checkpoint or the pictures do not fit, an unfinished run with
            other settings is in the way, or a feature is not finite.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> import numpy, torch
        >>> trained = SimCLR(encoder="resnet8", width=0.125, image_size=16, in_channels=1)
        >>> content = {"state_dict": trained.state_dict(), "hyper_parameters": dict(trained.hparams)}
        >>> with TemporaryDirectory() as folder:  # a run would have left the checkpoint
        ...     torch.save({**content, "pytorch-lightning_version": "2.6.0"}, f"{folder}/last.ckpt")
        ...     options = {"dataset": "digits", "split": "test", "accelerator": "cpu", "devices": 1}
        ...     file = embed_pictures(f"{folder}/last.ckpt", f"{folder}/features.npz", **options)  # doctest: +ELLIPSIS
        ...     archive = numpy.load(file)
        ...     archive["features"].shape, archive["files"].tolist()[:2]
        360 pictures, 16 x 16 pixels (bicubic, values in [0, 1]), on 1 x cpu, 32-true
        ...
        ((360, 32), ['test/0', 'test/1'])
    """
    output = Path(output)
    _check(output, root, dataset, on_bad_picture)
    check_arguments(batch_size, num_workers, devices, accelerator)
    check_described(encoder, width, stem, in_channels)
    check_stage(patches, stage)
    with options_without("data."):
        reading = Reading(max_megapixels, max_bad_share, output.with_name(f"{output.name}.unreadable.txt"))
        data = choose_source(dataset, root).source
    check_scale(scale)
    asked = {"eval_size": eval_size, "eval_crop": eval_crop, "interpolation": interpolation, "mean": mean, "std": std}
    checkpoint = read_checkpoint(ckpt_path)
    values = plain_scale({"scale": scale}) or plain_scale(checkpoint.data)
    black_and_white = None if values in (None, "dtype") else ValueRange.of(values)
    clean_pictures = checkpoint.clean_pictures if encoder is None else {}
    if encoder is None:
        if clean_pictures:
            _recipe(clean_pictures, asked)  # which is cheaper than an encoder
        network = load_encoder(checkpoint, model)
        recipe = _recipe(clean_pictures, asked)
    else:
        recipe = _recipe(clean_pictures, asked)
        told: dict[str, Any] = {"width": width, "stem": stem, "in_channels": in_channels}
        network = load_encoder(checkpoint, model, encoder=encoder, image_size=recipe.eval_size, **told)
    if patches:
        channels = checkpoint.hyperparameters.get("in_channels", in_channels)
        network = PatchNetwork(network, recipe.eval_size, channels, stage)
    fabric = _launched(accelerator, devices, precision)

    with fabric.rank_zero_first(local=True):
        sets = data.load(str(root), download and getattr(data, "downloads", True) and fabric.local_rank == 0)
    if not isinstance(sets, PictureSets):
        raise InputError(
            f"{dataset} comes as a stream, whose pictures have no place in a file: embed a map-style data set."
        )
    pictures = ConcatPictures(sets, split, root)
    for part in pictures.splits.values():
        part.reading = reading
    check_channels(pictures, network, recipe)
    batches = pictures.batches(batch_size)
    per_part = max(1, (network.pictures_of_a_part(PART) if isinstance(network, PatchNetwork) else PART) // batch_size)
    plan = [batches[first : first + per_part] for first in range(0, len(batches), per_part)]
    settings = {
        "checkpoint": _digest(ckpt_path),
        "model": _import_path(model),
        "encoder": encoder and [encoder, width, stem, in_channels],
        "dataset": dataset if isinstance(dataset, str) else _import_path(dataset),
        "split": split,
        "pictures": pictures.fingerprint(),
        **{name: getattr(recipe, name) for name in CLEAN_FIELDS if name != "normalize"},
        "normalize_pictures": recipe.normalize,  # "normalize" is about the features
        "scale": values,
        "normalize": normalize,
        **({"patches": stage or "last"} if patches else {}),
        "batch_size": batch_size,
        "precision": precision,
        "simclr-lightning": version_of("simclr-lightning"),
    }
    parts = Parts(output.with_name(f"{output.name}.parts"), settings, len(plan))
    if fabric.is_global_zero:
        where = f"{fabric.world_size} x {fabric.device.type}, {precision}"
        print(f"{len(pictures)} pictures, {_described(recipe, black_and_white)}, on {where}")
    compute_parts(
        fabric,
        network.to(fabric.device),
        pictures,
        recipe,
        parts,
        plan,
        scale=black_and_white,
        normalize=normalize,
        on_bad_picture=on_bad_picture,
        num_workers=num_workers,
    )
    if fabric.is_global_zero:
        _finish(output, parts, pictures)
    fabric.barrier()
    return output


def _check(output: Path, root: str | Path, dataset: str | Callable[..., Any], on_bad_picture: str) -> None:
    if output.suffix not in FORMATS:
        raise InputError(f"The output is named {output.name}: its suffix must be one of {', '.join(FORMATS)}.")
    require_packages(f"A {output.suffix} file", FORMATS[output.suffix].packages)
    if output.exists():
        raise ExistingFileError(f"{output} exists and is not overwritten: name another file (--output), or move it.")
    if on_bad_picture not in ("raise", "skip"):
        raise InputError(f"on_bad_picture is {on_bad_picture!r}: choose raise or skip (--on_bad_picture).")
    if dataset == "folder" and not holds_a_set(root):
        with options_without("data."):
            find_roots(root)


def _recipe(told: dict[str, Any], asked: dict[str, Any]) -> ViewRecipe:
    """What the checkpoint tells of its clean pictures, and what was asked for instead."""
    fields = {"eval_size": None, **told, **{name: value for name, value in asked.items() if value is not None}}
    if asked["mean"] is not None:
        fields["normalize"] = "recipe"
    if fields["eval_size"] is None:
        raise InputError("The checkpoint does not tell the size of its pictures: name it, as --eval_size 224.")
    return ViewRecipe(**fields)


def _described(recipe: ViewRecipe, black_and_white: ValueRange | None) -> str:
    unit = "[0, 1]" if black_and_white is None else f"[0, 1] from {black_and_white.low} to {black_and_white.high}"
    scale = f"values in {unit}" if recipe.mean is None else f"less {recipe.mean}, divided by {recipe.std}"
    if recipe.normalize == "picture":
        scale = "each channel to mean 0, standard deviation 1"
    share = "" if recipe.eval_crop is None else f"the central {100 * recipe.eval_crop:g} % of the shorter side, "
    return f"{recipe.eval_size} x {recipe.eval_size} pixels ({share}{recipe.interpolation}, {scale})"


def _launched(accelerator: str, devices: int | str, precision: Any) -> Fabric:
    """One process for each device; those that torchrun has started are enough."""
    nodes = 1
    if TorchElasticEnvironment.detect():
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        if str(devices) not in ("auto", str(local)):
            raise InputError(f"devices is {devices}, but torchrun has started {local} process(es) here: leave it out.")
        devices, nodes = local, int(os.environ["WORLD_SIZE"]) // local
    fabric = Fabric(accelerator=accelerator, devices=devices, num_nodes=nodes, precision=precision)
    fabric.launch()
    return fabric


def _import_path(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__name__)}"


def _digest(path: str | Path) -> str:
    return str(path) if is_address(path) else hashlib.sha256(bytes_of(path)).hexdigest()[:16]


def _finish(output: Path, parts: Parts, pictures: ConcatPictures) -> None:
    """Put the parts together; the file appears when it is complete."""
    rows = sum(len(targets) for targets in parts.arrays("targets"))
    skipped = [message for messages in parts.arrays("skipped") for message in messages.tolist()]
    if not rows:
        parts.remove()
        raise InputError(f"None of the {len(skipped)} pictures can be read: no file is written. {skipped[0]}")
    unnamed = parts.folder / output.name
    FORMATS[output.suffix].write(unnamed, parts, pictures.class_names)
    if output.exists():
        raise ExistingFileError(
            f"{output} has appeared meanwhile and is not overwritten: move it, and type this again."
        )
    unnamed.rename(output)
    parts.remove()
    left_out = f"; {len(skipped)} that could not be read are left out" if skipped else ""
    print(f"Features: {output} ({rows} pictures{left_out})")
