"""Files that tell their decoder to work for minutes or to copy gigabytes."""

import io
import struct
import zlib

import pytest
from conftest import draw_car
from PIL import Image

from space import headers
from space.errors import PhotoError
from space.photos import MAX_JPEG2000, load_photo

ORIENTATION = 0x0112


def written(form: str, **options) -> bytes:
    file = io.BytesIO()
    draw_car(1).save(file, form, **options)
    return file.getvalue()


def directory(entries: list[tuple[int, int, int, int]], length: int, order: str = "<") -> bytes:
    """A TIFF directory of (tag, type, count, offset), padded to a length."""
    head = (b"II*\x00" if order == "<" else b"MM\x00*") + struct.pack(f"{order}I", 8)
    body = struct.pack(f"{order}H", len(entries))
    body += b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    return (head + body + bytes(4)).ljust(length, b"\x00")


# Every entry claims the same half a megabyte: a reader that copies each takes 2 GB.
SHARED = directory([(0x9000 + number, 7, 500_000, 100) for number in range(4000)], 600_000)


def png_with(kind: bytes, content: bytes, times: int = 1) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    chunk = struct.pack(">I", len(content)) + kind + content + checksum
    png = written("PNG")
    return png[:33] + chunk * times + png[33:]


def jpeg_with(segment: bytes) -> bytes:
    jpeg = written("JPEG")
    return jpeg[:2] + segment + jpeg[2:]


def jpeg_with_exif(block: bytes) -> bytes:
    """In several segments, as no single one holds so much."""
    segments = b""
    for start in range(0, len(block), 60_000):
        part = b"Exif\x00\x00" + block[start : start + 60_000]
        segments += b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part
    return jpeg_with(segments)


def many_scans(times: int) -> bytes:
    jpeg = written("JPEG", progressive=True)
    start, end = jpeg.rindex(b"\xff\xda"), jpeg.rindex(b"\xff\xd9")
    return jpeg[:end] + jpeg[start:end] * times + jpeg[end:]


def gif_with_comment(size: int) -> bytes:
    gif = written("GIF")
    start = 13 + (3 << (gif[10] & 7) + 1)
    blocks = (b"\xff" + b"c" * 255) * (size // 255)
    return gif[:start] + b"\x21\xfe" + blocks + b"\x00" + gif[start:]


def webp_with_exif(block: bytes) -> bytes:
    webp = written("WEBP")
    chunk = b"EXIF" + struct.pack("<I", len(block)) + block
    return webp[:4] + struct.pack("<I", len(webp) - 8 + len(chunk)) + webp[8:] + chunk


COSTLY = {
    "EXIF of a PNG": (png_with(b"eXIf", SHARED), "EXIF block claims to hold more than it can"),
    "EXIF of a JPEG": (jpeg_with_exif(SHARED), "EXIF block claims to hold more than it can"),
    "EXIF of a WebP": (webp_with_exif(SHARED), "EXIF block claims to hold more than it can"),
    "TIFF": (SHARED, "TIFF directory claims to hold more than it can"),
    "TIFF of Motorola": (
        directory([(0x9000 + n, 7, 500_000, 100) for n in range(4000)], 600_000, ">"),
        "TIFF directory claims to hold more than it can",
    ),
    "entries": (directory([(n, 3, 1, 0) for n in range(5000)], 70_000), "has 5000 entries"),
    "scans": (many_scans(200), "more than 100 scans"),
    "comments of a JPEG": (jpeg_with(b"\xff\xfe\x00\x02" * 60_000), "more than 50000 segments"),
    "padding of a JPEG": (jpeg_with(b"\xff" * 5000), "bytes stand between two segments"),
    "chunks of a PNG": (png_with(b"tEXt", b"", 60_000), "more than 50000 segments"),
    "comment of a GIF": (gif_with_comment(2**21), "comments have more than 1 MiB"),
}


@pytest.mark.parametrize("kind", list(COSTLY))
def test_a_costly_file_is_refused_before_it_is_decoded(kind, monkeypatch):
    content, reason = COSTLY[kind]
    monkeypatch.setattr(Image, "open", None)
    with pytest.raises(PhotoError, match=f"made to waste time: .*{reason}"):
        load_photo(content)


@pytest.mark.parametrize(
    "content",
    [
        many_scans(5),
        jpeg_with(b"\xff\xfe\x00\x04hi" * 100),
        jpeg_with(b"\xff" * 100),
        png_with(b"eXIf", directory([(ORIENTATION, 3, 1, 6)], 100)),
        jpeg_with_exif(directory([(ORIENTATION, 3, 1, 6)], 100)),
        webp_with_exif(directory([(ORIENTATION, 3, 1, 6)], 100)),
        gif_with_comment(2**19),
    ],
)
def test_what_is_only_unusual_is_read(content):
    assert min(load_photo(content).size) > 0


@pytest.mark.parametrize(
    "form", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "HEIF"]
)
def test_a_file_cut_anywhere_passes_or_is_refused(form):
    content = written(form)
    for end in range(0, len(content), max(1, len(content) // 200)):
        headers.check(content[:end], "x")  # its decoder says better what is wrong


def test_a_large_jpeg_2000_is_refused_by_its_kind(monkeypatch):
    monkeypatch.setattr("space.photos.MAX_JPEG2000", 1000)
    assert MAX_JPEG2000 > 1000
    with pytest.raises(PhotoError, match=r"is a JPEG 2000 of .*save it as JPEG"):
        load_photo(written("JPEG2000"))


def test_motion_photos_are_read():
    """Telephones write a film behind the picture, which holds any bytes."""
    content = written("JPEG") + b"\xff\xda\xff\xfe\x00\x02" * 60_000
    assert load_photo(content).size == draw_car(1).size


@pytest.mark.real
def test_no_real_photo_is_taken_for_costly(real_data):
    for path in sorted(real_data.rglob("*.jpg"))[::40]:
        headers.check(path.read_bytes(), path.name)
