"""What happens to pixels in registers, in Triton: the jitter, grey, taps of the resize, noise and normalisation.

The formulas are those of ``torch_ops.py`` and ``whole_batch.py``. What is done to a view are plain numbers, which its
programs read from a row of the table of parameters, so each view has its own order of operations by branches alone.
"""

# ruff: noqa: ANN001, ANN201, ANN202 - types are those of each launch
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from simclr_lightning.views.torch_ops import LUMA

try:
    import triton
    from triton import language
except ImportError:  # not on every platform: fused.available says so. The files can be imported all the same.
    triton, language = SimpleNamespace(jit=lambda function: function), SimpleNamespace(constexpr=lambda number: number)

tl: Any = language

COLUMNS = (  # of the table of a view's parameters: 32 bits each, whole numbers first; a multiple of four
    "top",
    "left",
    "tall",
    "wide",
    "mirrored",  # 1 left to right, 2 top to bottom, 4 transposed: their sum
    "first",  # the jitter's operations in their order, -1 for none: see ViewParameters.order
    "second",
    "third",
    "fourth",
    "contrast_at",  # position of the contrast among them, or -1
    "grey",
    "blurred",  # number of the view among those that are blurred, or -1
    "brightness",
    "contrast",
    "saturation",
    "red",  # the hue's shifted primaries
    "green",
    "blue",
    "key_low",  # the halves of the noise's key
    "key_high",
)
WIDTH = tl.constexpr(len(COLUMNS))
TOP, LEFT, TALL, WIDE, MIRRORED = (tl.constexpr(COLUMNS.index(name)) for name in COLUMNS[:5])
_FIRST, CONTRAST_AT = tl.constexpr(COLUMNS.index("first")), tl.constexpr(COLUMNS.index("contrast_at"))
GREY, BLURRED = tl.constexpr(COLUMNS.index("grey")), tl.constexpr(COLUMNS.index("blurred"))
_BRIGHTNESS, _CONTRAST = tl.constexpr(COLUMNS.index("brightness")), tl.constexpr(COLUMNS.index("contrast"))
_SATURATION, _RED = tl.constexpr(COLUMNS.index("saturation")), tl.constexpr(COLUMNS.index("red"))
_KEY = tl.constexpr(COLUMNS.index("key_low"))

# SplitMix64's constants, see draw.mix
_GOLDEN, _MIX_FIRST, _MIX_SECOND = (
    tl.constexpr(number) for number in (-0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)
)
_FOR_RED, _FOR_GREEN, _FOR_BLUE = (tl.constexpr(weight) for weight in LUMA)


def jit(function: Any) -> Any:
    """A function of Triton's language."""
    return triton.jit(function)


@jit
def read(source, stride_channel, inside, channels: tl.constexpr, unit: tl.constexpr):
    """Pixels as float32 in [0, 1]: three channels, or one, three times."""
    red = tl.load(source, mask=inside, other=0).to(tl.float32) * unit
    green, blue = red, red
    if channels == 3:
        green = tl.load(source + stride_channel, mask=inside, other=0).to(tl.float32) * unit
        blue = tl.load(source + 2 * stride_channel, mask=inside, other=0).to(tl.float32) * unit
    return red, green, blue


@jit
def jittered(
    red,
    green,
    blue,
    last,
    red_mean,
    green_mean,
    blue_mean,
    own,
    factors,
    channels: tl.constexpr,
    additive: tl.constexpr,
    official: tl.constexpr,
):
    """The operations of a view's jitter before position ``last``, one after the other."""
    for position in range(last):
        operation = tl.load(own + _FIRST + position)
        if operation >= 2:
            if channels == 3:
                if operation == 3:
                    red, green, blue = _hue_shifted(red, green, blue, factors + _RED)
                else:
                    red, green, blue = _saturated(red, green, blue, tl.load(factors + _SATURATION), official)
        elif operation == 1:
            scale = tl.load(factors + _CONTRAST)
            red = clamped(red * scale + red_mean * (1.0 - scale))
            green = clamped(green * scale + green_mean * (1.0 - scale))
            blue = clamped(blue * scale + blue_mean * (1.0 - scale))
        elif operation == 0:
            scale, shift = 1.0, tl.load(factors + _BRIGHTNESS)
            if not additive:
                scale, shift = shift, 0.0
            red, green, blue = (
                clamped(red * scale + shift),
                clamped(green * scale + shift),
                clamped(blue * scale + shift),
            )
    return red, green, blue


@jit
def _saturated(red, green, blue, factor, official: tl.constexpr):
    """See ``torch_ops.saturation`` and ``torch_ops.hsv_saturation``."""
    if official:
        largest = tl.maximum(tl.maximum(red, green), blue)
        chroma = largest - tl.minimum(tl.minimum(red, green), blue)
        most = largest / tl.where(chroma > 0.0, chroma, 1.0)
        scale = tl.where(chroma * factor > largest, most, factor)
        red = largest - (largest - red) * scale
        green = largest - (largest - green) * scale
        blue = largest - (largest - blue) * scale
    else:
        rest = grey_level(red, green, blue) * (1.0 - factor)
        red, green, blue = red * factor + rest, green * factor + rest, blue * factor + rest
    return clamped(red), clamped(green), clamped(blue)


@jit
def mean_of(sums, tiles: tl.constexpr, many: tl.constexpr, pixels: tl.constexpr):
    """Mean of a view's levels from the sums of its tiles."""
    tile = tl.arange(0, many)
    return tl.sum(tl.load(sums + tile, mask=tile < tiles, other=0.0), axis=0) / pixels


@jit
def _hue_shifted(red, green, blue, primaries):
    """See ``torch_ops.hue``."""
    largest = tl.maximum(tl.maximum(red, green), blue)
    smallest = tl.minimum(tl.minimum(red, green), blue)
    chroma = largest - smallest
    hue = green + blue - red + chroma - smallest
    hue = tl.where(green < blue, -hue, hue)
    return (
        _channel(hue, chroma, largest, smallest, tl.load(primaries)),
        _channel(hue, chroma, largest, smallest, tl.load(primaries + 1)),
        _channel(hue, chroma, largest, smallest, tl.load(primaries + 2)),
    )


@jit
def _channel(hue, chroma, largest, smallest, primary):
    value = tl.abs(tl.abs(hue - chroma * primary) - 3.0 * chroma) + (smallest - chroma)
    return tl.minimum(tl.maximum(value, smallest), largest)


@jit
def grey_level(red, green, blue):
    """See ``torch_ops.luma``."""
    return red * _FOR_RED + green * _FOR_GREEN + blue * _FOR_BLUE


@jit
def clamped(value):
    """What lies outside [0, 1] is moved to its ends."""
    return tl.minimum(tl.maximum(value, 0.0), 1.0)


@jit
def tap_weight(distance, cubic: tl.constexpr):
    """Of a tap: Keys' cubic convolution kernel (1981) with a = -0.5, or a triangle."""
    x = tl.abs(distance)
    if cubic:
        far = tl.where(x < 2.0, ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0, 0.0)
        weight = tl.where(x < 1.0, (1.5 * x - 2.5) * x * x + 1.0, far)
    else:
        weight = tl.maximum(1.0 - x, 0.0)
    return weight


@jit
def finished(
    value,
    pixel,
    channel,
    own,
    normal,
    size: tl.constexpr,
    channels: tl.constexpr,
    noise: tl.constexpr,
    normalise: tl.constexpr,
):
    """Noise and normalisation; ``normal`` holds the means, then the standard deviations, of the channels."""
    if noise > 0:
        low, high = tl.load(own + _KEY).to(tl.int64), tl.load(own + _KEY + 1).to(tl.int64)
        value = clamped(
            value + noise * _standard_normal((high << 32) | (low & 0xFFFFFFFF), channel * (size * size) + pixel)
        )
    if normalise:
        value = (value - tl.load(normal + channel)) / tl.load(normal + channels + channel)
    return value


@jit
def _standard_normal(key, counter):
    """See ``torch_ops.pixel_noise``; erfinv by Giles's polynomials for single precision (2012)."""
    bits = key + (counter.to(tl.int64) + 1) * _GOLDEN
    bits = (bits ^ ((bits >> 30) & 0x3FFFFFFFF)) * _MIX_FIRST
    bits = (bits ^ ((bits >> 27) & 0x1FFFFFFFFF)) * _MIX_SECOND
    bits = bits ^ ((bits >> 31) & 0x1FFFFFFFF)
    # By 2^24, exactly, unlike a GPU's division: what is rounded to 1 has an infinite logarithm.
    x = (((bits >> 39) & 0x1FFFFFE) + 1 - 16777216).to(tl.float32) * 5.9604644775390625e-08
    w = -tl.log((1.0 - x) * (1.0 + x))
    near = w - 2.5
    centre = 2.81022636e-08
    centre = 3.43273939e-07 + centre * near
    centre = -3.5233877e-06 + centre * near
    centre = -4.39150654e-06 + centre * near
    centre = 0.00021858087 + centre * near
    centre = -0.00125372503 + centre * near
    centre = -0.00417768164 + centre * near
    centre = 0.246640727 + centre * near
    centre = 1.50140941 + centre * near
    far = tl.sqrt(tl.maximum(w, 0.0)) - 3.0
    tail = -0.000200214257
    tail = 0.000100950558 + tail * far
    tail = 0.00134934322 + tail * far
    tail = -0.00367342844 + tail * far
    tail = 0.00573950773 + tail * far
    tail = -0.0076224613 + tail * far
    tail = 0.00943887047 + tail * far
    tail = 1.00167406 + tail * far
    tail = 2.83297682 + tail * far
    return tl.where(w < 5.0, centre, tail) * x * 1.4142135623730951
