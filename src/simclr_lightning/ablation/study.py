"""``simclr ablate``: which augmentations suit these pictures?"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Literal

from simclr_lightning.ablation.matrix import Matrix, Record
from simclr_lightning.ablation.one_sided import AblationDataModule
from simclr_lightning.ablation.operations import check_operations, parse_operations
from simclr_lightning.ablation.recommendation import advice
from simclr_lightning.ablation.tables import markdown, plot_matrix
from simclr_lightning.ablation.training import Training, run_cell, small_model
from simclr_lightning.command_line import typed_command
from simclr_lightning.data import find_source
from simclr_lightning.data.folder import splits_of
from simclr_lightning.errors import InputError, check_folder, check_number, options_without
from simclr_lightning.trainer_checks import check_accelerator
from simclr_lightning.views import ViewRecipe

_EPOCHS = 10
_HELD_OUT = 0.2
_LARGEST_VIEW = 32
_WEIGHT_DECAY = 1e-4


def ablate(
    root: str | Path = "data",
    dataset: str = "folder",
    operations: str | list[str] = "crop,cutout,colour,sobel,noise,blur,rotate",
    symmetric: bool = False,
    epochs: int | None = None,
    steps: int | None = None,
    seeds: int = 2,
    batch_size: int = 64,
    views: ViewRecipe | str | None = None,
    encoder: str = "resnet8",
    width: float = 0.5,
    temperature: float = 0.2,
    learning_rate: float = 1.0,
    probe: str | Path | None = None,
    val_fraction: float | None = None,
    on_bad_picture: Literal["raise", "skip"] = "raise",
    max_bad_share: float = 0.1,
    max_megapixels: float | None = None,
    accelerator: str = "auto",
    seed: int = 0,
    output: str | Path = "ablation",
) -> Path:
    """Find out which augmentations suit your pictures: the matrix of the paper's Figure 5, at a budget of yours.

    Every cell pre-trains a small encoder with one operation, or two of them one after the other, and judges its frozen
    features on held-out labelled pictures. As in the paper (section 3.1), both views start from the same random crop,
    and the operations are applied to the second view only. Finished runs are kept in the output folder: the same
    command goes on where it was interrupted, and more seeds or operations only add what is missing.

    Writes matrix.json (every run), matrix.md (tables and a recommendation) and matrix.png.

    Args:
        root: folder of the data; labels are class folders.
        dataset: folder, or another data set that SimCLRDataModule knows, such as cifar10 or stl10.
        operations: two or more of crop, cutout, colour (jitter and grey), sobel, noise, blur and rotate, with commas
            between them: rows and columns of the matrix.
        symmetric: run each pair in one order only, which takes half of the time.
        epochs: length of every run in passes over the training pictures; 10 by default.
        steps: length of every run in steps, instead of epochs.
        seeds: runs of every cell, at least 2 to tell a difference from chance.
        batch_size: pictures of one step; small ones leave more steps to a short training.
        views: recipe of the first crop, whose ranges and probabilities the operations have as well; by default the
            preset that fits the data set, on views of at most 32 pixels.
        encoder: architecture, as SimCLR takes it.
        width: multiplies its channels.
        temperature: of NT-Xent.
        learning_rate: peak rate of SGD for a batch of 256, scaled linearly to the batch.
        probe: folder of labelled pictures, in class folders, to judge the features of unlabelled ones with.
        val_fraction: share of the labelled training pictures that is held out to judge by. By default the folder val of
            the data serves; where there is none, a fifth is held out. Test pictures are left alone.
        on_bad_picture: stop at a picture that cannot be read (raise), or list it (unreadable.txt) and go on without it
            (skip).
        max_bad_share: share of the pictures seen that skip may leave out; with more, the study stops.
        max_megapixels: larger pictures count as unreadable. None: 179.
        accelerator: auto, cpu, gpu, or another one of Lightning's.
        seed: of the first run of every cell, and of the pictures that are held out.
        output: folder of the results.

    Returns:
        The output folder.

    Raises:
        InputError: if an argument is out of range, nothing is labelled, there are fewer pictures than a batch takes, or
            the output folder holds a study with other settings.
        MissingFileError: if there are no pictures.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     budget = {"steps": 1, "seeds": 1, "width": 0.125, "val_fraction": 0.8, "accelerator": "cpu"}
        ...     folder = ablate(dataset="digits", operations="rotate,noise", symmetric=True, output=folder, **budget)
        ...     sorted(path.name for path in folder.iterdir())  # doctest: +ELLIPSIS
        3 cells x 1 seed, steps of each: 1.
        ...
        ['matrix.json', 'matrix.md', 'matrix.png']
    """
    asked = parse_operations(operations)
    _check_numbers(epochs, steps, seeds)
    check_number("width", width, "width 0.5", above=0, most=1_024)
    check_number("temperature", temperature, "temperature 0.2", above=0)
    check_number("learning_rate", learning_rate, "learning_rate 1", above=0)
    check_number("seed", seed, "seed 0", least=0, below=2**32)
    check_accelerator(accelerator, "accelerator")
    check_folder("output", output, "output ablation")
    with options_without("data."):
        recipe = resolved_recipe(views, dataset)
        if val_fraction is None:
            val_fraction = default_val_fraction(dataset, root, probe)
        data = AblationDataModule(
            dataset=dataset,
            root=root,
            batch_size=batch_size,
            views=recipe,
            probe=probe,
            val_fraction=val_fraction,
            on_bad_picture=on_bad_picture,
            max_bad_share=max_bad_share,
            max_megapixels=max_megapixels,
            num_workers=0,
            seed=seed,
        )
        data.prepare_data()
        data.setup()
        if data.num_pictures is None:
            raise InputError(f"{dataset} is a stream, and a study reads its pictures many times", "data.dataset folder")
        labelled, held_out = _labels(data, root)
        check_operations(asked, recipe, data.in_channels)
        data.train_dataloader()  # complains of a batch that does not fit
    total = steps or (epochs or _EPOCHS) * (data.num_pictures // batch_size)
    training = Training(total, encoder, width, temperature, learning_rate, _WEIGHT_DECAY, accelerator)
    small_model(data, training)

    folder = Path(output)
    data.reading.list_in(folder / "unreadable.txt")
    settings = {
        "dataset": dataset,
        "root": str(root),
        "probe": None if probe is None else str(probe),
        "val_fraction": val_fraction,
        "training_pictures": data.num_pictures,
        "labelled_pictures": labelled,
        "held_out_pictures": held_out,
        "classes": data.num_classes,
        "batch_size": batch_size,
        "views": {name: value for name, value in asdict(recipe).items() if name != "count"},  # which is two
        "first_seed": seed,
        **training._asdict(),
    }
    record = Record(folder, settings)
    matrix = Matrix(asked, tuple(range(seed, seed + seeds)), symmetric, record.scores)
    command = typed_command("ablate")
    _run(data, training, matrix, record, command)

    text = advice(matrix, pictures=held_out)
    record.write(matrix, command, text)
    (folder / "matrix.md").write_text(markdown(matrix, settings, advice=text, command=command), encoding="utf-8")
    plot_matrix(matrix, folder / "matrix.png", settings)
    print(f"{text}\nTables: {folder / 'matrix.md'}\nPicture: {folder / 'matrix.png'}")
    return folder


def resolved_recipe(views: ViewRecipe | str | None, dataset: str) -> ViewRecipe:
    """The recipe that is typed, or the data set's own on views of at most 32 pixels.

    Raises:
        InputError: if the data set or the preset is unknown, or there are not two views.

    Example:
        >>> resolved_recipe(None, "folder").size, resolved_recipe("stl10", "folder").size
        (32, 96)
    """
    if views is None:
        recipe = find_source(dataset).recipe
        size = min(recipe.size, _LARGEST_VIEW)
        return replace(recipe, size=size, eval_size=size)
    recipe = ViewRecipe(views) if isinstance(views, str) else views
    if recipe.count != 2:
        raise InputError(
            f"The recipe has {recipe.count} views: a study compares two, the first unchanged", "views.count 2"
        )
    return recipe


def default_val_fraction(dataset: str, root: str | Path, probe: str | Path | None) -> float:
    """Share of the labels to hold out: 0 where a folder has validation pictures of its own, otherwise a fifth.

    The data module would take test pictures for want of others; a study chooses, so it must not.

    Raises:
        MissingFileError: if there is no such folder.

    Example:
        >>> default_val_fraction("digits", "data", None)
        0.2
    """
    folders = [root] * (dataset == "folder") + [probe] * (probe is not None)
    return 0.0 if any("val" in splits_of(str(folder)) for folder in folders) else _HELD_OUT


def _run(data: AblationDataModule, training: Training, matrix: Matrix, record: Record, command: str | None) -> None:
    """Make the runs that are missing, each of which is written before the next begins."""
    runs = matrix.runs()
    missing = [run for run in runs if run not in matrix.scores]
    kept = f"; {len(runs) - len(missing)} runs are finished already" if len(missing) < len(runs) else ""
    cells, seeds = len(matrix.pairs()), len(matrix.seeds)
    print(f"{cells} cells x {seeds} seed{'s' * (seeds > 1)}, steps of each: {training.steps}{kept}.")
    taken: list[float] = []
    for done, run in enumerate(missing, start=1):
        try:
            scores = run_cell(data, training, run)
        except (KeyboardInterrupt, SystemExit):  # Lightning turns the first, and a signal to end, into the second
            print(
                f"Interrupted at {run}. Finished runs are kept in {record.path}: the same command goes on.", flush=True
            )
            raise
        matrix.scores[run] = scores
        record.write(matrix, command)
        taken.append(scores.seconds)
        left = len(missing) - done
        # The median: the first run may have compiled something.
        rest = f"; {left} of {len(runs)} runs left, about {_duration(median(taken) * left)}" if left else ""
        print(f"{run}: linear {scores.linear:.1f}, kNN {scores.knn:.1f} ({scores.seconds:.1f} s){rest}", flush=True)


def _check_numbers(epochs: int | None, steps: int | None, seeds: int) -> None:
    if epochs is not None and steps is not None:
        raise InputError(f"epochs is {epochs} and steps is {steps}: give one of them (--epochs or --steps).")
    for name, value in (("epochs", epochs), ("steps", steps), ("seeds", seeds)):
        check_number(name, value, name, least=1, most=10**9)


def _labels(data: AblationDataModule, root: str | Path) -> tuple[int, int]:
    """Number of labelled pictures to learn from, and to judge by."""
    labelled, val = data.splits.labelled, data.splits.val
    if labelled is None:
        raise InputError(
            f"No picture in {str(root)!r} has a label, and without labels there is nothing to judge features by: sort "
            "the pictures into one folder a class, or name a folder with some that are (--probe LABELLED)."
        )
    held_out = 0 if val is None else int((val.pictures.targets[val.positions] >= 0).sum())
    if not held_out:
        raise InputError(
            "No held-out picture has a label: hold out a part of the labelled training pictures (--val_fraction 0.2)."
        )
    return len(labelled.positions), held_out


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
