"""Features in a file are those of the model, by name, whatever happened on the way."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from pyarrow import parquet
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from simclr_lightning import SimCLR, SimCLRDataModule
from simclr_lightning.data import BadPictureError
from simclr_lightning.embed import embed as module
from simclr_lightning.embed import embed_pictures, patches
from simclr_lightning.embed.parts import FORMATS, Part, Parts, write_npz
from simclr_lightning.embed.patches import PatchNetwork, kept_box
from simclr_lightning.errors import InputError
from simclr_lightning.models import ResNet, feature_map
from simclr_lightning.views import ViewRecipe, centre_view, clean

VIEWS: dict[str, Any] = {
    "size": 16,
    "eval_size": 40,
    "eval_crop": 0.75,
    "interpolation": "bilinear",
    "mean": [0.5] * 3,
    "std": [0.2] * 3,
}
FOLDERS = ["train/cat", "train/eel", "val/dog", "val/eel"]
NAMES = [f"{folder}/{number}.png" for folder in FOLDERS for number in range(6)]
Embed = Callable[..., Path]


def trained(**options: Any) -> SimCLR:
    model = SimCLR(**{"encoder": "resnet10", "width": 0.125, "image_size": 16, "projection_layers": 0, **options})
    for name, tensor in model.encoder.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point() and tensor.ndim < 2:
            tensor.add_(0.2 * torch.randn_like(tensor))
    return model.eval()


def save(model: SimCLR, path: Path, **more: Any) -> Path:
    trainer = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, barebones=True)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)
    torch.save({**torch.load(path, weights_only=True), **more}, path)
    return path


@pytest.fixture
def model() -> SimCLR:
    return trained()


@pytest.fixture
def checkpoint(model: SimCLR, tmp_path: Path) -> Path:
    return save(model, tmp_path / "last.ckpt", datamodule_hyper_parameters={"views": VIEWS})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """24 pictures of different sizes; train and val have different classes."""
    return write_photos(tmp_path / "photos", FOLDERS)


@pytest.fixture
def embed(checkpoint: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Embed:
    """Embeds the photos in batches of 4, of which two make a part."""
    monkeypatch.setattr(module, "PART", 8)

    def run(name: str = "features.npz", **options: Any) -> Path:
        place = {} if "dataset" in options else {"root": photos}
        usual = {**place, "batch_size": 4, "num_workers": 0, "accelerator": "cpu"}
        return embed_pictures(**{"ckpt_path": checkpoint, "output": tmp_path / name, **usual, **options})

    return run


def write_photos(root: Path, folders: list[str]) -> Path:
    rng = np.random.default_rng(0)
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for number in range(6):
            # Of these sides, 0.75 leave the same margin on both sides.
            pixels = rng.integers(0, 256, (*rng.choice([32, 48, 64], 2), 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / folder / f"{number}.png")
    return root


def prepared(path: Path) -> Tensor:
    """One picture (1, 3, 40, 40) as VIEWS has it, by torchvision."""
    functional = torchvision.transforms.v2.functional
    picture = functional.pil_to_tensor(Image.open(path))
    picture = functional.center_crop(picture, [round(VIEWS["eval_crop"] * min(picture.shape[1:]))] * 2)
    mode = torchvision.transforms.InterpolationMode(VIEWS["interpolation"])
    picture = functional.resize(picture, [VIEWS["eval_size"]] * 2, mode, antialias=True)
    return functional.normalize(functional.to_dtype(picture, scale=True), VIEWS["mean"], VIEWS["std"])[None]  # type: ignore[no-any-return]


def assert_close(found: NDArray[Any], expected: Tensor) -> None:
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-6 * float(expected.abs().max()))


def arrays(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path) as archive:
        return dict(archive)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Pictures of each batch that goes through an encoder."""
    sizes: list[int] = []
    forward = ResNet.forward

    def count(self: ResNet, images: Tensor) -> Tensor:
        sizes.append(len(images))
        return forward(self, images)  # type: ignore[no-any-return]

    monkeypatch.setattr(ResNet, "forward", count)
    return sizes


# ---- what is in the file


def test_features_are_those_of_the_clean_pictures(embed: Embed, model: SimCLR, photos: Path) -> None:
    found = arrays(embed())
    assert found["files"].tolist() == NAMES
    assert found["features"].shape == (24, model.feature_dim)
    assert found["features"].dtype == np.float32
    with torch.no_grad():
        assert_close(found["features"], torch.cat([model(prepared(photos / name)) for name in NAMES]))


@pytest.mark.parametrize("split", ["train", "val"])
def test_pictures_are_prepared_as_for_evaluation(split: Any, embed: Embed, model: SimCLR, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "others", ["train/cat", "train/dog", "val/cat", "val/dog"])
    recipe = ViewRecipe("imagenet", **VIEWS)
    data = SimCLRDataModule("folder", root=photos, batch_size=4, num_workers=0, views=recipe)
    data.setup()
    with torch.no_grad():
        batches = [data.on_after_batch_transfer(batch, 0) for batch in data.clean_dataloader(split)]
        expected = torch.cat([model(batch.images) for batch in batches])
    found = arrays(embed(root=photos, split=split))
    assert torch.equal(torch.from_numpy(found["features"]), expected)
    assert torch.equal(torch.from_numpy(found["targets"]), torch.cat([batch.targets for batch in batches]))


def test_classes_of_all_splits_are_numbered_together(embed: Embed) -> None:
    found = arrays(embed())
    assert found["class_names"].tolist() == ["cat", "eel", "dog"]
    assert [found["class_names"][target] for target in found["targets"]] == [name.split("/")[1] for name in NAMES]


def test_table_has_what_the_archive_has(embed: Embed) -> None:
    archive, table = arrays(embed()), parquet.read_table(embed("features.parquet"))
    assert table.column_names == ["file", "target", "class", "features"]
    assert table["file"].to_pylist() == archive["files"].tolist()
    assert table["target"].to_pylist() == archive["targets"].tolist()
    assert table["class"].to_pylist() == [name.split("/")[1] for name in NAMES]
    features = table["features"].combine_chunks()
    assert features.type.list_size == archive["features"].shape[1]
    assert np.array_equal(features.flatten().to_numpy().reshape(24, -1), archive["features"])
    metadata = {key: json.loads(value) for key, value in table.schema.metadata.items()}
    assert metadata[b"class_names"] == ["cat", "eel", "dog"]
    assert metadata[b"settings"] == json.loads(archive["settings"].item())
    assert metadata[b"settings"]["eval_size"] == 40


def test_pictures_without_labels(embed: Embed, photos: Path) -> None:
    table = parquet.read_table(embed("features.parquet", root=photos / "train" / "cat"))
    assert table["file"].to_pylist() == [f"{number}.png" for number in range(6)]
    assert table["target"].to_pylist() == [-1] * 6
    assert table["class"].to_pylist() == [None] * 6
    archive = arrays(embed(root=photos / "train" / "cat"))
    assert archive["class_names"].shape == (0,)


def test_normalized_features_have_unit_length(embed: Embed) -> None:
    plain, unit = (arrays(path)["features"] for path in (embed(), embed("unit.npz", normalize=True)))
    assert np.allclose(np.linalg.norm(unit, axis=1), 1)
    assert np.allclose(unit * np.linalg.norm(plain, axis=1, keepdims=True), plain, atol=1e-6)


def test_names_that_are_not_unicode_are_escaped(embed: Embed, photos: Path) -> None:
    folder = photos / "train" / "cat"
    os.rename(folder / "5.png", os.fsencode(folder) + b"/caf\xe9.png")
    (folder / "4.png").rename(folder / "日本.png")
    assert parquet.read_table(embed("f.parquet"))["file"].to_pylist()[4:6] == [
        "train/cat/caf\\udce9.png",
        "train/cat/日本.png",
    ]


# ---- other data sets


class Drawn:
    """PIL pictures with labels, or without."""

    def __init__(self, train: bool = True) -> None:
        self.length = 11 if train else 3
        self.classes = ["left", "right"]

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if index >= self.length:
            raise IndexError
        pixels = np.random.default_rng((self.length, index)).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        return Image.fromarray(pixels), index % 2


def drawn_only() -> Drawn:
    return Drawn()


class Endless(IterableDataset[Tensor]):
    """Pictures without a number."""

    def __iter__(self) -> Iterator[Tensor]:
        while True:
            yield torch.zeros(3, 8, 8, dtype=torch.uint8)


def drawn_tensors(train: bool) -> list[Tensor]:
    """Splits of different sizes, as tensors without labels."""
    return [torch.full((3, 20, 20) if train else (3, 30, 30), 20 * number, dtype=torch.uint8) for number in range(5)]


def test_pictures_of_a_data_set_are_named_by_position(embed: Embed) -> None:
    found = arrays(embed(dataset=Drawn))
    assert found["files"].tolist() == [f"train/{n}" for n in range(11)] + [f"val/{n}" for n in range(3)]
    assert found["targets"].tolist() == [n % 2 for n in range(11)] + [0, 1, 0]
    assert found["class_names"].tolist() == ["left", "right"]
    assert len(np.unique(found["features"], axis=0)) == 14
    test = arrays(embed("test.npz", dataset=Drawn, split="test"))
    assert test["files"].tolist() == ["test/0", "test/1", "test/2"]
    assert np.allclose(test["features"], found["features"][11:], atol=1e-5)


def test_splits_may_have_pictures_of_different_sizes(embed: Embed) -> None:
    found = arrays(embed(dataset=drawn_tensors, batch_size=3))
    assert found["files"].tolist() == [f"{split}/{n}" for split in ("train", "val") for n in range(5)]
    assert np.allclose(found["features"][:5], found["features"][5:], atol=1e-5)  # plain pictures, whatever their size


def test_grey_pictures_in_memory(embed: Embed, tmp_path: Path) -> None:
    model = trained(in_channels=1)
    path = save(model, tmp_path / "grey.ckpt", datamodule_hyper_parameters={"views": {"preset": "digits"}})
    found = arrays(embed(ckpt_path=path, dataset="digits", split="test", batch_size=256))  # size: the encoder's
    data = SimCLRDataModule("digits", batch_size=256)
    data.setup()
    with torch.no_grad():
        expected = torch.cat(
            [model(data.on_after_batch_transfer(batch, 0).images) for batch in data.clean_dataloader("test")]
        )
    assert torch.equal(torch.from_numpy(found["features"]), expected)
    assert found["class_names"].tolist() == [str(digit) for digit in range(10)]


# ---- runs that are stopped


class StoppedError(BaseException):
    """As a signal would, at any place."""


@pytest.fixture
def stopped(embed: Embed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A run that is stopped while it writes its third part; gives the folder of the parts."""

    def run(name: str, **options: Any) -> Path:
        savez = np.savez

        def stop(file: Any, **arrays: Any) -> None:
            if "0000002" in file.name:
                file.write(b"half of it")
                raise StoppedError
            savez(file, **arrays)

        with monkeypatch.context() as context:
            context.setattr(np, "savez", stop)
            with pytest.raises(StoppedError):
                embed(name, **options)
        return tmp_path / f"{name}.parts"

    return run


@pytest.mark.parametrize("suffix", ["npz", "parquet"])
def test_a_run_that_was_stopped_goes_on(
    suffix: str, embed: Embed, stopped: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = embed(f"whole.{suffix}").read_bytes()
    folder = stopped(f"features.{suffix}")
    output = folder.with_suffix("")
    assert not output.exists()
    assert sorted(path.name for path in folder.glob("0*")) == ["0000000.npz", "0000001.npz", "0000002.npz.tmp"]
    sizes = counted(monkeypatch)
    assert embed(f"features.{suffix}").read_bytes() == expected
    assert sizes == [4, 4]
    assert "2 of 3 parts: going on with the others" in capsys.readouterr().out
    assert not folder.exists()


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: data[:300] + b"oops" + data[304:], lambda data: b""]
)
def test_a_damaged_part_is_computed_again(
    damage: Callable[[bytes], bytes], embed: Embed, stopped: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = embed("whole.npz").read_bytes()
    part = stopped("features.npz") / "0000001.npz"
    part.write_bytes(damage(part.read_bytes()))
    sizes = counted(monkeypatch)
    assert embed("features.npz").read_bytes() == expected
    assert sizes == [4] * 4


def test_a_run_that_was_stopped_before_the_end_puts_its_parts_together(
    embed: Embed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(path: Path, *_: object) -> None:
        path.write_text("half of it")
        raise StoppedError

    with monkeypatch.context() as context:
        context.setitem(FORMATS, ".npz", FORMATS[".npz"]._replace(write=stop))
        with pytest.raises(StoppedError):
            embed("features.npz")
    sizes = counted(monkeypatch)
    assert arrays(embed("features.npz"))["files"].tolist() == NAMES
    assert not sizes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": True}, "normalize is True and was False"),
        ({"batch_size": 8}, "batch_size is 8 and was 4"),
        ({"split": "train"}, "split is train and was all; pictures is "),
        ({"eval_size": 32}, "eval_size is 32 and was 40"),
        ({"mean": (0.0, 0.0, 0.0)}, r"mean is \[0.0, 0.0, 0.0\] and was \[0.5, 0.5, 0.5\]"),
        ({"encoder": "resnet10", "width": 0.125, "stem": "cifar", "eval_size": 40}, "encoder is .*resnet10"),
    ],
)
def test_other_settings_are_not_mixed(options: dict[str, Any], message: str, embed: Embed, stopped: Any) -> None:
    folder = stopped("features.npz")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=f"(?s)other settings: .*{message}.*delete that folder"):
        embed("features.npz", **options)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert embed("others.npz", **options).exists()


def test_other_pictures_or_weights_are_not_mixed(embed: Embed, stopped: Any, photos: Path, checkpoint: Path) -> None:
    stopped("features.npz")
    (photos / "train" / "cat" / "0.png").rename(photos / "train" / "cat" / "00.png")
    with pytest.raises(ValueError, match=r"other settings: pictures is \w+ and was"):
        embed("features.npz")
    (photos / "train" / "cat" / "00.png").rename(photos / "train" / "cat" / "0.png")
    photos.rename(photos.with_name("moved"))
    with pytest.raises(ValueError, match=r"other settings: pictures is \w+ and was"):
        embed("features.npz", root=photos.with_name("moved"))
    save(trained(), checkpoint, datamodule_hyper_parameters={"views": VIEWS})
    with pytest.raises(ValueError, match=r"other settings: checkpoint is \w+ and was"):
        embed("features.npz", root=photos.with_name("moved"))


def test_settings_may_change_while_there_is_no_part(embed: Embed, stopped: Any) -> None:
    folder = stopped("features.npz")
    for part in folder.glob("*.npz"):
        part.unlink()
    assert json.loads(arrays(embed("features.npz", batch_size=3))["settings"].item())["batch_size"] == 3


def test_a_folder_of_somebody_else_is_left_alone(embed: Embed, tmp_path: Path) -> None:
    (tmp_path / "features.npz.parts").mkdir()
    (tmp_path / "features.npz.parts" / "thesis.tex").touch()
    with pytest.raises(ValueError, match=r"features\.npz\.parts is no folder of unfinished features"):
        embed("features.npz")


# ---- pictures that cannot be read


def test_a_bad_picture_stops_the_run_or_is_left_out(
    embed: Embed, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = photos / "val" / "dog" / "2.png"
    bad.write_bytes(b"no picture")
    for num_workers in (1, 0):
        with pytest.raises(BadPictureError, match=r"^Cannot read .*dog/2\.png.*--on_bad_picture skip\.$"):
            embed("features.npz", num_workers=num_workers)
    assert not (tmp_path / "features.npz").exists()
    sizes = counted(monkeypatch)
    found = arrays(embed("features.npz", on_bad_picture="skip"))  # goes on
    assert sizes == [4, 3, 4, 4]  # the first part was kept
    assert found["files"].tolist() == [name for name in NAMES if name != "val/dog/2.png"]
    assert len(found["features"]) == len(found["targets"]) == 23
    assert f"Skipped. Cannot read the picture {bad}" in (text := capsys.readouterr().out)
    assert "(23 pictures; 1 that could not be read are left out)" in text
    (listed,) = (tmp_path / "features.npz.unreadable.txt").read_text().splitlines()
    assert listed.startswith(f"Cannot read the picture {bad}: ")


def test_a_whole_batch_may_be_bad(embed: Embed, photos: Path, tmp_path: Path) -> None:
    for number in range(6):
        (photos / "train" / "cat" / f"{number}.png").write_bytes(b"no picture")
    for num_workers in (1, 0):
        with pytest.raises(BadPictureError, match=r"max_bad_share 0\.1 allows.*\(--max_bad_share 0\.5\)"):
            embed(on_bad_picture="skip", num_workers=num_workers)
    found = arrays(embed(on_bad_picture="skip", max_bad_share=0.5))
    assert found["files"].tolist() == NAMES[6:]
    assert len(found["features"]) == 18
    with pytest.raises(
        ValueError, match=r"None of the 6 pictures can be read: no file is written\. Cannot read .*cat/0\.png"
    ):
        embed("cats.npz", root=photos / "train" / "cat", on_bad_picture="skip", max_bad_share=1.0)


# ---- memory


@pytest.mark.parametrize("shape", [(256,), (16, 4, 4)])
def test_writing_holds_one_part_in_memory(shape: tuple[int, ...], tmp_path: Path) -> None:
    parts = Parts(tmp_path / "parts", {}, 24)
    parts.begin()
    rows = np.arange(1024)
    for number in range(24):  # of a megabyte each
        features = np.full((1024, 256), number, np.float32)
        parts.write(number, Part.of(features.reshape(1024, *shape), rows.astype(np.str_).tolist(), rows))
    for suffix, format_ in FORMATS.items():
        tracemalloc.start()
        format_.write(tmp_path / f"features{suffix}", parts, None)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 6e6, suffix
    found = arrays(tmp_path / "features.npz")["features"]
    assert found.shape == (24 * 1024, *shape)
    assert np.array_equal(found.reshape(24 * 1024, -1)[:, 0], np.arange(24).repeat(1024))


# ---- maps


def test_the_mean_of_the_patches_is_the_vector(embed: Embed) -> None:
    vectors, maps = arrays(embed()), arrays(embed("maps.npz", patches=True))
    assert maps["features"].shape == (24, 64, 5, 5)
    assert maps["features"].std(axis=(2, 3)).mean() > 0.01
    assert_close(maps["features"].mean((2, 3)), torch.from_numpy(vectors["features"]))
    for name in ("files", "targets", "class_names"):
        assert np.array_equal(maps[name], vectors[name])
    assert "boxes" not in vectors


def test_a_stage_by_name_and_as_a_table(embed: Embed, model: SimCLR, photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"patches": True, "stage": "layer2", "normalize": True}
    found = arrays(embed("maps.npz", **options))
    with torch.no_grad():
        images = torch.cat([prepared(photos / name) for name in NAMES])
        expected = torch.nn.functional.normalize(feature_map(model.encoder, images, "layer2"))
    assert expected.shape == (24, 16, 20, 20)  # unit length makes dark patches' rounding errors larger
    torch.testing.assert_close(torch.from_numpy(found["features"]), expected, rtol=0, atol=1e-5)
    table = parquet.read_table(embed("maps.parquet", **options))
    shape = json.loads(table.schema.metadata[b"shape"])
    assert np.array_equal(np.stack(table["features"].to_numpy()).reshape(-1, *shape), found["features"])
    assert np.array_equal(np.stack(table["box"].to_numpy()), found["boxes"])
    assert json.loads(found["settings"].item())["patches"] == "layer2"


def test_boxes_tell_where_patches_lie_in_the_originals(tmp_path: Path) -> None:
    """Pixels tell their own place, and so does what is made of them."""
    for height, width, equal, recipe in (
        (100, 180, False, ViewRecipe("imagenet", size=64)),
        (90, 60, False, ViewRecipe("official", size=48, eval_crop=0.7)),
        (60, 90, True, ViewRecipe("imagenet", size=64)),
        (64, 64, True, ViewRecipe("imagenet", size=64, eval_crop=0.5)),
        (64, 64, False, ViewRecipe("imagenet", size=64)),
    ):
        rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        picture = torch.stack([columns, rows]) / 255
        square = picture if equal else centre_view(picture, recipe)
        cells = 4
        means = torch.nn.functional.adaptive_avg_pool2d(255 * clean(square[None], recipe)[0], cells)
        left, top, right, bottom = kept_box(height, width, recipe, equal_size=equal)
        for found, start, stop in ((means[0, 0], left, right), (means[1, :, 0], top, bottom)):
            expected = start + (torch.arange(cells) + 0.5) * (stop - start) / cells - 0.5
            torch.testing.assert_close(found, expected, rtol=0, atol=0.6)  # edges are cut off by the filter


def test_boxes_are_those_of_the_pictures(embed: Embed, photos: Path) -> None:
    found = arrays(embed(patches=True))
    for name, box in zip(found["files"], found["boxes"].tolist(), strict=True):
        with Image.open(photos / name) as picture:
            width, height = picture.size
        margin = 0.125 * min(width, height)
        x, y = (width - min(width, height)) / 2 + margin, (height - min(width, height)) / 2 + margin
        assert box == [x, y, width - x, height - y]


def test_a_run_of_maps_goes_on_with_maps(embed: Embed, stopped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PatchNetwork, "pictures_of_a_part", lambda self, most: 8)
    expected = embed("whole.npz", patches=True).read_bytes()
    stopped("features.npz", patches=True)
    with pytest.raises(InputError, match="other settings: patches is None and was last"):
        embed("features.npz")
    sizes = counted(monkeypatch)
    assert embed("features.npz", patches=True).read_bytes() == expected
    assert sizes == [1, 4, 4]  # one picture tells the shape


def test_parts_of_large_maps_hold_fewer_pictures(embed: Embed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(patches, "_PART_BYTES", 9 * 64 * 5 * 5 * 4)  # nine pictures
    written: list[int] = []
    write = Parts.write

    def note(self: Parts, number: int, part: Part) -> None:
        written.append(len(part.features))
        write(self, number, part)

    monkeypatch.setattr(Parts, "write", note)
    embed(patches=True)
    assert written == [8] * 3
    written.clear()
    monkeypatch.setattr(patches, "_PART_BYTES", 1)
    embed("small.npz", patches=True)
    assert written == [4] * 6


def test_what_gives_no_map_is_refused(embed: Embed, tmp_path: Path) -> None:
    for options, message in (
        ({"stage": "layer2"}, r"^stage layer2 is the part of an encoder whose map is wanted: add --patches\.$"),
        ({"patches": True, "stage": "layer9"}, r"has no stage 'layer9': choose one of conv1, .*layer3, layer4"),
        ({"patches": True, "stage": "fc"}, r"The stage fc .* gives no map .* but \(1, 64\): name another one"),
    ):
        with pytest.raises(InputError, match=message):
            embed(**options)
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "last.ckpt"}


# ---- other checkpoints


def test_another_packages_encoder_is_named(embed: Embed, tmp_path: Path, photos: Path) -> None:
    network: Any = torchvision.models.resnet18(weights=None)
    torch.save(network.state_dict(), tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match=r"does not tell its architecture"):
        embed(ckpt_path=tmp_path / "resnet18.pth")
    with pytest.raises(ValueError, match="--eval_size 224"):
        embed(ckpt_path=tmp_path / "resnet18.pth", encoder="resnet18")
    asked = {name: VIEWS[name] for name in ("eval_size", "eval_crop", "interpolation", "mean", "std")}
    found = arrays(embed(ckpt_path=tmp_path / "resnet18.pth", encoder="resnet18", **asked))
    network.fc = nn.Identity()
    with torch.no_grad():
        assert_close(found["features"], torch.cat([network.eval()(prepared(photos / name)) for name in NAMES]))


def test_channels_that_were_normalised_by_themselves_are_again(embed: Embed, tmp_path: Path, photos: Path) -> None:
    data = {"views": {"eval_size": 40, "eval_crop": 0.75, "normalize": "picture", "interpolation": "bilinear"}}
    model = trained()
    path = save(model, tmp_path / "picture.ckpt", datamodule_hyper_parameters=data)
    found = arrays(embed(ckpt_path=path))
    pictures = torch.cat([prepared(photos / name) for name in NAMES])
    std, mean = torch.std_mean(pictures, (2, 3), correction=0, keepdim=True)  # of whatever was normalised before
    with torch.no_grad():
        torch.testing.assert_close(
            torch.from_numpy(found["features"]), model.eval()((pictures - mean) / std), rtol=1e-4, atol=1e-5
        )
    assert json.loads(found["settings"].item())["normalize_pictures"] == "picture"
    asked = arrays(embed("asked.npz", ckpt_path=path, mean=VIEWS["mean"], std=VIEWS["std"]))
    with torch.no_grad():
        assert_close(asked["features"], torch.cat([model(picture[None]) for picture in pictures]))


def test_size_of_a_checkpoint_without_our_data(embed: Embed, tmp_path: Path) -> None:
    path = save(trained(image_size=20), tmp_path / "plain.ckpt")
    assert json.loads(arrays(embed(ckpt_path=path))["settings"].item())["eval_size"] == 20
    path = save(trained(image_size=None), path, datamodule_hyper_parameters={"views": "theirs"})
    with pytest.raises(ValueError, match="--eval_size 224"):
        embed("other.npz", ckpt_path=path)


# ---- what is refused, before anything is computed


def test_mistakes_are_named(embed: Embed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"named features\.csv: its suffix must be one of \.npz, \.parquet"):
        embed("features.csv")
    with pytest.raises(ValueError, match="batch_size is 0"):
        embed(batch_size=0)
    with pytest.raises(ValueError, match="on_bad_picture is 'ignore'"):
        embed(on_bad_picture="ignore")
    with pytest.raises(FileNotFoundError, match=r"no folder '.*nowhere': .*--root"):
        embed(root=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"There is no checkpoint .*nowhere\.ckpt"):
        embed(ckpt_path=tmp_path / "nowhere.ckpt")
    with pytest.raises(ValueError, match="There are no test pictures: choose one of all, train "):
        embed(dataset=drawn_only, split="test")
    with pytest.raises(ValueError, match=r"Endless.* comes as a stream, .*: embed a map-style data set"):
        embed(dataset=Endless)
    with pytest.raises(ValueError, match="Unknown split 'dev'"):
        embed(split="dev")
    with pytest.raises(ValueError, match=r"describe an encoder: name it"):
        embed(stem="cifar")
    with pytest.raises(ValueError, match="The train pictures have 1 channel"):
        embed(dataset="digits")
    with pytest.raises(ValueError, match="mean and std have 1 numbers, the train pictures 3"):
        embed(mean=(0.5,), std=(0.5,))
    monkeypatch.setitem(FORMATS, ".npz", FORMATS[".npz"]._replace(packages=("no_such_package",)))
    with pytest.raises(ImportError, match=r"A \.npz file needs no_such_package: pip install no_such_package"):
        embed()
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "last.ckpt"}


def test_no_file_is_overwritten(embed: Embed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "features.npz"
    output.write_text("precious")
    with pytest.raises(FileExistsError, match=r"features\.npz exists and is not overwritten"):
        embed()
    assert output.read_text() == "precious"
    output.unlink()

    def slow(path: Path, parts: Parts, names: list[str] | None) -> None:
        write_npz(path, parts, names)
        output.write_text("precious")

    monkeypatch.setitem(FORMATS, ".npz", FORMATS[".npz"]._replace(write=slow))
    with pytest.raises(FileExistsError, match="has appeared meanwhile"):
        embed()
    assert output.read_text() == "precious"


def test_features_that_are_not_finite_are_refused(embed: Embed, model: SimCLR, checkpoint: Path) -> None:
    for value, message in ((torch.nan, "holds NaN in"), (1e38, r"The features of train/cat/0\.png are not finite")):
        next(model.encoder.parameters()).data.fill_(value)
        save(model, checkpoint, datamodule_hyper_parameters={"views": VIEWS})
        with pytest.raises(InputError, match=message):
            embed()


def test_devices_are_torchruns_where_it_was_used(embed: Embed, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "1", "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=r"devices is 2, but torchrun has started 3 process"):
        embed(devices=2)
