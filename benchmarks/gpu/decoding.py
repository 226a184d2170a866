"""How many pairs of crops a second do the loader's workers read from JPEG files, and does it keep a GPU busy?

Files of 500 x 375 pixels, which the system has in memory after the first epoch: drawn ones, a few of them under many
names, or those of ``--photographs``.
"""

from __future__ import annotations

import os
import time
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from gpu.check import Check
from gpu.steps import encoder_alone, whole_fit
from simclr_lightning import SimCLRDataModule
from simclr_lightning.views import ViewRecipe
from views import draw_photographs

ENOUGH = 1500  # pairs a second, about what ResNet-50 takes on an H100


def run(check: Check) -> None:
    with TemporaryDirectory() as folder:
        root = check.photographs or _tree(Path(folder), check.sized(128, 2), check.sized(32, 8))
        batch, recipe = check.sized(256, 4), ViewRecipe("imagenet", size=check.sized(224, 32))
        sizes = [path.stat().st_size for path in root.rglob("*.jp*g")]
        note = f"{len(sizes)} files of {sum(sizes) / len(sizes) / 1024:.0f} KiB"
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        for workers in check.sized((8, 12, 15), (0, 1)):
            with check.guarded(f"{workers} workers"):
                data = SimCLRDataModule(
                    "folder", root, batch_size=batch, views=recipe, num_workers=workers, val_fraction=0.0
                )
                rate = _rate(data, check.sized(4, 1), check.sized(16, 2))
                least = ENOUGH if workers == 15 else None
                check.figure(f"{workers} workers, {cores} cores", rate, "pairs a second", at_least=least, note=note)
        with check.guarded("ResNet-50 from files"):
            settings = {"encoder": check.sized("resnet50", "resnet10"), "width": check.sized(1.0, 0.125)}
            alone = encoder_alone(
                check, "ResNet-50: encoder alone", settings, 2 * batch, recipe.size, repeats=check.sized(5, 1)
            )
            data = SimCLRDataModule("folder", root, batch_size=batch, views=recipe)
            steps = check.sized(40, 6)
            whole_fit(check, "ResNet-50 from files: fit", settings, data, alone, None, steps=steps)


def _rate(data: SimCLRDataModule, skipped: int, counted: int) -> float:
    """Batches of the training loader, epoch after epoch, once every worker is at work."""
    data.setup("fit")
    loader = data.train_dataloader()

    def batches() -> object:
        while True:
            yield from loader

    served = iter(batches())  # type: ignore[call-overload]
    for _ in islice(served, skipped):
        pass
    begin = time.perf_counter()
    for _ in islice(served, counted):
        pass
    return counted * data.batch_size / (time.perf_counter() - begin)


def _tree(folder: Path, number: int, names: int) -> Path:
    """Class folders with so many different drawn pictures, each under many names."""
    drawn = folder / "drawn"
    drawn.mkdir()
    draw_photographs(drawn, number)
    for path in sorted(drawn.iterdir()):
        for copy in range(names):
            target = folder / "photographs" / f"class{copy % 2}" / f"{path.stem}-{copy}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.hardlink_to(path)
    return folder / "photographs"
