"""Whole images of every format that is read, and changes that keep their checksums right."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from feature_alignment.data.formats import formats

from .mutations import INTEGERS, change_bytes

#: Formats that PIL writes: name, extension, modes, options.
WRITTEN: tuple[tuple[str, str, tuple[str, ...], dict[str, Any]], ...] = (
    ("PNG", "png", ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"), {}),
    ("JPEG", "jpg", ("RGB", "L", "CMYK"), {"exif": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"}),
    ("JPEG", "jpg", ("RGB",), {"progressive": True}),
    ("MPO", "mpo", ("RGB",), {}),
    ("GIF", "gif", ("P", "L"), {}),
    ("TIFF", "tif", ("RGB", "L", "I;16", "F", "CMYK", "1", "P"), {}),
    ("TIFF", "tif", ("RGB", "F"), {"compression": "tiff_lzw"}),
    ("TIFF", "tif", ("RGB", "L"), {"compression": "tiff_adobe_deflate"}),
    ("TIFF", "tif", ("1",), {"compression": "group4"}),
    ("TIFF", "tif", ("RGB",), {"compression": "jpeg"}),
    ("BMP", "bmp", ("RGB", "L", "1", "P", "RGBA"), {}),
    ("DIB", "dib", ("RGB",), {}),
    ("WEBP", "webp", ("RGB", "RGBA"), {}),
    ("WEBP", "webp", ("RGBA",), {"lossless": True}),
    ("AVIF", "avif", ("RGB", "RGBA"), {"speed": 10}),
    ("HEIF", "heic", ("RGB", "RGBA"), {}),
    ("DDS", "dds", ("RGB", "RGBA", "L"), {}),
    ("DDS", "dds", ("RGBA",), {"pixel_format": "DXT5"}),
    ("BLP", "blp", ("P",), {}),
    ("ICNS", "icns", ("RGBA",), {}),
    ("ICO", "ico", ("RGBA", "RGB"), {}),
    ("ICO", "ico", ("RGBA",), {"bitmap_format": "bmp"}),
    ("IM", "im", ("RGB", "L", "F"), {}),
    ("JPEG2000", "jp2", ("RGB", "L", "RGBA", "I;16"), {}),
    ("MSP", "msp", ("1",), {}),
    ("PCX", "pcx", ("RGB", "L", "1", "P"), {}),
    ("PPM", "ppm", ("RGB", "L", "1", "I;16", "F"), {}),
    ("QOI", "qoi", ("RGB", "RGBA"), {}),
    ("SGI", "sgi", ("RGB", "L", "RGBA"), {}),
    ("SPIDER", "spider", ("F",), {}),
    ("TGA", "tga", ("RGB", "L", "RGBA"), {}),
    ("TGA", "tga", ("RGB", "P"), {"compression": "tga_rle"}),
    ("XBM", "xbm", ("1",), {}),
)


def whole_images() -> dict[str, list[tuple[str, bytes]]]:
    """Return whole images by format, each with its extension."""
    formats()  # registers all that are read
    found: dict[str, list[tuple[str, bytes]]] = {}
    for name, ending, modes, options in WRITTEN:
        if name in Image.SAVE:
            for mode in modes:
                content = io.BytesIO()
                _picture(mode).save(content, name, **options)
                found.setdefault(name, []).append((ending, content.getvalue()))
    for name, ending, content in _by_hand():
        found.setdefault(name, []).append((ending, content))
    return found


def _picture(mode: str) -> Image.Image:
    rng = np.random.default_rng(len(mode))
    pixels = np.clip(np.add.outer(np.arange(24), np.arange(24)) * 5 + rng.integers(0, 9, (24, 24)), 0, 255)
    if mode in ("F", "I;16"):
        return Image.fromarray((pixels * 200).astype(np.uint16) if mode == "I;16" else pixels.astype(np.float32) / 255)
    picture = Image.fromarray(np.stack([pixels, pixels.T, 255 - pixels], 2).astype(np.uint8))
    return picture.convert(mode)


def _by_hand() -> list[tuple[str, str, bytes]]:
    """Return small images in formats that PIL only reads."""
    grey = bytes(range(0, 256, 4))  # 8 x 8
    colour = bytes(range(192))
    icon = io.BytesIO()
    Image.new("RGB", (16, 16), (9, 80, 200)).save(icon, "ICO", bitmap_format="bmp", sizes=[(16, 16)])
    pcx = io.BytesIO()
    Image.new("L", (8, 8), 100).save(pcx, "PCX")
    fits = [
        "SIMPLE  = T", "BITPIX  = 8", "NAXIS   = 2", "NAXIS1  = 8", "NAXIS2  = 8", "END",
    ]  # fmt: skip
    fli_chunk = struct.pack("<IHH", 6 + 64, 16, 0)[:6] + grey
    fli_frame = struct.pack("<IHH8x", 16 + len(fli_chunk), 0xF1FA, 1) + fli_chunk
    fli = struct.pack("<IHHHHHHI", 128 + len(fli_frame), 0xAF11, 1, 8, 8, 8, 3, 5) + bytes(108) + fli_frame
    pixar = b"\x80\xe8\0\0".ljust(416, b"\0") + struct.pack("<HHHHHH", 8, 8, 8, 8, 14, 2)
    return [
        ("SUN", "ras", struct.pack(">8I", 0x59A66A95, 8, 8, 8, 64, 1, 0, 0) + grey),
        ("SUN", "ras", struct.pack(">8I", 0x59A66A95, 8, 8, 24, 192, 2, 0, 0) + colour),
        ("XPM", "xpm", b'/* XPM */\nstatic char *a[] = {\n"8 2 2 1",\n"a c #ff0000",\n"b c None",\n'
                       b'"abababab",\n"babababa"\n};\n'),
        ("FITS", "fits", "".join(f"{line:80}" for line in fits).ljust(2880).encode() + grey.ljust(2880, b"\0")),
        ("CUR", "cur", b"\0\0\2\0" + icon.getvalue()[4:]),
        ("DCX", "dcx", struct.pack("<3I", 0x3ADE68B1, 12, 0) + pcx.getvalue()),
        ("PSD", "psd", b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 8, 8, 8, 3) + bytes(12) + b"\0\0" + colour),
        ("PSD", "psd", b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 1, 8, 8, 8, 1) + bytes(12) + b"\0\1"
                       + struct.pack(">8H", *[9] * 8) + (b"\7" + bytes(range(8))) * 8),
        ("PIXAR", "pxr", pixar.ljust(1024, b"\0") + colour),
        ("GBR", "gbr", struct.pack(">5I", 28, 2, 8, 8, 1) + b"GIMP" + struct.pack(">I", 10) + grey),
        ("FLI", "fli", fli),
        ("XVTHUMB", "xvt", b"P7 332\n#END_OF_COMMENTS\n8 8 255\n" + grey),
        ("MCIDAS", "area", b"\0\0\0\0\0\0\0\4" + struct.pack(">62i", *[0, 0, 0, 0, 0, 8, 8, 1, 1, 1, 1, 1, 1],
                                                             *[0] * 18, 256, *[0] * 30) + grey),
        ("FTEX", "ftc", struct.pack("<4s5i2i", b"FTEX", 0x10000, 8, 8, 1, 1, 1, 32) + struct.pack("<i", 192) + colour),
        ("PPM", "pgm", b"P2 8 8 255\n" + b" ".join(b"%d" % value for value in grey)),
        ("PPM", "pbm", b"P1 8 8\n" + b"10" * 32),
    ]  # fmt: skip


def change_image(rng: np.random.Generator, name: str, content: bytes, other: bytes) -> bytes:
    """Change an image; a PNG often chunk by chunk, with its checksums right, so that what follows them is read."""
    if name == "PNG" and rng.random() < 0.7:
        return _joined(_changed_chunks(rng, _chunks(content), _chunks(other)))
    return change_bytes(rng, content, other, 8)


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at + 12 <= len(png):
        length = int.from_bytes(png[at : at + 4], "big")
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def _joined(chunks: list[tuple[bytes, bytes]]) -> bytes:
    parts = [b"\x89PNG\r\n\x1a\n"]
    for kind, data in chunks:
        parts += [len(data).to_bytes(4, "big"), kind, data, zlib.crc32(kind + data).to_bytes(4, "big")]
    return b"".join(parts)


def _changed_chunks(
    rng: np.random.Generator, chunks: list[tuple[bytes, bytes]], others: list[tuple[bytes, bytes]]
) -> list[tuple[bytes, bytes]]:
    at, chance = int(rng.integers(len(chunks))), rng.random()
    kind, data = chunks[at]
    if chance < 0.3:  # a field of the header
        size, field = rng.choice(np.array(INTEGERS, np.uint64)), int(rng.integers(2)) * 4
        fields = bytearray(chunks[0][1])
        if rng.random() < 0.5:
            fields[field : field + 4] = int(size).to_bytes(8, "big")[4:]
        else:
            fields[int(rng.integers(8, 13))] = int(rng.integers(20))
        chunks[0] = (b"IHDR", bytes(fields))
    elif chance < 0.5:
        chunks[at:at] = [chunks[at]] * int(rng.integers(1, 20))
    elif chance < 0.6:
        del chunks[at]
    elif chance < 0.7:
        chunks[at:at] = [others[int(rng.integers(len(others)))]]
    elif chance < 0.85 and kind == b"IDAT":  # the pixels, compressed anew
        chunks[at] = (kind, zlib.compress(change_bytes(rng, zlib.decompress(data), b"", 0)))
    elif chance < 0.9:
        chunks[1:1] = [(kind, zlib.compress(bytes(10**7))) for kind in (b"iCCP", b"zTXt", b"iTXt")]
    elif data:
        chunks[at] = (kind, change_bytes(rng, data, b"", 0))
    return chunks


def _large(mode: str, name: str, options: dict[str, Any]) -> bytes:
    content = io.BytesIO()
    Image.new(mode, (7900, 7900)).save(content, name, **options)
    return content.getvalue()


def _large_png(width: int, height: int, kind: int, depth: int = 8, *, whole: bool = False) -> bytes:
    """Return a black PNG; its pixels, which are few bytes, are there or not."""
    line = 1 + width * depth // 8 * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))]
    chunks += [(b"PLTE", bytes(768))] if kind == 3 else []
    packer, data = zlib.compressobj(1), b""
    if whole:
        block = bytes(line * max(1, 10**6 // line))
        for _ in range(height * line // len(block) + 1):
            data += packer.compress(block)
        data += packer.flush()
    return _joined([*chunks, (b"IDAT", data or zlib.compress(bytes(1000))), (b"IEND", b"")])


#: Images that are small as files and large in memory: name, extension, and what makes them.
BOMBS: list[tuple[str, Callable[[], bytes]]] = [
    *(("png", partial(lambda kind: _large_png(100_000, 100_000, kind), kind)) for kind in (0, 2, 6)),
    *(
        ("png", partial(lambda *size: _large_png(*size, whole=True), width, height, kind))
        for width, height in ((7900, 8000), (10**5, 600), (3, 10**7))
        for kind in (0, 2, 3, 4, 6)
    ),
    ("png", lambda: _large_png(7900, 8000, 0, depth=16, whole=True)),
    *(
        (ending, partial(lambda *how: _large(*how), mode, name, options))
        for mode, name, ending, options in (
            ("F", "TIFF", "tif", {"compression": "tiff_adobe_deflate"}),
            ("I;16", "TIFF", "tif", {"compression": "tiff_adobe_deflate"}),
            ("CMYK", "TIFF", "tif", {"compression": "tiff_adobe_deflate"}),
            ("RGBA", "TIFF", "tif", {"compression": "tiff_lzw"}),
            ("1", "TIFF", "tif", {"compression": "group4"}),
            ("L", "GIF", "gif", {}), ("RGB", "JPEG", "jpg", {}), ("RGB", "TGA", "tga", {"compression": "tga_rle"}),
        )
    ),
]  # fmt: skip
