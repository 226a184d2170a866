"""What do SimCLR's views cost?

    python benchmarks/views.py --folder PHOTOS

Four tables, in CPU time per view with one thread, float batch counted; pipelines.py says what each package does.

* views_cifar: 32 x 32 pixels from pictures in memory, jitter of strength 0.5, no blur: small pictures, where the work
  per call decides.
* views_imagenet: 224 x 224 pixels from decoded photographs, with blur: pixels decide.
* views_jpeg: the same from JPEG files, which the system has in memory: what a loader's worker does.
* views_size: pictures and views of growing sizes, with the recipe of the first table.

Photographs are the JPEG files of --folder, otherwise drawn at random: 500 x 375 pixels of noise and shapes.
"""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from pipelines import CONTESTANTS, Setting
from runner import OURS, Contest, Work, parse, parser, run

IMAGENET = Setting(224, strength=1.0, blur=0.5, batched=False)


def small_pictures(side: int, number: int) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (number, side // 4, side // 4, 3), dtype=np.uint8)
    return [Image.fromarray(own).resize((side, side), Image.Resampling.BICUBIC) for own in pixels]


def draw_photographs(folder: Path, number: int) -> None:
    """Write JPEG files of 500 x 375 pixels: shapes on a coarse pattern, with grain."""
    rng = np.random.default_rng(0)
    for count in range(number):
        picture = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375))
        draw = ImageDraw.Draw(picture)
        for x, y, width, height, *colour in rng.integers(0, 256, (20, 7)).tolist():
            draw.ellipse((2 * x, y, 2 * x + width, y + height), fill=tuple(colour))
        grainy = np.asarray(picture) + rng.normal(0, 8, (375, 500, 3))
        Image.fromarray(grainy.clip(0, 255).astype(np.uint8)).save(folder / f"{count:03}.jpg", quality=90)


def photographs(folder: Path, number: int) -> list[Path]:
    """JPEG files of a folder and its subfolders, in the order of their names."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg"})[:number]


def in_memory(name: str, number: int, side: int) -> Work:
    pipeline = CONTESTANTS[name](Setting(side, strength=0.5, blur=0.0, batched=True))
    number = max(8, number * 32**2 // side**2)  # as many pixels at every size
    pictures = pipeline.prepare(small_pictures(side, number))
    return Work(lambda: pipeline.views(pictures), 2 * number)


def decoded(name: str, folder: Path, number: int) -> Work:
    pipeline = CONTESTANTS[name](IMAGENET)
    paths = photographs(folder, number)
    pictures = pipeline.prepare([Image.open(path).convert("RGB") for path in paths])
    return Work(lambda: pipeline.views(pictures), 2 * len(paths))


def from_files(name: str, folder: Path, number: int) -> Work:
    pipeline = CONTESTANTS[name](IMAGENET)
    paths = photographs(folder, number)
    return Work(lambda: pipeline.views([pipeline.read(path) for path in paths]), 2 * len(paths))


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--batch", type=int, default=256, help="32 x 32 pictures in a batch")
    made.add_argument("--photographs", type=int, help="how many of them (32; with --short 16)")
    made.add_argument("--folder", type=Path, help="photographs: JPEG files, in subfolders too")
    made.add_argument("--sizes", type=int, nargs="+", help="of small pictures (32 64 96 128 224; with --short 32 96)")
    options = parse(made)
    number = options.photographs or (16 if options.short else 32)
    sizes = options.sizes or ([32, 96] if options.short else [32, 64, 96, 128, 224])
    small = {name: partial(in_memory, name, options.batch) for name in CONTESTANTS}
    growing = {name: small[name] for name in (OURS, "lightly")}
    title = f"Views of 224 x 224 pixels from {{}} {'photographs' if options.folder else 'drawn pictures of 500 x 375'}"
    with tempfile.TemporaryDirectory() as drawn:
        folder = options.folder or Path(drawn)
        if options.folder is None:
            draw_photographs(folder, number)
        from_memory = {name: partial(decoded, name, folder) for name in CONTESTANTS}
        from_disk = {name: partial(from_files, name, folder) for name in CONTESTANTS}
        run(
            options,
            Contest("views_cifar", "Views of 32 x 32 pixels, in batches", small, [32], "pixels", item="view"),
            Contest("views_imagenet", title.format("decoded"), from_memory, [number], "pictures", item="view"),
            Contest("views_jpeg", title.format("JPEG files of"), from_disk, [number], "pictures", item="view"),
            Contest("views_size", "Views of small pictures as they grow", growing, sizes, "pixels", item="view"),
        )


if __name__ == "__main__":
    main()
