"""Holds the decoding of images against Pillow, on generated files of every format, layout, depth, palette and kind of alpha.

    cargo build --release --example decode
    python tools/image_formats.py target/release/examples/decode

Writes the files to a temporary folder, decodes them with the program, and compares with Pillow's `exif_transpose` and
`convert("RGB")`. JPEG must be equal; other formats may differ where this table says so, with the reason. Pillow 13.0.0.
"""

import io
import itertools
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import jpeg_writer
import numpy as np
from PIL import Image, ImageOps, features

# Largest difference of a sample, by a part of the name. 16 bits are rounded here and cut by Pillow.
ALLOWED = {"16": 1, "lossy.webp": 3, "ycc": 2}


def picture(width=61, height=45, seed=0):
    y, x = np.mgrid[:height, :width]
    planes = np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], -1).astype(float)
    planes[height // 4 : height // 2, width // 4 : width // 2] = [220, 40, 90]
    return np.clip(planes + np.random.default_rng(seed).normal(0, 8, planes.shape), 0, 255).astype(np.uint8)


def jpegs():
    factors = {
        "444": [(1, 1)] * 3,
        "420": [(2, 2), (1, 1), (1, 1)],
        "422": [(2, 1), (1, 1), (1, 1)],
        "440": [(1, 2), (1, 1), (1, 1)],
        "411": [(4, 1), (1, 1), (1, 1)],
        "410": [(4, 2), (1, 1), (1, 1)],
        "441": [(1, 4), (1, 1), (1, 1)],
        "luma-smaller": [(1, 1), (2, 2), (2, 2)],
        "all-different": [(2, 2), (2, 1), (1, 2)],
    }
    scans = {"together": None, "apart": [[0], [1], [2]], "y-cc": [[0], [1, 2]], "backwards": [[2], [1], [0]], "yc-c": [[0, 1], [2]]}
    for (width, height), restarts in {(61, 45): (0, 1, 3, 7), (16, 16): (0, 1), (131, 98): (0, 5)}.items():
        planes = [np.asarray(plane) for plane in Image.fromarray(picture(width, height)).convert("YCbCr").split()]
        for (name, sampling), (order, scan), restart in itertools.product(factors.items(), scans.items(), restarts):
            yield f"{width}-{name}-{order}-r{restart}.jpg", jpeg_writer.encode(planes, sampling, scan, restart, step=5)
    image = Image.fromarray(picture())
    for quality, subsampling, progressive in itertools.product((30, 95), (0, 1, 2), (False, True)):
        for mode in ("RGB", "L", "CMYK"):
            options = dict(quality=quality, subsampling=subsampling, progressive=progressive, restart_marker_rows=subsampling)
            yield f"{mode}-{quality}-{subsampling}-{progressive}.jpg", saved(image.convert(mode), "JPEG", **options)
    ycc = [np.asarray(plane) for plane in image.convert("YCbCr").split()]
    yield "ycck.jpg", jpeg_writer.encode([*ycc, ycc[0]], [(2, 2), (1, 1), (1, 1), (2, 2)], adobe=2, jfif=False)
    yield "cmyk.jpg", jpeg_writer.encode([*ycc, ycc[0]], [(1, 1)] * 4, adobe=0, jfif=False)
    yield "rgb.jpg", jpeg_writer.encode(list(np.moveaxis(picture(), 2, 0)), [(1, 1)] * 3, adobe=0, jfif=False)
    yield "no-tables.jpg", jpeg_writer.encode(ycc, factors["420"], tables=False)
    for cut in (2, 6, 40):
        yield f"cut-{cut}.jpg", jpeg_writer.encode(ycc, factors["420"])[:-cut] + b"\xff\xd9" * (cut != 2)


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def common():
    """What Pillow writes."""
    image = Image.fromarray(picture())
    alpha = Image.fromarray(picture(seed=1)[..., 0])
    rgba = image.copy()
    rgba.putalpha(alpha)
    modes = {"RGB": image, "RGBA": rgba, "L": image.convert("L"), "LA": rgba.convert("LA"), "1": image.convert("1")}
    for colours in (2, 4, 16, 200):
        modes[f"P{colours}"] = image.quantize(colours)
    for name, mode in modes.items():
        yield f"{name}.png", saved(mode, "PNG")
        if name not in ("LA", "RGBA"):
            yield f"{name}.bmp", saved(mode, "BMP")
        if name in ("RGB", "L", "1"):
            yield f"{name}.ppm", saved(mode, "PPM")
        if name[0] in "PL1" and name != "LA":
            yield f"{name}.gif", saved(mode, "GIF")
        if name[:2] in ("RG", "LA") or name[0] == "P":
            yield f"{name}-lossless.webp", saved(mode.convert("RGBA" if "A" in name else "RGB"), "WEBP", lossless=True, exact=True)
        for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            yield f"{name}-{compression}.tif", saved(mode, "TIFF", compression=compression)
        yield f"{name}-big.tif", saved(mode, "TIFF", big_tiff=True)
    yield "group4.tif", saved(modes["1"], "TIFF", compression="group4")
    for mode in ("RGB", "L", "CMYK", "YCbCr"):
        yield f"{mode}-ycc-jpeg.tif", saved(image.convert(mode), "TIFF", compression="jpeg", quality=95)
    yield "cmyk.tif", saved(image.convert("CMYK"), "TIFF")
    yield "strips.tif", saved(image, "TIFF", compression="tiff_lzw", tiffinfo={278: 7, 317: 2})
    yield "lossy.webp", saved(image, "WEBP", quality=90)
    yield "transparent.png", saved(modes["P16"], "PNG", transparency=3)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind, ending in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif")):
            options = dict(lossless=True) if kind == "WEBP" else {}
            yield f"turned-{orientation}.{ending}", saved(image, kind, exif=exif, **options)
        yield f"prefixed-{orientation}.webp", saved(image, "WEBP", lossless=True, exif=b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0"))
        packet = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'
        yield f"xmp-{orientation}.png", png_with_xmp(saved(image, "PNG"), packet.encode(), orientation % 2 == 0)
        yield f"xmp-{orientation}.webp", saved(image, "WEBP", lossless=True, xmp=packet.encode())


def png_with_xmp(png, packet, compressed):
    import zlib

    text = b"\1\0\0\0" + zlib.compress(packet) if compressed else b"\0\0\0\0" + packet
    body = b"iTXtXML:com.adobe.xmp\0" + text
    return png[:33] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + png[33:]


def tiff(planes, bits, photometric, planar=False, tile=None, big=False, order="<", extra=None, tags=None, rows=11):
    """A TIFF without compression of sample planes [H, W]."""
    height, width = planes[0].shape
    side = tile or (width, rows)
    kind = {1: "u1", 2: "u1", 4: "u1", 8: "u1", 16: "u2"}[bits]

    def packed(block):
        if bits >= 8:
            return block.astype(order + kind).tobytes()
        digits = np.unpackbits(block.astype(np.uint8)[..., None], axis=-1)[..., 8 - bits :].reshape(block.shape[0], -1)
        return np.packbits(digits, axis=1).tobytes()

    chunks = []
    for group in [[plane] for plane in planes] if planar else [planes]:
        stack = np.stack(group, -1)
        for top, left in itertools.product(range(0, height, side[1]), range(0, width, side[0])):
            block = stack[top : top + side[1], left : left + side[0]]
            if tile:
                block = np.pad(block, ((0, side[1] - block.shape[0]), (0, side[0] - block.shape[1]), (0, 0)))
            chunks.append(packed(block.reshape(block.shape[0], -1)))
    entries = {256: [width], 257: [height], 258: [bits] * len(planes), 259: [1], 262: [photometric], 277: [len(planes)]}
    entries |= {284: [2 if planar else 1]} | ({338: extra} if extra else {}) | (tags or {})
    entries |= {322: [side[0]], 323: [side[1]]} if tile else {278: [rows]}
    word, letter = (8, "Q") if big else (4, "I")
    head = (b"II" if order == "<" else b"MM") + (struct.pack(order + "HHH", 43, 8, 0) if big else struct.pack(order + "H", 42))
    file, places = bytearray(head + bytes(word)), []
    for chunk in chunks:
        places.append(len(file))
        file += chunk
    entries |= {324 if tile else 273: places, 325 if tile else 279: [len(chunk) for chunk in chunks]}
    table = struct.pack(order + ("Q" if big else "H"), len(entries))
    for tag, values in sorted(entries.items()):
        short = tag not in (273, 279, 324, 325)
        body = struct.pack(order + ("H" if short else "I") * len(values), *values)
        if len(body) > word:
            file += b"\0" * (len(file) % 2) + body
            body = struct.pack(order + letter, len(file) - len(body))
        table += struct.pack(order + "HH" + letter, tag, 3 if short else 4, len(values)) + body.ljust(word, b"\0")
    struct.pack_into(order + letter, file, len(head), len(file))
    return bytes(file + table + bytes(word))


def tiffs():
    rgb = list(np.moveaxis(picture(), 2, 0))
    alpha = picture(seed=2)[..., 1]
    for planar, tile, big, order in itertools.product((False, True), (None, (16, 16), (32, 48), (64, 64)), (False, True), "<>"):
        layout = dict(planar=planar, tile=tile, big=big, order=order)
        name = f"{'planes' if planar else 'together'}-{tile}-{big}-{'ii' if order == '<' else 'mm'}"
        yield f"rgb8-{name}.tif", tiff(rgb, 8, 2, **layout)
        if not planar:
            yield f"rgb16-{name}.tif", tiff([plane * 257 - (plane > 7) * 5 for plane in np.uint16(rgb)], 16, 2, **layout)
    for tile in (None, (16, 16)):
        for extra in (0, 1, 2):
            yield f"rgb-extra{extra}-{tile}.tif", tiff([*rgb, alpha], 8, 2, tile=tile, extra=[extra])
            yield f"grey-extra{extra}-{tile}.tif", tiff([rgb[0], alpha], 8, 1, tile=tile, extra=[extra])
        for bits, photometric in itertools.product((1, 2, 4, 8), (0, 1)):
            yield f"grey{bits}-{photometric}-{tile}.tif", tiff([rgb[0] >> (8 - bits)], bits, photometric, tile=tile)
        for bits in (1, 2, 4, 8):
            colours = {320: list(np.random.default_rng(bits).integers(0, 65536, 3 << bits))}
            yield f"palette{bits}-{tile}.tif", tiff([rgb[1] >> (8 - bits)], bits, 3, tile=tile, tags=colours)
        yield f"cmyk-{tile}.tif", tiff([*rgb, alpha // 2], 8, 5, tile=tile)


def pillow(path):
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16"):
                return None
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB")).astype(int)
    except (OSError, ValueError, SyntaxError):
        return None


def main():
    program = sys.argv[1]
    print("libjpeg-turbo", features.version("libjpeg_turbo"))
    with tempfile.TemporaryDirectory() as folder:
        source, decoded = Path(folder, "source"), Path(folder, "decoded")
        source.mkdir(), decoded.mkdir()
        for name, data in itertools.chain(jpegs(), common(), tiffs()):
            (source / name).write_bytes(data)
        output = subprocess.run([program, source, decoded], capture_output=True, text=True, check=True).stdout
        print(output, end="")
        count, failed = 0, 0
        for path in sorted(source.iterdir()):
            expected, result = pillow(path), decoded / f"{path.name}.png"
            if expected is None:
                print(f"{path.name}: Pillow refuses it, {'read' if result.exists() else 'refused'} here")
                continue
            count += 1
            allowed = max((bound for part, bound in ALLOWED.items() if part in path.name and not path.name.endswith(".jpg")), default=0)
            found = np.asarray(Image.open(result)).astype(int) if result.exists() else None
            worst = "refused" if found is None else "another size" if found.shape != expected.shape else abs(found - expected).max()
            if isinstance(worst, str) or worst > allowed:
                failed += 1
                print(f"{path.name}: {worst}, allowed {allowed}")
    print(f"{count} files that Pillow reads, {failed} differ")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
