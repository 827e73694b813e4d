"""Writes the image goldens of crates/repvgg/tests/data/images: small files of every format, and Pillow's results for them.

    python tools/golden_images.py

Pillow 13.0.0, torchvision 0.29.2. The picture follows from a formula (`picture`, repeated in the Rust tests), so only results are stored:
`<format>.<ext>` is a file to decode; `<format>.expected.png` is the result of Pillow's `exif_transpose` and `convert("RGB")`, unless that
is the picture itself; `crop-<width>x<height>-<size>-<percent>-<filter>.png` is torchvision's Resize and CenterCrop.
"""

import io
from pathlib import Path

import jpeg_writer
import numpy as np
from PIL import Image, ImageOps
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

FOLDER = Path(__file__).parent.parent / "crates/repvgg/tests/data/images"
CROPS = [
    (40, 30, 12, 88, "bilinear"),
    (31, 47, 12, 80, "bicubic"),
    (9, 7, 12, 90, "bilinear"),
    (7, 9, 12, 90, "bicubic"),
    (12, 12, 12, 100, "bilinear"),
    (1, 50, 8, 88, "bilinear"),
    (301, 20, 8, 100, "bicubic"),
    (200, 151, 14, 88, "bilinear"),
]


def picture(width: int, height: int) -> Image.Image:
    """Rough enough to reveal a wrong tap, and the same on every machine."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return Image.fromarray(((x * x * 3 + y * 29 + x * y * 5 + c * 91) % 256).astype(np.uint8))


def gradient(width: int, height: int) -> Image.Image:
    """Smooth enough to survive lossy formats."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    return Image.fromarray((40 + x * 7 * (c != 1) + y * 9 * (c != 0)).astype(np.uint8))


def crops() -> None:
    modes = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
    for width, height, size, percent, name in CROPS:
        transform = Compose([Resize(int(size / (percent / 100)), modes[name]), CenterCrop(size)])
        transform(picture(width, height)).save(FOLDER / f"crop-{width}x{height}-{size}-{percent}-{name}.png", optimize=True)


def formats() -> None:
    exact, smooth = picture(16, 12), gradient(16, 12)
    alpha = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(12, 16))
    rgba = exact.copy()
    rgba.putalpha(alpha)
    few = exact.quantize(16, dither=Image.Dither.NONE)
    exif = Image.Exif()
    exif[0x0112] = 6
    later = Image.new("RGB", exact.size, (255, 0, 0))
    lossy = dict(quality=90, subsampling=0)

    saves = {
        "rgb.png": (exact, {}),
        "rgba.png": (rgba, {}),
        "palette.png": (few, dict(transparency=3)),
        "grey.png": (exact.convert("L"), {}),
        "grey-alpha.png": (rgba.convert("LA"), {}),
        "bilevel.png": (exact.convert("1", dither=Image.Dither.NONE), {}),
        "oriented.png": (exact, dict(exif=exif)),
        "rgb.bmp": (exact, {}),
        "palette.bmp": (few, {}),
        "lzw.tiff": (exact, dict(compression="tiff_lzw")),
        "animated.gif": (few.convert("RGB"), dict(save_all=True, append_images=[later])),
        "lossless.webp": (exact, dict(lossless=True)),
        "animated.webp": (exact, dict(lossless=True, save_all=True, append_images=[later])),
        "rgb.jpg": (smooth, lossy),
        "progressive.jpg": (smooth, lossy | dict(progressive=True)),
        "subsampled.jpg": (smooth, dict(quality=90, subsampling=2)),
        "grey.jpg": (smooth.convert("L"), lossy),
        "cmyk.jpg": (smooth.convert("CMYK"), lossy),
        "oriented.jpg": (smooth, lossy | dict(exif=exif)),
        "lossy.webp": (smooth, dict(quality=90)),
    }
    for name, (image, options) in saves.items():
        path = FOLDER / name
        image.save(path, optimize=True, **options) if path.suffix in (".png", ".jpg") else image.save(path, **options)
        read = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
        if read.tobytes() != exact.tobytes() or read.size != exact.size:
            read.save(FOLDER / f"{name}.expected.png", optimize=True)


def odd_jpegs() -> None:
    """JPEGs of layouts that Pillow reads and does not write."""
    planes = [np.asarray(plane) for plane in gradient(37, 27).convert("YCbCr").split()]
    noise = np.random.default_rng(11).integers(0, 256, (3, 24, 40)).astype(np.uint8)
    h2v2, h1v2, h2v1 = ([factor, (1, 1), (1, 1)] for factor in ((2, 2), (1, 2), (2, 1)))
    separate = [[0], [1], [2]]
    whole = jpeg_writer.encode(planes, h2v2)
    trailer = b"\0\0\x01\x0b\x0e\0\0\0Image_UTC_Data1500000000000SEFH\x6b\0\0\0\x01\0\0\0\x18\0\0\0SEFT"
    files = {
        "separate-420": jpeg_writer.encode(planes, h2v2, separate),
        "separate-440": jpeg_writer.encode(planes, h1v2, separate, restart=3),
        "luma-then-chroma-422": jpeg_writer.encode(planes, h2v1, [[0], [1, 2]]),
        "chroma-sharper-than-luma": jpeg_writer.encode(planes, [(1, 1), (2, 1), (1, 2)]),
        "restart-each-unit": jpeg_writer.encode(noise, h2v2, restart=1, step=20),
        "adobe-rgb": jpeg_writer.encode([np.asarray(plane) for plane in gradient(37, 27).split()], [(1, 1)] * 3, adobe=0, jfif=False),
        "adobe-ycck": jpeg_writer.encode([*planes, 255 - planes[0] // 2], [(2, 2), (1, 1), (1, 1), (2, 2)], adobe=2, jfif=False),
        "no-huffman-tables": jpeg_writer.encode(planes, [(1, 1)] * 3, tables=False),
        "trailer-instead-of-the-end": whole[:-2] + trailer,
        "tall": jpeg_writer.encode([np.asarray(plane) for plane in gradient(16, 400).convert("YCbCr").split()], h2v2),
        "ended-early": whole[:-60] + whole[-2:],
    }
    assert any(files["restart-each-unit"].find(b"\xff\x00\xff" + bytes([0xD0 + n])) >= 0 for n in range(8))
    for name, data in files.items():
        (FOLDER / f"{name}.jpg").write_bytes(data)
        Image.open(io.BytesIO(data)).convert("RGB").save(FOLDER / f"{name}.jpg.expected.png", optimize=True)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    crops()
    formats()
    odd_jpegs()
