"""How many pictures a second does the loader hand over?

    python benchmarks/loader.py

One epoch over 32 x 32 pictures that are in memory, in batches of 256, in the time on the wall. Ours is the training
loader of ``SimCLRDataModule``: batches of bytes, one index operation each; views are made from them afterwards, on the
device. The other is the usual one: a data set that returns one float picture, and the default way to put them together.
Cases are numbers of workers.
"""

from __future__ import annotations

from collections import deque
from functools import partial

import torch
from runner import OURS, Contest, Work, parse, parser, run
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from simclr_lightning import SimCLRDataModule

BATCH = 256


class Pictures(Dataset[tuple[Tensor, int]]):
    """Random 32 x 32 pictures with labels.

    Args:
        number: how many.
        as_float: float in [0, 1] rather than bytes.
    """

    def __init__(self, number: int, as_float: bool) -> None:
        self.pixels = torch.randint(0, 256, (number, 3, 32, 32), dtype=torch.uint8)
        self.as_float = as_float

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        picture = self.pixels[index]
        return picture.float() / 255 if self.as_float else picture, index % 10


def ours(pictures: int, workers: int) -> Work:
    data = SimCLRDataModule(
        partial(Pictures, pictures, as_float=False), batch_size=BATCH, views="cifar10", cache=True, num_workers=workers
    )
    data.setup("fit")
    loader = data.train_dataloader()
    return Work(lambda: deque(loader, maxlen=0), pictures // BATCH * BATCH)


def one_at_a_time(pictures: int, workers: int) -> Work:
    loader = DataLoader(
        Pictures(pictures, as_float=True),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    return Work(lambda: deque(loader, maxlen=0), pictures // BATCH * BATCH)


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--pictures", type=int, default=50_000, help="as many as CIFAR-10 has")
    made.add_argument("--workers", type=int, nargs="+", default=[0, 1], help="numbers of workers")
    options = parse(made)
    contestants = {
        OURS: partial(ours, options.pictures),
        "DataLoader, one picture at a time": partial(one_at_a_time, options.pictures),
    }
    title = f"Loading {options.pictures} pictures of 32 x 32 pixels from memory, in batches of {BATCH}"
    run(options, Contest("loader", title, contestants, options.workers, "workers", "wall", "picture"))


if __name__ == "__main__":
    main()
