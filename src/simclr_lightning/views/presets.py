"""The named recipes, as fields of ``ViewRecipe``."""

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

PRESETS: Mapping[str, Mapping[str, object]] = {
    "imagenet": _IMAGENET,
    # The same numbers in the forms that Google's code gives them, see ViewRecipe.forms.
    "official": {**_IMAGENET, "forms": "official"},
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
}
