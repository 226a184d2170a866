"""What is in a picture's file beside its pixels: the orientation is read, all else can be left out."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

_ORIENTATION = 0x0112
_INTEGERS = {1: "B", 3: "H", 4: "L"}  # types of an entry; the standard has 3, and some programs write the others
_TYPES = set(range(1, 14))
_PIXEL_TAGS = {
    *(
        254,
        255,
        256,
        257,
        258,
        259,
        262,
        266,
        273,
        274,
        277,
        278,
        279,
        284,
        292,
        293,
        317,
        320,
        322,
        323,
        324,
        325,
        332,
    ),
    *(338, 339, 340, 341, 347, *range(512, 522), 529, 530, 531, 532),
}
"""Entries of a TIFF that say where its pixels are and what they mean (TIFF 6.0, and 347 of its JPEG note)."""


class Bare(NamedTuple):
    """A picture's file without what does not make its pixels.

    Attributes:
        data: of the smaller file.
        exif: the block that was in the file, b"" where there was none.

    Example:
        >>> Bare(b"", b"").exif
        b''
    """

    data: bytes
    exif: bytes


def orientation(block: bytes) -> int:
    """How a picture has to be turned, by its EXIF block; no other entry is read, however damaged.

    Where the list of entries is damaged, an entry of the standard's form is looked for in the whole block.

    Args:
        block: the header of a TIFF and a list of entries, with or without ``Exif`` in front (EXIF 2.3, section 4.6).

    Returns:
        1 (upright, also where nothing is known) to 8.

    Example:
        >>> from PIL import Image
        >>> exif = Image.Exif()
        >>> exif[0x0112] = 6
        >>> orientation(exif.tobytes()), orientation(b"damaged")
        (6, 1)
    """
    while block.startswith(b"Exif\0\0"):
        block = block[6:]
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    listed = None if order is None else _listed(block, order)
    if listed is not None:
        return listed
    for either in "<>":
        place = block.find(struct.pack(f"{either}HHL", _ORIENTATION, 3, 1))
        if 0 <= place <= len(block) - 10:
            (value,) = struct.unpack_from(f"{either}H", block, place + 8)
            if 1 <= value <= 8:
                return int(value)
    return 1


def without_metadata(data: bytes) -> Bare | None:
    """Leave out what does not make a picture's pixels, for a decoder that stumbles over it.

    Args:
        data: a file.

    Returns:
        The bare picture of a JPEG, PNG, WebP, TIFF or AVIF; None of other files, and where nothing can be left out.

    Example:
        >>> import io
        >>> from PIL import Image
        >>> whole = io.BytesIO()
        >>> Image.new("RGB", (8, 8)).save(whole, "png", exif=b"MM, and nothing more")
        >>> without_metadata(whole.getvalue()).exif
        b'MM, and nothing more'
    """
    try:
        if data.startswith(b"\xff\xd8"):
            bare = _bare_jpeg(data)
        elif data.startswith(b"\x89PNG\r\n\x1a\n"):
            bare = _bare_png(data)
        elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            bare = _bare_webp(data)
        elif data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            bare = _bare_tiff(data)
        elif data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis"):  # which says how to turn it elsewhere, too
            bare = Bare(data.replace(b"Exif", b"skip", 1), b"")  # the name in the list of what the file holds
        else:
            return None
    except (struct.error, IndexError):  # its structure is damaged, too
        return None
    return bare if bare.data != data else None


def _listed(block: bytes, order: str) -> int | None:
    """What the list of entries says, None where it is damaged and says nothing."""
    tags, kinds, other = [], set(), 1
    try:
        (start,) = struct.unpack_from(f"{order}L", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind, number = struct.unpack_from(f"{order}HHL", block, place)
            tags.append(tag)
            kinds.add(kind)
            if tag == _ORIENTATION and number == 1 and kind in _INTEGERS:
                (value,) = struct.unpack_from(order + _INTEGERS[kind], block, place + 8)
                if 1 <= value <= 8 and kind == 3:
                    return int(value)
                other = value if 1 <= value <= 8 else other
        (following,) = struct.unpack_from(f"{order}L", block, start + 2 + 12 * count)
    except struct.error:  # beyond the end
        return None
    # A damaged number of entries shows in what follows them, a damaged place of the list in their order and types.
    sound = tags and tags == sorted(tags) and kinds <= _TYPES and following < len(block)
    return other if sound else None


def _bare_jpeg(data: bytes) -> Bare:
    """Without the segments APP1 to APP15 and comments, but for Adobe's, which tells the colours."""
    kept, exif, place = [data[:2]], b"", 2
    while True:
        if data[place] != 0xFF:
            raise IndexError("no segment begins here")
        marker = data[place + 1]
        if marker == 0xFF:  # fills up
            place += 1
            continue
        if marker == 0xDA:  # the pixels
            return Bare(b"".join([*kept, data[place:]]), exif)
        end = place + 2 + struct.unpack_from(">H", data, place + 2)[0]
        if (0xE1 <= marker <= 0xEF and marker != 0xEE) or marker == 0xFE:
            content = data[place + 4 : end]
            exif = exif or (content if marker == 0xE1 and content.startswith(b"Exif\0\0") else b"")
        else:
            kept.append(data[place:end])
        place = end


def _bare_png(data: bytes) -> Bare:
    """Without the chunks that a decoder may leave out, but for transparency."""
    kept, exif, place = [data[:8]], b"", 8
    while place < len(data):
        (length,) = struct.unpack_from(">L", data, place)
        kind, end = data[place + 4 : place + 8], place + 12 + length
        if kind == b"eXIf":
            exif = exif or data[place + 8 : end - 4]
        elif kind[0] & 0x20 == 0 or kind == b"tRNS":
            kept.append(data[place:end])
        place = end
    return Bare(b"".join(kept), exif)


def _bare_webp(data: bytes) -> Bare:
    """Without EXIF, XMP and profile."""
    kept, exif, place = [], b"", 12
    while place < len(data):
        kind, length = struct.unpack_from("<4sL", data, place)
        end = place + 8 + length + length % 2
        if kind == b"EXIF":
            exif = exif or data[place + 8 : place + 8 + length]
        elif kind == b"VP8X":  # says what there is
            kept.append(data[place : place + 8] + bytes([data[place + 8] & ~0x2C]) + data[place + 9 : end])
        elif kind not in (b"XMP ", b"ICCP"):
            kept.append(data[place:end])
        place = end
    chunks = b"".join(kept)
    return Bare(b"RIFF" + struct.pack("<L", len(chunks) + 4) + b"WEBP" + chunks, exif)


def _bare_tiff(data: bytes) -> Bare:
    """The first page with the entries of its pixels alone, of which orientation is one; all else stays in its place."""
    order, big = "<" if data[:2] == b"II" else ">", data[2 if data[:2] == b"II" else 3] == 43
    start_at, number, size, link = (8, "Q", 20, "Q") if big else (4, "H", 12, "L")
    (start,) = struct.unpack_from(order + link, data, start_at)
    (count,) = struct.unpack_from(order + number, data, start)
    first = start + struct.calcsize(order + number)
    kept = [
        entry for entry in _parts(data, first, size, count) if struct.unpack(f"{order}H", entry[:2])[0] in _PIXEL_TAGS
    ]
    entries = struct.pack(order + number, len(kept)) + b"".join(kept) + struct.pack(order + link, 0)
    return Bare(data[:start] + entries + data[start + len(entries) :], b"")


def _parts(data: bytes, first: int, size: int, count: int) -> Iterator[bytes]:
    if first + size * count > len(data):
        raise IndexError("the list goes beyond the end")
    for place in range(first, first + size * count, size):
        yield data[place : place + size]
