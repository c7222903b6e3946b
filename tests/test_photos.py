"""The door for photos: every format and color mode, rotation, limits, and what is refused."""

import io
import os
import socket
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import draw_car
from PIL import ExifTags, Image, ImageCms, ImageFile

from space import photos
from space.errors import PhotoError
from space.photos import load_photo

ORANGE, WHITE, GREY = (204, 102, 51), (255, 255, 255), (128, 128, 128)

# For each EXIF orientation, what a camera held that way stores of an upright scene.
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encode(picture: Image.Image, file_format: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, file_format, **options)
    return file.getvalue()


def assert_colour(picture: Image.Image, color: tuple[int, ...], tolerance: int = 2):
    assert picture.mode == "RGB"
    assert np.abs(np.asarray(picture, int) - color).max() <= tolerance


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = orientation
    return block


def scene() -> Image.Image:
    """Not square, and another color in each corner."""
    picture = Image.new("RGB", (64, 32), "black")
    for color, corner in [("red", (0, 0)), ("lime", (48, 0)), ("blue", (0, 16))]:
        picture.paste(color, (*corner, corner[0] + 16, corner[1] + 16))
    return picture


def assert_upright(picture: Image.Image, tolerance: int = 12):
    assert picture.size == (64, 32)
    assert_colour(picture.crop((4, 4, 12, 12)), (255, 0, 0), tolerance)
    assert_colour(picture.crop((52, 4, 60, 12)), (0, 255, 0), tolerance)
    assert_colour(picture.crop((4, 20, 12, 28)), (0, 0, 255), tolerance)


def png_header(width: int, height: int) -> bytes:
    """A PNG file of a few bytes that claims to be that large."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


# Color modes


@pytest.mark.parametrize("mode", ["P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV"])
def test_colour_of_every_mode_is_kept(mode):
    assert_colour(load_photo(Image.new("RGB", (8, 8), ORANGE).convert(mode)), ORANGE)


@pytest.mark.parametrize("mode", ["L", "LA", "La"])
def test_grey_of_every_mode_is_kept(mode):
    picture = Image.new("L", (8, 8), 128)
    assert_colour(load_photo(picture if mode == "L" else picture.convert("LA").convert(mode)), GREY)


def swapped_profile() -> bytes:
    """A profile of which the number for red means green, and the other way round."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    table = profile.replace(b"rXYZ", b"?XYZ", 1).replace(b"gXYZ", b"rXYZ", 1)
    named = table.replace("sRGB".encode("utf-16-be"), "swap".encode("utf-16-be"))
    return named.replace(b"?XYZ", b"gXYZ", 1)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_colors_become_srgb_by_the_profile_of_the_file(file_format):
    options = {"lossless": True} if file_format == "WEBP" else {"quality": 95}
    content = encode(
        Image.new("RGB", (32, 32), ORANGE), file_format, icc_profile=swapped_profile(), **options
    )
    assert_colour(load_photo(content), (102, 204, 51), tolerance=4)


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_colors_of_transparent_and_palette_pictures_become_srgb(mode):
    picture = Image.new("RGBA", (32, 32), (*ORANGE, 255)).convert(mode)
    content = encode(picture, "PNG", icc_profile=swapped_profile())
    assert_colour(load_photo(content), (102, 204, 51), tolerance=4)


@pytest.mark.parametrize("profile", [b"no profile", b"", swapped_profile()[:300]])
def test_broken_profile_does_not_cost_the_photo(profile):
    content = encode(Image.new("RGB", (32, 32), ORANGE), "PNG", icc_profile=profile)
    assert_colour(load_photo(content), ORANGE)


def test_profile_of_other_channels_does_not_cost_the_photo():
    content = encode(Image.new("L", (32, 32), 128), "PNG", icc_profile=swapped_profile())
    assert_colour(load_photo(content), GREY)


@pytest.mark.parametrize(
    ("size", "decoded"),
    [
        ((4000, 3000), (2000, 1500)),
        ((4096, 8192), (1024, 2048)),
        ((2046, 3000), (2046, 3000)),
        ((640, 480), (640, 480)),
    ],
)
def test_large_jpeg_is_decoded_at_a_fraction_that_is_enough(size, decoded):
    content = encode(draw_car(1, size=size), "JPEG")
    assert load_photo(content).size == decoded
    whole = Image.open(io.BytesIO(content)).resize((64, 64), Image.Resampling.BICUBIC)
    small = load_photo(content).resize((64, 64), Image.Resampling.BICUBIC)
    assert np.abs(np.asarray(small, int) - np.asarray(whole)).mean() < 1.5


def test_lab_tiff_keeps_its_colour():
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    picture = ImageCms.applyTransform(Image.new("RGB", (8, 8), ORANGE), to_lab)
    assert picture.mode == "LAB"
    assert_colour(load_photo(encode(picture, "TIFF")), ORANGE)


def test_cmyk_jpeg_keeps_its_colour():
    content = encode(Image.new("RGB", (16, 16), ORANGE).convert("CMYK"), "JPEG", quality=95)
    assert Image.open(io.BytesIO(content)).mode == "CMYK"
    assert_colour(load_photo(content), ORANGE, tolerance=4)


def test_black_and_white_becomes_black_and_white():
    picture = Image.new("1", (8, 8), 0)
    picture.putpixel((3, 0), 1)
    result = load_photo(encode(picture, "PNG"))
    assert result.getpixel((3, 0)) == WHITE
    assert result.getpixel((4, 0)) == (0, 0, 0)


@pytest.mark.parametrize("mode", ["LA", "La", "PA", "RGBA", "RGBa"])
def test_what_is_transparent_becomes_white(mode):
    picture = Image.new("LA" if mode == "La" else "RGBA", (8, 8), 0)
    if picture.mode != mode:
        picture = picture.convert(mode)
    assert_colour(load_photo(picture), WHITE)


def test_half_transparent_colour_is_laid_on_white():
    content = encode(Image.new("RGBA", (8, 8), (200, 100, 0, 128)), "PNG")
    assert_colour(load_photo(content), (227, 177, 127))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_transparent_colour_of_a_png_becomes_white(mode):
    picture = Image.new(mode, (8, 8), 0)
    content = encode(picture, "PNG", transparency=(0, 0, 0) if mode == "RGB" else 0)
    assert Image.open(io.BytesIO(content)).mode == mode
    assert_colour(load_photo(content), WHITE)


@pytest.mark.parametrize(
    ("file_format", "dtype"),
    [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("PPM", "<u2"), ("JPEG2000", "<u2")],
)
def test_middle_grey_of_16_bits_is_middle_grey(file_format, dtype):
    content = encode(Image.fromarray(np.full((8, 8), 32896, dtype)), file_format)
    assert_colour(load_photo(content), GREY)


@pytest.mark.parametrize("value", [0, 1, 255, 1000])
def test_dark_photo_of_16_bits_stays_dark(value):
    content = encode(Image.fromarray(np.full((8, 8), value, np.uint16)), "PNG")
    assert_colour(load_photo(content), (round(value / 257),) * 3, tolerance=0)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[-0.1, 0.5, 1.1]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 128.0, 255.0]], np.float32), [0, 128, 255]),
        (np.array([[np.nan, 0.5, np.inf]], np.float32), [0, 128, 0]),
        (np.array([[0, 1, 255]], np.int32), [0, 1, 255]),
        (np.array([[-5, 32896, 65535]], np.int32), [0, 128, 255]),
        (np.array([[0, 2**30, 2**31 - 1]], np.int32), [0, 128, 255]),
        (np.zeros((1, 3), np.int32), [0, 0, 0]),
    ],
)
def test_32_bit_tiff_is_scaled_by_the_smallest_usual_range_that_holds_it(values, expected):
    picture = load_photo(encode(Image.fromarray(values), "TIFF"))
    assert [picture.getpixel((x, 0)) for x in range(3)] == [(v, v, v) for v in expected]


# Formats


@pytest.mark.parametrize(
    "file_format", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000"]
)
def test_every_photo_format_is_read(file_format):
    assert_upright(load_photo(encode(scene(), file_format)), tolerance=40)


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "PNG", "AVIF", "TIFF", "MPO"])
def test_first_frame_of_several_is_taken(file_format):
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "lime", "blue")]
    content = encode(frames[0], file_format, save_all=True, append_images=frames[1:])
    assert Image.open(io.BytesIO(content)).n_frames == 3
    assert_colour(load_photo(content), (255, 0, 0), tolerance=6)


# Rotation


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF", "HEIF", "AVIF"])
def test_photo_is_turned_upright(file_format, orientation):
    stored = scene()
    if STORED[orientation] is not None:
        stored = stored.transpose(STORED[orientation])
    content = encode(stored, file_format, exif=exif(orientation).tobytes())
    assert_upright(load_photo(content), tolerance=40)


def test_opened_picture_is_turned_upright():
    content = encode(scene().transpose(STORED[6]), "PNG", exif=exif(6))
    with Image.open(io.BytesIO(content)) as picture:
        assert_upright(load_photo(picture))


def test_upright_photo_is_not_turned_again():
    content = encode(scene().transpose(STORED[6]), "PNG", exif=exif(6))
    assert_upright(load_photo(load_photo(content)))


def test_impossible_orientation_is_ignored():
    assert_upright(load_photo(encode(scene(), "PNG", exif=exif(9))))


def test_odd_tag_elsewhere_does_not_cost_the_rotation():
    block = b"Exif\0\0II*\0\x08\0\0\0\x02\0"
    block += struct.pack("<HHIHH", ExifTags.Base.Orientation, 3, 1, 6, 0)
    block += struct.pack("<HHIf", ExifTags.Base.Make, 11, 1, 0.5) + b"\0\0\0\0"  # a number as make
    assert_upright(load_photo(encode(scene().transpose(STORED[6]), "PNG", exif=block)))


@pytest.mark.parametrize("block", [b"II", b"II*\0\x08", b"no EXIF at all"])
def test_broken_exif_block_costs_only_the_rotation(block):
    with pytest.warns(UserWarning, match=r"holiday\.png: its EXIF block is broken"):
        picture = load_photo(encode(scene(), "PNG", exif=b"Exif\0\0" + block), "holiday.png")
    assert_upright(picture)


# What goes in and comes out


def test_path_string_bytes_and_picture_give_the_same(tmp_path):
    path = tmp_path / "car.png"
    draw_car(1).save(path)
    expected = draw_car(1).tobytes()
    for source in (path, str(path), path.read_bytes(), Image.open(path)):
        assert load_photo(source).tobytes() == expected


def test_suffix_does_not_matter(tmp_path):
    path = tmp_path / "car.jpg"
    scene().save(path, "PNG")
    assert_upright(load_photo(path), tolerance=0)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "I;16"])
def test_given_picture_is_not_changed(mode):
    picture = Image.new(mode, (8, 4), 7)
    picture.info["exif"] = exif(6).tobytes()
    before, info = picture.tobytes(), dict(picture.info)
    load_photo(picture).paste("white", (0, 0, 4, 4))
    assert (picture.mode, picture.size, picture.info) == (mode, (8, 4), info)
    assert picture.tobytes() == before


def test_given_animation_stays_at_its_frame():
    frames = [Image.new("RGB", (16, 16), color) for color in ("red", "lime", "blue")]
    content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(content)) as picture:
        picture.seek(1)
        assert_colour(load_photo(picture), (0, 255, 0))
        assert picture.tell() == 1


def test_result_outlives_the_picture_it_came_from():
    with Image.open(io.BytesIO(encode(scene(), "PNG"))) as picture:
        result = load_photo(picture)
    picture.close()
    assert_upright(result)


@pytest.mark.parametrize("content", [encode(draw_car(1), "PNG"), b"no picture"], ids=["ok", "bad"])
def test_file_is_closed(tmp_path, monkeypatch, content):
    opened = []
    path = tmp_path / "car.png"
    path.write_bytes(content)
    open_path = type(path).open

    def open_noted(*arguments):
        opened.append(open_path(*arguments))
        return opened[-1]

    monkeypatch.setattr(type(path), "open", open_noted)
    try:
        load_photo(path)
    except PhotoError:
        assert content == b"no picture"
    assert [file.closed for file in opened] == [True]


def test_threads_do_not_disturb_each_other():
    contents = [
        encode(draw_car(seed).transpose(STORED[6]), file_format, exif=exif(6).tobytes())
        for seed in range(4)
        for file_format in ("PNG", "JPEG", "HEIF", "TIFF")
    ] * 2
    with ThreadPoolExecutor(8) as pool:
        together = [hash(picture.tobytes()) for picture in pool.map(load_photo, contents)]
    assert together == [hash(load_photo(content).tobytes()) for content in contents]


# What is refused


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "HEIF", "TIFF", "GIF"])
def test_photo_cut_short_is_refused(tmp_path, file_format):
    path = tmp_path / "cut.jpg"
    content = encode(draw_car(1), file_format)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(PhotoError, match=r"cut\.jpg is (damaged|not a picture)"):
        load_photo(path)


@pytest.mark.parametrize(
    "content",
    [
        b"this is no picture",
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9"/></svg>',
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        bytes(1000),
    ],
    ids=["text", "SVG", "EPS", "zeros"],
)
def test_what_is_no_photo_is_refused(content):
    with pytest.raises(PhotoError, match=r"upload\.jpg is not a picture"):
        load_photo(content, name="upload.jpg")


def test_empty_file_is_refused(tmp_path):
    path = tmp_path / "empty.jpg"
    path.touch()
    with pytest.raises(PhotoError, match=r"empty\.jpg is empty"):
        load_photo(path)


def test_no_bytes_are_refused():
    with pytest.raises(PhotoError, match="the photo is empty"):
        load_photo(b"")


def test_picture_without_pixels_is_refused():
    with pytest.raises(PhotoError, match="no pixels"):
        load_photo(Image.new("RGB", (0, 5)))


def test_folder_is_refused(tmp_path):
    with pytest.raises(PhotoError, match="is a folder"):
        load_photo(tmp_path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(PhotoError, match=r"nowhere\.jpg does not exist"):
        load_photo(tmp_path / "nowhere.jpg")


@pytest.mark.parametrize("source", [None, 7, [b"photo"], np.zeros((8, 8, 3), np.uint8)])
def test_other_types_are_refused(source):
    with pytest.raises(PhotoError, match=f"not {type(source).__name__}"):
        load_photo(source)


@pytest.mark.parametrize("as_path", [False, True])
def test_too_many_bytes_are_refused(tmp_path, monkeypatch, as_path):
    monkeypatch.setattr(photos, "MAX_BYTES", 2**20)
    path = tmp_path / "big.jpg"
    path.write_bytes(bytes(3 * 2**20))
    with pytest.raises(PhotoError, match="too large: 3 MiB, the limit is 1 MiB"):
        load_photo(path if as_path else path.read_bytes())


@pytest.mark.parametrize("size", [(60_000, 60_000), (12_000, 10_000)], ids=["huge", "large"])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_too_many_pixels_are_refused_before_decoding(monkeypatch, size):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(PhotoError, match=r"poster\.png .*the limit is 89 megapixels"):
        load_photo(png_header(*size), name="poster.png")


def test_warning_of_pillow_turned_into_an_error_still_refuses_by_pixels():
    with pytest.raises(PhotoError, match="too many pixels"):
        load_photo(png_header(12_000, 10_000))


def test_given_picture_of_too_many_pixels_is_refused(monkeypatch):
    monkeypatch.setattr(photos, "MAX_PIXELS", 8 * 8)
    load_photo(Image.new("L", (8, 8)))
    with pytest.raises(PhotoError, match="too large: 13x5 pixels"):
        load_photo(Image.new("L", (13, 5)))


def test_given_picture_is_named_by_its_file(tmp_path):
    path = tmp_path / "cut.png"
    path.write_bytes(encode(draw_car(1), "PNG")[:300])
    with Image.open(path) as picture, pytest.raises(PhotoError, match=r"cut\.png is damaged"):
        load_photo(picture)


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000), (89_000_000, 1), (30_010, 10)])
def test_strip_is_refused_before_decoding(size):
    with pytest.raises(PhotoError, match=f"strip of {size[0]}x{size[1]} pixels"):
        load_photo(png_header(*size))


def test_wide_panorama_is_read():
    assert load_photo(encode(Image.new("RGB", (3000, 30), "blue"), "PNG")).size == (3000, 30)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: socket.socket(socket.AF_UNIX).bind(path)])
def test_what_is_no_regular_file_is_refused_unopened(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)  # the name of a socket may be 108 bytes long
    make("x.jpg")
    with pytest.raises(PhotoError, match=r"^x\.jpg is not a file"):
        load_photo("x.jpg")


def test_name_that_no_file_can_have_is_refused():
    with pytest.raises(PhotoError, match="cannot be read"):
        load_photo("a\0b.jpg")


@pytest.mark.parametrize("planar", [1, 2])
def test_tiff_of_16_bit_colours_is_read_right_or_refused_by_kind(planar):
    values = np.full((8, 8, 3), (60000, 30000, 1000), "<u2")
    data = (values if planar == 1 else values.transpose(2, 0, 1)).tobytes()
    strips = 1 if planar == 1 else 3
    size = len(data) // strips
    arrays = 8 + 2 + 10 * 12 + 4
    first = arrays + 6 + 8 * strips
    entries = [
        (256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 3, arrays), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, strips, arrays + 6 if strips > 1 else first), (277, 3, 1, 3), (278, 4, 1, 8),
        (279, 4, strips, arrays + 6 + 4 * strips if strips > 1 else size), (284, 3, 1, planar),
    ]  # fmt: skip
    tiff = b"II*\0" + struct.pack("<IH", 8, len(entries))
    tiff += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    tiff += struct.pack("<3H", 16, 16, 16)
    tiff += struct.pack(f"<{strips}I", *(first + number * size for number in range(strips)))
    tiff += struct.pack(f"<{strips}I", *[size] * strips) + data
    if planar == 1:
        assert_colour(load_photo(tiff), (60000 // 257, 30000 // 257, 1000 // 257))
    else:
        with pytest.raises(PhotoError, match="16 bits a color in separate planes"):
            load_photo(tiff)
