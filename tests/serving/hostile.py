"""Uploads that nobody should send, by what is wrong with them: file name, content, and words of the sentence that refuses it."""

import io
import stat
import struct
import zipfile
import zlib

import numpy as np
from PIL import Image

Upload = tuple[str, bytes, str]


def encode(kind, size=(8, 6), mode="RGB", **options):
    file = io.BytesIO()
    Image.new(mode, size).save(file, kind, **options)
    return file.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, data=b"", *, before=b"", colours=2, depth=8):
    header = struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def jpeg(width, height):
    whole = bytearray(encode("JPEG"))
    at = whole.index(b"\xff\xc0")
    whole[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(whole)


def gif(frames, size=(1, 1)):
    head = b"GIF89a" + struct.pack("<HH", *size) + b"\0\0\0"
    return head + (b"," + struct.pack("<HHHH", 0, 0, 1, 1) + b"\0\x02\x02D\x01\0") * frames + b";"


def tiff(pages, *, width=1, height=1, loop=False, values=1):
    whole, size = bytearray(b"II*\0" + struct.pack("<I", 8)), 2 + 4 * 12 + 4
    for page in range(pages):
        start = 8 + page * size
        follows = 8 if loop else start + size if page < pages - 1 else 0
        tags = [(256, 4, 1, width), (257, 4, 1, height), (273, 4, values, 8), (279, 4, 1, 1)]
        whole += (
            struct.pack("<H", len(tags))
            + b"".join(struct.pack("<HHII", *tag) for tag in tags)
            + struct.pack("<I", follows)
        )
    return bytes(whole)


def bmp(width, height):
    whole = bytearray(encode("BMP"))
    whole[18:26] = struct.pack("<ii", width, height)
    return bytes(whole)


def webp(width, height):
    content = (
        b"VP8X"
        + struct.pack("<I", 10)
        + b"\0\0\0\0"
        + (width - 1).to_bytes(3, "little")
        + (height - 1).to_bytes(3, "little")
    )
    return b"RIFF" + struct.pack("<I", len(content) + 4) + b"WEBP" + content


def archive(*files, compress=True, change=None):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED) as made:
        for name, content in files:
            entry = zipfile.ZipInfo(name) if isinstance(name, str) else name
            entry.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
            made.writestr(entry, content)
    content = bytearray(file.getvalue())
    if change:
        change(content)
    return bytes(content)


def linked(target):
    entry = zipfile.ZipInfo("a.png")
    entry.create_system, entry.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return entry, target


def encrypted(content):
    for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        content[content.index(mark) + offset] |= 1


def longer(content):
    """The directory claims less than is packed."""
    at = content.index(b"PK\1\2")
    content[at + 24 : at + 28] = struct.pack("<I", 5)


def damaged(content):
    content[40:60] = bytes(20)


def hostile() -> dict[str, Upload]:
    good = encode("PNG")
    found: dict[str, Upload] = {
        # names
        "no name at all": ("...", good, "says nothing"),
        "a name with a zero": ("a\0b.png", good, "cannot be shown"),
        "a name with a line feed": ("a\nSet-Cookie: x.png", good, "cannot be shown"),
        "a name with an escape": ("a\x1b[2J.png", good, "cannot be shown"),
        "a name written backwards": ("a\u202egnp.exe.png", good, "cannot be shown"),
        "a name with an invisible mark": ("a\u200b.png", good, "cannot be shown"),
        "a name with a broken letter": ("a\ud800.png", good, "cannot be shown"),
        "a path up": ("../../etc/passwd.png", good, "leads out"),
        "a path up, for Windows": ("..\\..\\windows\\a.png", good, "leads out"),
        "a path up inside": ("a/../../b.png", good, "leads out"),
        "an absolute path": ("/etc/a.png", good, "leads out"),
        "a drive": ("C:\\a.png", good, "leads out"),
        "a name of 5,000 letters": ("a" * 5_000 + ".png", good, "characters"),
        "a name of 300 bytes": ("ü" * 150 + ".png", good, "disks take"),
        # not images
        "an empty file": ("a.png", b"", "empty"),
        "text": ("a.png", b"hello, world", "no image"),
        "zeros": ("a.png", bytes(1_000), "no image"),
        "SVG": ("a.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "SVG"),
        "SVG called PNG": ("a.png", b"<?xml version='1.0'?>\n<!-- x -->\n<svg onload='alert(1)'></svg>", "SVG"),
        "SVG after a byte order mark": ("a.jpg", b"\xef\xbb\xbf<SVG onload='alert(1)'/>", "SVG"),
        "SVG that names a file": ("a.svg", b"<!DOCTYPE svg [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><svg>&x;</svg>", "SVG"),
        "HTML called JPEG": ("a.jpg", b"<!DOCTYPE html><script>alert(1)</script>", "HTML"),
        "HTML after spaces": ("a.png", b" \n\t<HTML><body onload=alert(1)>", "HTML"),
        "a bare script": ("a.gif", b"<script>alert(1)</script>", "HTML"),
        "XML that laughs": ("a.png", b"<?xml version='1.0'?><!DOCTYPE l [<!ENTITY l 'lol'>]><l>&l;</l>", "XML"),
        "PDF": ("a.png", b"%PDF-1.7\n%...", "PDF"),
        "a program": ("a.png", b"\x7fELF\x02\x01\x01" + bytes(64), "program"),
        "a Windows program": ("a.bmp", b"MZ\x90\0" + bytes(64), "program"),
        "a shell script": ("a.png", b"#!/bin/sh\nrm -rf /\n", "script"),
        "a pickle": ("a.png", b"\x80\x04\x95\x00cos\nsystem\n", "pickle"),
        "an array": ("a.npy", b"\x93NUMPY\x01\0v\0{'descr': '|O', 'shape': (10**9,)}", "numpy"),
        "gzip": ("a.png", b"\x1f\x8b\x08\0" + bytes(20), "gzip"),
        "JPEG XL": ("a.jxl", b"\xff\x0a" + bytes(50), "JPEG XL"),
        "a video": ("a.png", b"\0\0\0\x18ftypmp42" + bytes(40), "video"),
        "an icon": ("a.ico", b"\0\0\1\0\1\0" + bytes(40), "icon"),
        # headers that claim too much
        "PNG of 100,000 x 100,000": ("a.png", png(100_000, 100_000), "10,000,000,000|more than"),
        "PNG of 2^31": ("a.png", png(2**31 - 1, 2**31 - 1), "more than"),
        "PNG of one enormous row": ("a.png", png(2**31 - 1, 1), "more than"),
        "JPEG of 65,535 x 65,535": ("a.jpg", jpeg(65_535, 65_535), "more than"),
        "GIF of 65,535 x 65,535": ("a.gif", gif(1, (65_535, 65_535)), "more than"),
        "BMP of 100,000 x 100,000": ("a.bmp", bmp(100_000, 100_000), "more than"),
        "BMP upside down": ("a.bmp", bmp(100_000, -100_000), "more than"),
        "TIFF of 100,000 x 100,000": ("a.tif", tiff(1, width=100_000, height=100_000), "more than"),
        "WebP of 16,383 x 16,383": ("a.webp", webp(16_383, 16_383), "more than"),
        "PGM of 100,000 x 100,000": ("a.pgm", b"P5 100000 100000 255\n" + bytes(10), "more than"),
        # pages
        "TIFF of 10,000 pages": ("a.tif", tiff(10_000), "pages"),
        "TIFF that chains itself": ("a.tif", tiff(2, loop=True), "pages"),
        "GIF of 10,000 frames": ("a.gif", gif(10_000), "pages"),
        "PNG of 10,000 frames": ("a.png", png(1, 1, before=chunk(b"acTL", struct.pack(">II", 10_000, 0))), "pages"),
        "TIFF with a tag of a billion values": ("a.tif", tiff(1, values=10**9), "cut short"),
        # damage
        "PNG cut short": ("a.png", good[: len(good) // 2], "cut short"),
        "PNG of nothing": ("a.png", png(8, 6), "decoded|cut short"),
        "PNG whose data is a lie": ("a.png", png(8, 6, b"not deflate"), "decoded|cut short"),
        "PNG of no width": ("a.png", png(0, 6, zlib.compress(b"")), "decoded|cut short"),
        "a mark and nothing else": ("a.png", b"\x89PNG\r\n\x1a\n", "cut short|decoded"),
        "JPEG cut short": ("a.jpg", encode("JPEG")[:200], "cut short"),
        "a JPEG of marks": ("a.jpg", b"\xff\xd8" + b"\xff\xe0\x00\x02" * 5_000, "cut short|decoded"),
        "GIF without an image": ("a.gif", gif(0), "cut short|decoded"),
        "TIFF whose directory lies beyond": ("a.tif", b"II*\0" + struct.pack("<I", 10**6), "cut short"),
        "BMP without pixels": ("a.bmp", encode("BMP")[:60], "cut short"),
        "WebP of random bytes": ("a.webp", b"RIFF\xff\0\0\0WEBPVP8 " + np.random.default_rng(0).bytes(300), "cut short|decoded"),
        "AVIF of random bytes": ("a.avif", b"\0\0\0\x20ftypavif" + np.random.default_rng(1).bytes(300), "cut short|decoded"),
        "HEIC of random bytes": ("a.heic", b"\0\0\0\x20ftypheic" + np.random.default_rng(2).bytes(300), "cut short|decoded|pillow-heif"),
        "JPEG 2000 of random bytes": ("a.jp2", b"\xff\x4f\xff\x51" + np.random.default_rng(3).bytes(300), "cut short|decoded"),
        "DICOM of random bytes": ("a.dcm", bytes(128) + b"DICM" + np.random.default_rng(4).bytes(300), "DICOM"),
    }  # fmt: skip
    return found | archives(good)


def archives(good) -> dict[str, Upload]:
    # 3 MB of zeros in a member: small for a test, and above the limits that the test sets
    zeros = bytes(3_000_000)
    inner = archive(("b.png", good))
    return {
        "zip that leads up": ("a.zip", archive(("../../a.png", good)), "leads out"),
        "zip that leads to the root": ("a.zip", archive(("/etc/a.png", good)), "leads out"),
        "zip that leads up, for Windows": ("a.zip", archive(("..\\a.png", good)), "leads out"),
        "zip with a link": ("a.zip", archive(linked("/etc/passwd")), "link"),
        "zip in a zip": ("a.zip", archive(("b.zip", inner)), "archive itself"),
        "zip bomb": ("a.zip", archive(("a.bmp", zeros)), "times its size|more than"),
        "zip bomb in parts": ("a.zip", archive(*((f"{n}.bmp", zeros) for n in range(5))), "more than"),
        "zip of 2,000 files": ("a.zip", archive(*((f"{n}.png", b"") for n in range(2_000))), "files"),
        "zip with a password": ("a.zip", archive(("a.png", good), change=encrypted), "encrypted"),
        "zip that says less than it holds": ("a.zip", archive(("a.png", good), change=longer), "damaged|as long"),
        "zip that is damaged": ("a.zip", archive(("a.png", good), change=damaged), "damaged|as long"),
        "zip cut short": ("a.zip", archive(("a.png", good))[:-30], "damaged"),
        "zip with a name twice": ("a.zip", archive(("a.png", good), ("./a.png", good)), "twice"),
        "zip with a control character": ("a.zip", archive(("a\x1bb.png", good)), "cannot be shown"),
    }
