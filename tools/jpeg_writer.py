"""A small baseline JPEG encoder for files that no ordinary encoder writes: any sampling, scan layout and restart interval.

Used by `image_formats.py` and `golden_images.py`. Sequential Huffman coding with the standard luminance tables (ITU-T T.81, Annex K).
"""

from math import ceil, cos, pi, sqrt

import numpy as np

DC = (bytes([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0]), bytes(range(12)))
AC = (
    bytes([0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7D]),
    bytes.fromhex(
        "01020300041105122131410613516107227114328191a1082342b1c11552d1f02433627282090a161718191a25262728292a3435363738393a43444546"
        "4748494a535455565758595a636465666768696a737475767778797a838485868788898a92939495969798999aa2a3a4a5a6a7a8a9aab2b3b4b5b6b7b8"
        "b9bac2c3c4c5c6c7c8c9cad2d3d4d5d6d7d8d9dae1e2e3e4e5e6e7e8e9eaf1f2f3f4f5f6f7f8f9fa"
    ),
)
ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, (i // 8 if (i // 8 + i % 8) % 2 else i % 8)))
BASIS = np.array([[sqrt((1 if u == 0 else 2) / 8) * cos((2 * x + 1) * u * pi / 16) for x in range(8)] for u in range(8)])


def codes(table):
    """The code and its length for each symbol of a Huffman table."""
    result, code, symbols = {}, 0, iter(table[1])
    for length, count in enumerate(table[0], 1):
        for _ in range(count):
            result[next(symbols)] = (code, length)
            code += 1
        code <<= 1
    return result


DC_CODES, AC_CODES = codes(DC), codes(AC)


class Bits:
    """Entropy-coded bits, padded with ones, with a zero stuffed after each 0xff."""

    def __init__(self):
        self.text = []

    def put(self, value, length):
        if length:
            self.text.append(format(value, f"0{length}b"))

    def amount(self, value):
        """The size of a coefficient, and its bits."""
        size = abs(value).bit_length()
        return size, value if value > 0 else value + (1 << size) - 1

    def block(self, levels, last):
        size, bits = self.amount(int(levels[0]) - last)
        self.put(*DC_CODES[size])
        self.put(bits, size)
        run = 0
        for level in levels[1:]:
            if level == 0:
                run += 1
                continue
            while run > 15:
                self.put(*AC_CODES[0xF0])
                run -= 16
            size, bits = self.amount(int(level))
            self.put(*AC_CODES[run << 4 | size])
            self.put(bits, size)
            run = 0
        if run:
            self.put(*AC_CODES[0])
        return int(levels[0])

    def bytes(self):
        text = "".join(self.text)
        text += "1" * (-len(text) % 8)
        return int(text or "0", 2).to_bytes(len(text) // 8, "big").replace(b"\xff", b"\xff\x00")


def segment(marker, body):
    return bytes([0xFF, marker]) + (len(body) + 2).to_bytes(2, "big") + body


def levels_of(plane, step):
    """The quantised coefficients [rows, columns, 64] of a plane whose sides are multiples of 8."""
    height, width = plane.shape
    blocks = plane.reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2) - 128.0
    coefficients = np.einsum("ux,rcxy,vy->rcuv", BASIS, blocks, BASIS) / step
    return np.rint(coefficients).astype(int).reshape(height // 8, width // 8, 64)[..., ZIGZAG]


def encode(planes, sampling, scans=None, restart=0, step=8, adobe=None, tables=True, jfif=True):
    """A JPEG of component planes [H, W], all of the picture's size.

    `sampling` are the factors (h, v) of each component, `scans` the components of each scan, `restart` the interval in MCUs, `adobe` the
    colour transform of Adobe's segment; without `tables` the Huffman tables are left out.
    """
    height, width = planes[0].shape
    most = [max(factor[axis] for factor in sampling) for axis in (0, 1)]
    mcus = [ceil(width / (8 * most[0])), ceil(height / (8 * most[1]))]
    levels = []
    for plane, (h, v) in zip(planes, sampling):
        across, down = most[0] // h, most[1] // v
        full = np.pad(plane.astype(float), ((0, mcus[1] * 8 * most[1] - height), (0, mcus[0] * 8 * most[0] - width)), "edge")
        small = full.reshape(full.shape[0] // down, down, full.shape[1] // across, across).mean((1, 3))
        levels.append(levels_of(np.rint(small), step))
    out = b"\xff\xd8" + (segment(0xE0, b"JFIF\0\x01\x01\0\0\x01\0\x01\0\0") if jfif else b"")
    if adobe is not None:
        out += segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([adobe]))
    out += segment(0xDB, bytes([0]) + bytes([step] * 64))
    frame = b"".join(bytes([i + 1, h << 4 | v, 0]) for i, (h, v) in enumerate(sampling))
    out += segment(0xC0, b"\x08" + height.to_bytes(2, "big") + width.to_bytes(2, "big") + bytes([len(planes)]) + frame)
    if tables:
        out += segment(0xC4, b"\0" + DC[0] + DC[1]) + segment(0xC4, b"\x10" + AC[0] + AC[1])
    if restart:
        out += segment(0xDD, restart.to_bytes(2, "big"))
    for scan in scans or [list(range(len(planes)))]:
        out += segment(0xDA, bytes([len(scan)]) + b"".join(bytes([i + 1, 0]) for i in scan) + b"\0\x3f\0")
        out += scan_data(levels, scan, sampling, most, (width, height), mcus, restart)
    return out + b"\xff\xd9"


def scan_data(levels, scan, sampling, most, size, mcus, restart):
    """The entropy-coded data of a scan. A scan of one component has no padding blocks (ITU-T T.81, A.2.2)."""
    if len(scan) == 1:
        h, v = sampling[scan[0]]
        columns, rows = (ceil(ceil(size[axis] * (h, v)[axis] / most[axis]) / 8) for axis in (0, 1))
        units = [[(scan[0], row, column)] for row in range(rows) for column in range(columns)]
    else:
        units = [
            [(i, y * sampling[i][1] + dy, x * sampling[i][0] + dx) for i in scan for dy in range(sampling[i][1]) for dx in range(sampling[i][0])]
            for y in range(mcus[1])
            for x in range(mcus[0])
        ]
    out, bits, last = b"", Bits(), [0] * len(levels)
    for number, unit in enumerate(units):
        if restart and number and number % restart == 0:
            out += bits.bytes() + bytes([0xFF, 0xD0 + (number // restart - 1) % 8])
            bits, last = Bits(), [0] * len(levels)
        for i, row, column in unit:
            last[i] = bits.block(levels[i][row, column], last[i])
    return out + bits.bytes()
