"""SimCLR's views as each package makes them: pictures in, a normalised float batch of both views of each out.

All draw the same family: crop of 8 to 100 % of the area, flip, colour jitter, grey, blur if asked for, ImageNet's mean
and standard deviation. Resizes are bilinear, which is the others' default; that of ours, bicubic, takes part too.
Every package gets pictures in the form that it likes best, made before the clock starts, and works as its documentation
shows: one picture at a time, or on batches where it can. Packages are imported by the functions that use them, so that
nobody waits for, or holds in memory, those of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from runner import OURS
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Setting(NamedTuple):
    """Which views are wanted.

    Attributes:
        size: side of a view in pixels.
        strength: of the colour jitter.
        blur: probability of the Gaussian blur, whose kernel is a tenth of the side.
        batched: whether the pictures are of equal size and as small as the views: those that can, take the whole batch.
    """

    size: int
    strength: float
    blur: float
    batched: bool

    @property
    def kernel(self) -> int:
        return 2 * (self.size // 20) + 1

    @property
    def jitter(self) -> tuple[float, float, float, float]:
        return 0.8 * self.strength, 0.8 * self.strength, 0.8 * self.strength, 0.2 * self.strength


class Pipeline(NamedTuple):
    """How a package makes views.

    Attributes:
        prepare: turns RGB pictures into what ``views`` takes, before the clock starts.
        read: reads one such picture from a JPEG file.
        views: (2 N, 3, size, size) float32 of N pictures.
    """

    prepare: Callable[[list[Image.Image]], Any]
    read: Callable[[Path], Any]
    views: Callable[[Any], Tensor]


def ours(setting: Setting, interpolation: Literal["bilinear", "bicubic"] = "bilinear") -> Pipeline:
    from simclr_lightning.data.decode import pixels_of, read_picture
    from simclr_lightning.views import ImageBatch, ViewEngine, ViewRecipe, crop_views

    size, strength, blur = setting.size, setting.strength, setting.blur
    recipe = ViewRecipe(size=size, jitter_strength=strength, blur=blur, interpolation=interpolation, mean=MEAN, std=STD)
    finish, epochs = ViewEngine(recipe), count()

    def views(pictures: Any) -> Tensor:
        images, crops, indices, epoch = None, None, torch.arange(len(pictures)), next(epochs)
        if setting.batched:
            images = pictures
        else:
            crops = crop_views(pictures, [recipe], indices, seed=0, epoch=epoch)
        return finish(ImageBatch(images, crops, indices, indices, epoch))[0].flatten(0, 1)

    return Pipeline(
        _as_batch if setting.batched else lambda pictures: [pixels_of(picture) for picture in pictures],
        read_picture,
        views,
    )


def lightly(setting: Setting) -> Pipeline:
    from lightly.transforms import SimCLRTransform  # type: ignore[import-not-found]

    both = SimCLRTransform(input_size=setting.size, cj_strength=setting.strength, gaussian_blur=setting.blur)
    return Pipeline(list, _with_pil, lambda pictures: _stack(view for picture in pictures for view in both(picture)))


def torchvision(setting: Setting, kind: Literal["PIL", "tensor"]) -> Pipeline:
    """Its v2 transforms, which are as fast on pictures or on bytes in tensors, depending on the operation."""
    from torchvision.transforms import v2

    blur = v2.GaussianBlur(setting.kernel, (0.1, 2.0)) if setting.blur else v2.Identity()
    one = v2.Compose(
        [
            v2.RandomResizedCrop(setting.size, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomApply([v2.ColorJitter(*setting.jitter)], p=0.8),
            v2.RandomGrayscale(0.2),
            v2.RandomApply([blur], p=setting.blur),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    prepare, read = (list, _with_pil) if kind == "PIL" else (_as_tensors, _with_torchvision)
    return Pipeline(prepare, read, lambda pictures: _twice(one, pictures))


def albumentations(setting: Setting) -> Pipeline:
    """Its resize has no antialiasing, which is cheaper, and another picture."""
    import albumentations as A  # type: ignore[import-not-found]
    import cv2

    cv2.setNumThreads(torch.get_num_threads())
    one = A.Compose(
        [
            A.RandomResizedCrop((setting.size, setting.size), scale=(0.08, 1.0)),
            A.HorizontalFlip(p=0.5),
            A.ColorJitter(*setting.jitter, p=0.8),
            A.ToGray(p=0.2),
            A.GaussianBlur(blur_limit=0, sigma_limit=(0.1, 2.0), p=setting.blur),
            A.Normalize(MEAN, STD),
            A.ToTensorV2(),
        ]
    )

    def read(path: Path) -> Any:
        picture = cv2.imread(str(path))
        assert picture is not None
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)

    def transform(picture: Any) -> Tensor:
        view: Tensor = one(image=picture)["image"]
        return view

    prepare = lambda pictures: [np.asarray(picture) for picture in pictures]  # noqa: E731
    return Pipeline(prepare, read, lambda pictures: _twice(transform, pictures))


def kornia(setting: Setting) -> Pipeline:
    """Batches; pictures of different sizes are cropped by torchvision first, as it cannot put them into one batch."""
    import kornia.augmentation as K  # type: ignore[import-not-found]
    from torchvision.transforms import v2

    crop: list[nn.Module] = [K.RandomResizedCrop((setting.size, setting.size))] if setting.batched else []
    blur: list[nn.Module] = []
    if setting.blur:
        blur = [K.RandomGaussianBlur((setting.kernel, setting.kernel), (0.1, 2.0), p=setting.blur)]
    augment = K.AugmentationSequential(
        *crop,
        K.RandomHorizontalFlip(),
        K.ColorJitter(*setting.jitter, p=0.8),
        K.RandomGrayscale(p=0.2),
        *blur,
        K.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        data_keys=["input"],
        same_on_batch=False,
    )
    crop_one = v2.RandomResizedCrop(setting.size, antialias=True)

    def views(pictures: Any) -> Tensor:
        batch = torch.cat([pictures, pictures]) if setting.batched else _twice(crop_one, pictures)
        made: Tensor = augment(batch.float() / 255)
        return made

    return Pipeline(_as_batch if setting.batched else _as_tensors, _with_torchvision, views)


CONTESTANTS: dict[str, Callable[[Setting], Pipeline]] = {
    OURS: ours,
    f"{OURS}, bicubic": lambda setting: ours(setting, "bicubic"),
    "lightly": lightly,
    "torchvision, PIL": lambda setting: torchvision(setting, "PIL"),
    "torchvision, tensors": lambda setting: torchvision(setting, "tensor"),
    "albumentations": albumentations,
    "kornia": kornia,
}


def _twice(transform: Callable[[Any], Tensor], pictures: Iterable[Any]) -> Tensor:
    return _stack(transform(picture) for picture in pictures for _ in range(2))


def _stack(views: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(views))


def _as_tensors(pictures: list[Image.Image]) -> list[Tensor]:
    return [torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous() for picture in pictures]


def _as_batch(pictures: list[Image.Image]) -> Tensor:
    return torch.stack(_as_tensors(pictures))


def _with_pil(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def _with_torchvision(path: Path) -> Tensor:
    from torchvision.io import ImageReadMode, decode_jpeg, read_file

    picture: Tensor = decode_jpeg(read_file(str(path)), ImageReadMode.RGB)
    return picture
