"""The named recipes, as fields of ``ViewRecipe``; docs/presets.md says where every number is from."""

from __future__ import annotations

from collections.abc import Mapping

# Chen et al. 2020, appendix A, and the official code's order and ranges.
_IMAGENET: dict[str, object] = {
    "size": 224,
    "crop_area": (0.08, 1.0),
    "crop_ratio": (3 / 4, 4 / 3),
    "crop": 1.0,
    "interpolation": "bicubic",
    "flip": 0.5,
    "vertical_flip": 0.0,
    "rotate90": 0.0,
    "rotation": 0.0,
    "jitter": 0.8,
    "jitter_strength": 1.0,
    "brightness": 0.8,
    "contrast": 0.8,
    "saturation": 0.8,
    "hue": 0.2,
    "additive_brightness": False,
    "grey": 0.2,
    "blur": 0.5,
    "blur_sigma": (0.1, 2.0),
    "noise": 0.0,
    "normalize": "recipe",
    "forms": "torchvision",
    "count": 2,
}
_NO_COLOUR: dict[str, object] = {"saturation": 0.0, "hue": 0.0, "grey": 0.0}
_ANY_ORIENTATION: dict[str, object] = {"flip": 0.5, "rotate90": 0.75}  # all eight equally likely

PRESETS: Mapping[str, Mapping[str, object]] = {
    "imagenet": _IMAGENET,
    # Appendix B.9: half the jitter, no blur.
    "cifar10": {**_IMAGENET, "size": 32, "jitter_strength": 0.5, "blur": 0.0},
    # The ImageNet recipe at the side of STL-10's pictures; the paper has no STL-10 recipe of its own.
    "stl10": {**_IMAGENET, "size": 96},
    # One channel, 28 px (the MNIST family): what is left of the recipe where there is no colour.
    "grayscale": {
        **_IMAGENET,
        "size": 28,
        "jitter_strength": 0.5,
        "saturation": 0.0,
        "hue": 0.0,
        "grey": 0.0,
        "blur": 0.0,
    },
    # Handwritten digits of 8 x 8 pixels, doubled: a mirrored digit is another sign, and there is no colour.
    "digits": {
        **_IMAGENET,
        "size": 16,
        "crop_area": (0.4, 1.0),
        "flip": 0.0,
        "rotation": 15.0,
        "jitter": 0.0,
        "saturation": 0.0,
        "hue": 0.0,
        "grey": 0.0,
        "blur": 0.0,
        "noise": 0.05,
    },
    # A popular walk-through of SimCLR: gentler crops than the paper's.
    "article": {**_IMAGENET, "crop_area": (0.2, 1.0)},
    # The same numbers in the forms that Google's code gives them, see ViewRecipe.forms.
    "official": {**_IMAGENET, "forms": "official"},
    # Photographs of the fundus: weak views beat strong ones (Cheng et al., arXiv 2501.02451).
    "retina": {
        **_IMAGENET,
        "crop_area": (0.5, 1.0),
        "rotation": 15.0,
        "jitter_strength": 0.25,
        "hue": 0.1,
        "grey": 0.0,
        "blur": 0.0,
    },
    # Chest X-rays, one channel (van der Sluijs et al., MIDL 2023); a mirrored chest has its heart on the wrong side.
    "xray": {
        **_IMAGENET,
        **_NO_COLOUR,
        "crop_area": (0.2, 1.0),
        "flip": 0.0,
        "brightness": 0.4,
        "contrast": 0.4,
        "blur": 0.0,
    },
    # Stained tissue has no up (arXiv 2402.14566), and its colours tell the stain, not the diagnosis alone.
    "histology": {
        **_IMAGENET,
        **_ANY_ORIENTATION,
        "crop_area": (0.2, 1.0),
        "jitter_strength": 0.5,
        "grey": 0.0,
    },
    # Bands of a satellite, two or more (GeoRank, arXiv 2601.02289).
    "multispectral": {
        **_IMAGENET,
        **_NO_COLOUR,
        **_ANY_ORIENTATION,
        "size": 64,
        "crop_area": (0.2, 1.0),
        "brightness": 0.1,
        "contrast": 0.0,
        "blur": 0.0,
    },
    # Channels of fluorescence, each normalised by itself (CHAMMI-75), which undoes brightness and contrast.
    "microscopy": {
        **_IMAGENET,
        **_NO_COLOUR,
        "crop_area": (0.2, 1.0),
        "flip": 0.5,
        "vertical_flip": 0.5,
        "jitter": 0.0,
        "normalize": "picture",
    },
    # Galaxies turn freely and keep their shape (Hayat et al., arXiv 2012.13083).
    "galaxy": {
        **_IMAGENET,
        **_NO_COLOUR,
        "size": 64,
        "crop_area": (0.5, 1.0),
        "crop_ratio": (1.0, 1.0),
        "flip": 0.5,
        "rotation": 180.0,
        "brightness": 0.2,
        "contrast": 0.0,
        "blur": 0.0,
        "noise": 0.02,
    },
}
