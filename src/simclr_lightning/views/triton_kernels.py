"""The passes over the pixels of a batch of views, in Triton: crop, mean grey level, colour, two directions of the blur.

``fused.py`` launches them. A program works on one tile of one view. Nothing is added atomically, so the same views come
out each time. Views lie in memory as (M, S, S, C), PyTorch's channels_last.
"""

# ruff: noqa: ANN001, ANN201, SIM102 - types are those of each launch; Triton needs some nested ifs
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from simclr_lightning.views.triton_ops import (
    BLURRED,
    CONTRAST_AT,
    GREY,
    LEFT,
    MIRRORED,
    TALL,
    TOP,
    WIDE,
    WIDTH,
    clamped,
    finished,
    grey_level,
    jit,
    jittered,
    mean_of,
    read,
    tap_weight,
    tl,
)


@jit
def crop_kernel(
    pictures,
    crops,
    table,
    number,
    stride_picture,
    stride_channel,
    stride_row,
    stride_column,
    size: tl.constexpr,
    channels: tl.constexpr,
    cubic: tl.constexpr,
    antialias: tl.constexpr,
    unit: tl.constexpr,
    block: tl.constexpr,
):
    """Fill (M, S, S, C) float32 crops; see ``whole_batch.crop_resize``. The weights of both directions are products."""
    view = tl.program_id(0)
    pixel = tl.program_id(1) * block + tl.arange(0, block)
    channel = tl.program_id(2)
    inside = pixel < size * size
    own = table + view * WIDTH
    top, left = tl.load(own + TOP), tl.load(own + LEFT)
    tall, wide = tl.load(own + TALL), tl.load(own + WIDE)
    mirrored = tl.load(own + MIRRORED)
    transposed = (mirrored & 4) != 0
    x = tl.where(transposed, pixel // size, pixel % size)
    y = tl.where(transposed, pixel % size, pixel // size)
    x = tl.where((mirrored & 1) != 0, size - 1 - x, x)
    y = tl.where((mirrored & 2) != 0, size - 1 - y, y)
    radius: tl.constexpr = 2 if cubic else 1
    scale_y, scale_x = tall.to(tl.float32) / size, wide.to(tl.float32) / size
    wider_y, wider_x = scale_y * 0.0 + 1.0, scale_x * 0.0 + 1.0
    if antialias:
        wider_y, wider_x = tl.maximum(scale_y, 1.0), tl.maximum(scale_x, 1.0)
    centre_y, centre_x = (y.to(tl.float32) + 0.5) * scale_y, (x.to(tl.float32) + 0.5) * scale_x
    first_y = tl.floor(centre_y - radius * wider_y + 0.5).to(tl.int32)
    first_x = tl.floor(centre_x - radius * wider_x + 0.5).to(tl.int32)
    taps_y, taps_x = tl.ceil(2 * radius * wider_y).to(tl.int32), tl.ceil(2 * radius * wider_x).to(tl.int32)

    picture = pictures + (view % number).to(tl.int64) * stride_picture + channel * stride_channel
    red, green, blue = tl.zeros([block], tl.float32), tl.zeros([block], tl.float32), tl.zeros([block], tl.float32)
    total = tl.zeros([block], tl.float32)
    for i in range(taps_y):
        row = first_y + i
        weight_y = tap_weight((row.to(tl.float32) + 0.5 - centre_y) / wider_y, cubic)
        weight_y = tl.where((row >= 0) & (row < tall), weight_y, 0.0)
        for j in range(taps_x):
            column = first_x + j
            counts = inside & (row >= 0) & (row < tall) & (column >= 0) & (column < wide)
            weight = weight_y * tap_weight((column.to(tl.float32) + 0.5 - centre_x) / wider_x, cubic)
            weight = tl.where(counts, weight, 0.0)
            source = picture + (top + row) * stride_row + (left + column) * stride_column
            total += weight
            red += weight * tl.load(source, mask=counts, other=0).to(tl.float32)
            if channels == 3:
                green += weight * tl.load(source + stride_channel, mask=counts, other=0).to(tl.float32)
                blue += weight * tl.load(source + 2 * stride_channel, mask=counts, other=0).to(tl.float32)
    scale = unit / tl.where(inside, total, 1.0)
    target = crops + view.to(tl.int64) * (size * size * channels) + pixel * channels + channel
    tl.store(target, clamped(red * scale), mask=inside)
    if channels == 3:
        tl.store(target + 1, clamped(green * scale), mask=inside)
        tl.store(target + 2, clamped(blue * scale), mask=inside)


@jit
def level_kernel(
    pixels,
    sums,
    table,
    numbers,
    number,
    stride_view,
    stride_picture,
    stride_channel,
    stride_row,
    stride_column,
    size: tl.constexpr,
    channels: tl.constexpr,
    additive: tl.constexpr,
    official: tl.constexpr,
    unit: tl.constexpr,
    levels: tl.constexpr,
    tiles: tl.constexpr,
    block: tl.constexpr,
):
    """Fill (M, levels, tiles) float32: sums of what the contrast finds, after the operations before it.

    That is the grey level of three channels, or, of others and in the official forms, each channel by itself.
    """
    view, tile, channel = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    own = table + view * WIDTH
    contrast_at = tl.load(own + CONTRAST_AT)
    if contrast_at >= 0:
        pixel = tile * block + tl.arange(0, block)
        inside = pixel < size * size
        source = pixels + (view // number).to(tl.int64) * stride_view + (view % number).to(tl.int64) * stride_picture
        source += channel * stride_channel + (pixel // size) * stride_row + (pixel % size) * stride_column
        red, green, blue = read(source, stride_channel, inside, channels, unit)
        factors = numbers + view * WIDTH
        red, green, blue = jittered(
            red, green, blue, contrast_at, 0.0, 0.0, 0.0, own, factors, channels, additive, official
        )
        target = sums + (view * levels + channel) * tiles + tile
        if channels == 3 and levels == 1:
            red = grey_level(red, green, blue)
        tl.store(target, tl.sum(tl.where(inside, red, 0.0), axis=0))
        if channels == 3 and levels == 3:
            tl.store(target + tiles, tl.sum(tl.where(inside, green, 0.0), axis=0))
            tl.store(target + 2 * tiles, tl.sum(tl.where(inside, blue, 0.0), axis=0))


@jit
def colour_kernel(
    pixels,
    views,
    sharp,
    sums,
    table,
    numbers,
    normal,
    number,
    stride_view,
    stride_picture,
    stride_channel,
    stride_row,
    stride_column,
    size: tl.constexpr,
    channels: tl.constexpr,
    additive: tl.constexpr,
    official: tl.constexpr,
    unit: tl.constexpr,
    levels: tl.constexpr,
    noise: tl.constexpr,
    normalise: tl.constexpr,
    tiles: tl.constexpr,
    many: tl.constexpr,
    block: tl.constexpr,
):
    """Jitter and grey. Views that are blurred go to ``sharp``, (B, S, S, C) float32; the others are finished."""
    view = tl.program_id(0)
    pixel = tl.program_id(1) * block + tl.arange(0, block)
    channel = tl.program_id(2)
    inside = pixel < size * size
    own = table + view * WIDTH
    source = pixels + (view // number).to(tl.int64) * stride_view + (view % number).to(tl.int64) * stride_picture
    source += channel * stride_channel + (pixel // size) * stride_row + (pixel % size) * stride_column
    red, green, blue = read(source, stride_channel, inside, channels, unit)
    red_mean, green_mean, blue_mean = 0.0, 0.0, 0.0
    if tl.load(own + CONTRAST_AT) >= 0:
        sums += (view * levels + channel) * tiles
        red_mean = mean_of(sums, tiles, many, size * size)
        green_mean, blue_mean = red_mean, red_mean
        if channels == 3 and levels == 3:
            green_mean = mean_of(sums + tiles, tiles, many, size * size)
            blue_mean = mean_of(sums + 2 * tiles, tiles, many, size * size)
    factors = numbers + view * WIDTH
    red, green, blue = jittered(
        red, green, blue, 4, red_mean, green_mean, blue_mean, own, factors, channels, additive, official
    )
    if channels == 3:
        if tl.load(own + GREY) != 0:
            red = grey_level(red, green, blue)
            green = red
            blue = red
    place = pixel * channels + channel
    blurred = tl.load(own + BLURRED)
    if blurred >= 0:
        target = sharp + blurred.to(tl.int64) * (size * size * channels) + place
        tl.store(target, red, mask=inside)
        if channels == 3:
            tl.store(target + 1, green, mask=inside)
            tl.store(target + 2, blue, mask=inside)
    else:
        own_view = views + view.to(tl.int64) * (size * size * channels) + place
        tl.store(own_view, finished(red, pixel, channel, own, normal, size, channels, noise, normalise), mask=inside)
        if channels == 3:
            tl.store(
                own_view + 1, finished(green, pixel, 1, own, normal, size, channels, noise, normalise), mask=inside
            )
            tl.store(own_view + 2, finished(blue, pixel, 2, own, normal, size, channels, noise, normalise), mask=inside)


@jit
def blur_kernel(
    source,
    target,
    table,
    blurred,
    weights,
    normal,
    size: tl.constexpr,
    channels: tl.constexpr,
    width: tl.constexpr,
    last: tl.constexpr,
    zeros: tl.constexpr,
    noise: tl.constexpr,
    normalise: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
):
    """One direction of the blur of (B, S, S, C) float32: down into the same, or, last, along the rows into views."""
    line: tl.constexpr = size * channels
    across: tl.constexpr = (line + columns - 1) // columns
    one, tile = tl.program_id(0), tl.program_id(1)
    y = (tile // across) * rows + tl.arange(0, rows)[:, None]
    place = (tile % across) * columns + tl.arange(0, columns)[None, :]  # in the line: x and channel
    inside = (y < size) & (place < line)
    view, reach = tl.load(blurred + one * width), tl.load(blurred + one * width + 1)
    weights += one * width + 2
    start = source + one.to(tl.int64) * (size * line) + y * line + place
    at = place // channels if last else y
    step: tl.constexpr = channels if last else line
    value = tl.load(start, mask=inside, other=0.0) * tl.load(weights)
    for k in range(1, reach + 1):
        before = tl.abs(at - k)
        after = tl.where(at + k < size, at + k, 2 * (size - 1) - at - k)
        one_side, other_side = inside, inside
        if zeros:
            one_side, other_side = inside & (at >= k), inside & (at + k < size)
        pair = tl.load(start + (before - at) * step, mask=one_side, other=0.0)
        pair += tl.load(start + (after - at) * step, mask=other_side, other=0.0)
        value += pair * tl.load(weights + k)
    if last:
        pixel, channel = y * size + place // channels, place % channels
        value = finished(value, pixel, channel, table + view * WIDTH, normal, size, channels, noise, normalise)
        tl.store(target + view.to(tl.int64) * (size * line) + y * line + place, value, mask=inside)
    else:
        tl.store(target + one.to(tl.int64) * (size * line) + y * line + place, value, mask=inside)
