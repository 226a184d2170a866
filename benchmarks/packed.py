"""What do packed pictures cost beside a folder: to start, to load, and in memory?

    python benchmarks/packed.py

Makes folders of 32 x 32 JPEG files and packs each, then loads training batches of 256, without workers, as bytes that
views are made from later. The order is that of a training: over all files, or over windows of 16 chunks. To start is to
build the data module and to wait for the first batch. Memory is the peak of the process above what it takes once this
package is imported. Speeds are compared by CPU time, round by round. The third contestant reads the same chunks in the
same order by litdata's own random access. Files that have just been written are in the system's cache.
"""

from __future__ import annotations

import io
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import report
from PIL import Image
from runner import Contest, Figures, _resident, _restart_peak, hold, parse, parser, run

from simclr_lightning import SimCLRDataModule
from simclr_lightning.data.packed import PackedPictures, is_packed, packed_sets
from simclr_lightning.data.packed_writer import pack_pictures
from simclr_lightning.data.pictures import PictureSets

BATCH = 256
CLASSES = 100
DISTINCT = 4096  # files that differ: their number makes no difference to a reader
NAME = "packed"


class ByLitdata(PackedPictures):
    """The same pictures, read by litdata."""

    def __init__(self, packed: PackedPictures) -> None:
        from litdata import StreamingDataset

        self.__dict__.update(packed.__dict__)
        self.items = StreamingDataset(str(self._files.folder), batch_decode=0)  # one item at a time: far the fastest

    def content(self, position: int) -> bytes:
        return bytes(self.items[int(self.places[position])][0])


def make(root: Path, pictures: int) -> None:
    """A folder of so many JPEG files: smooth random colours, about a kilobyte each."""
    rng = np.random.default_rng(0)
    contents = []
    for coarse in rng.integers(0, 256, (DISTINCT, 6, 6, 3), dtype=np.uint8):
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((32, 32), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        contents.append(buffer.getvalue())
    for label in range(CLASSES):
        (root / f"{label:02d}").mkdir(parents=True)
    for number in range(pictures):
        (root / f"{number % CLASSES:02d}" / f"{number:07d}.jpg").write_bytes(contents[number % DISTINCT])


def loaded(dataset: str | Callable[..., Any], root: Path, batches: int) -> Figures:
    """Start, then load so many batches."""
    before, began = _restart_peak(), time.perf_counter()
    data = SimCLRDataModule(dataset, root, batch_size=BATCH, views="cifar10", num_workers=0)
    data.setup("fit")
    loader = iter(data.train_dataloader())
    next(loader)
    started = time.perf_counter() - began
    began, began_cpu, seen = time.perf_counter(), time.process_time(), 0
    for batch in loader:
        seen += len(batch.indices)
        if seen >= batches * BATCH:
            break
    wall, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    memory = None if before is None else _resident("VmHWM") - before
    return {"start": started, "cpu": cpu / seen, "wall": wall / seen, "memory": memory}


def by_litdata(root: str) -> PictureSets:
    packed = packed_sets(root).train
    assert isinstance(packed, PackedPictures)
    return PictureSets(ByLitdata(packed))


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--pictures", type=int, nargs="+", help="sizes of the sets (20000 200000 1000000; --short: 2000)")
    made.add_argument("--batches", type=int, default=40, help="that are loaded after the first")
    made.add_argument("--chunk-mib", type=int, default=4, help="size of a chunk: a large set has hundreds of them")
    made.add_argument("--folder", type=Path, help="where the sets are made, or are already, and stay")
    options = parse(made)
    options.pictures = options.pictures or ([2000] if options.short else [20_000, 200_000, 1_000_000])
    made_here = options.folder is None
    if made_here:
        options.folder = Path(mkdtemp())
        sys.argv += ["--folder", str(options.folder)]  # for the processes that measure
    contestants: dict[str, Any] = {
        "folder": lambda case: ("folder", options.folder / str(case)),
        "packed": lambda case: ("packed", options.folder / f"{case}-packed"),
        "packed, by litdata": lambda case: (by_litdata, options.folder / f"{case}-packed"),
    }
    title = f"Loading 32 x 32 JPEG files in batches of {BATCH}, without workers"
    contest = Contest(
        NAME,
        title,
        contestants,
        options.pictures,
        "pictures",
        measure=lambda setup, case, _: loaded(*setup(case), options.batches),
    )
    if options.measure is not None:
        run(options, contest)
        return
    packing = {}
    try:
        for pictures in options.pictures:
            files = options.folder / str(pictures)
            packed = files.with_name(f"{pictures}-packed")
            if not is_packed(packed):
                make(files, pictures)
                began = time.perf_counter()
                pack_pictures(files, packed, options.chunk_mib)
                packing[pictures] = time.perf_counter() - began
        results = hold(contest, options)
    finally:
        if made_here:
            shutil.rmtree(options.folder)
    folder = {result.case: result for result in results if result.contestant == "folder"}
    rows, data = [], []
    for result in results:
        theirs = folder[result.case].of("cpu")
        ratios = [other / own for own, other in zip(result.of("cpu"), theirs, strict=True)]
        start, ratio = report.spread(result.of("start")), report.spread(ratios)
        speeds = [f"{1 / result.median(clock):,.0f}" for clock in ("wall", "cpu")]
        rows.append([f"{result.case:,}", result.contestant, *start, *speeds, *ratio, f"{result.median('memory'):.0f}"])
        data.append({**result._asdict(), "ratios": ratios, "packing": packing.get(int(result.case))})
    header = ["pictures", "contestant", "start, s", "least to most", "pictures a second", "a second of CPU time"]
    header += ["times the folder's", "least to most", "peak MiB"]
    took = ", ".join(f"{pictures:,} pictures in {seconds:.0f} s" for pictures, seconds in packing.items())
    note = f"{options.rounds} round(s) in fresh processes with {options.threads} thread(s) each, medians; chunks of "
    note += f"{options.chunk_mib} MiB.{f' Packed: {took}.' * bool(took)}{f' {options.note}' * bool(options.note)}"
    report.write(options.out, NAME, title, note, header, rows, data)


if __name__ == "__main__":
    main()
