"""The one door for photos: whatever comes in, an upright 8-bit RGB picture goes out.

Training, evaluation, the command line and the page all read through `load_photo`, so a photo
means the same pixels everywhere.
"""

import contextlib
import ctypes
import io
import os
import stat
import warnings
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import ExifTags, Image, ImageCms

from space import headers
from space.errors import PhotoError

# What is wrong with a photo is told once, by name; not by decoders too, which know no name.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
with contextlib.suppress(OSError, AttributeError):  # of Pillow's wheels on Linux
    _libs = Path(Image.__file__).parent.with_name("pillow.libs")
    for _path in _libs.glob("libtiff*"):
        ctypes.CDLL(str(_path)).TIFFSetErrorHandler(None)
        ctypes.CDLL(str(_path)).TIFFSetWarningHandler(None)

# HEIC is what iPhones write. AVIF, the other phone format, is built into Pillow.
pillow_heif.register_heif_opener()

MAX_BYTES = 50 * 1024 * 1024
# Beyond this Pillow itself speaks of a decompression bomb; an RGB picture of it takes 270 MB.
MAX_PIXELS = 89_478_485
# Of JPEG 2000, whose decoder takes ten times the time and six times the memory of others.
MAX_JPEG2000 = 20_000_000
# A photo is resized by its shorter side: a strip of few rows would grow beyond all memory.
MAX_ASPECT = 3000

# The shorter side in pixels beyond which nothing is gained: a car that fills a twentieth of such a
# photo is still as large as the network's input.
ENOUGH_PIXELS = 1024

# What a walk through a folder takes for a photo. A file named outright is opened whatever it is
# called.
PHOTO_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"}
    | {".heic", ".heif", ".avif", ".mpo", ".ppm", ".pgm"}
)

# Pillow knows more, down to formats that start other programs (EPS) or are no photos (fax, icons).
_FORMATS = ("JPEG", "PNG", "WEBP", "HEIF", "AVIF", "GIF", "BMP", "TIFF", "PPM", "JPEG2000")

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation

_STRIP = 64  # rows that are scaled at once, so that memory grows with the picture alone

_SRGB = ImageCms.createProfile("sRGB")
_WITH_PROFILE = ("L", "RGB", "CMYK", "LAB")  # modes that a profile may speak of

PhotoSource = str | Path | bytes | Image.Image


def load_photo(source: PhotoSource, name: str | None = None) -> Image.Image:
    """Opens a photo as people see it.

    EXIF rotation is applied, colors become sRGB by the profile of the file, transparency is laid
    on white, 16-bit and CMYK pictures become 8-bit RGB, and of an animation the first frame is
    taken. A large JPEG is decoded at a half, a quarter or an eighth, as long as its shorter side
    keeps `ENOUGH_PIXELS`. Limits on bytes and pixels are checked before anything is decoded.

    Args:
        source: a path, the bytes of a picture file, or a PIL picture (taken as it stands, at the
            frame it shows, and not changed).
        name: what to call the photo in error messages; by default its path.

    Returns:
        A new RGB picture of at most `MAX_PIXELS` pixels, without metadata.

    Raises:
        PhotoError: missing, empty, too large, truncated, or no picture at all.
    """
    if isinstance(source, Image.Image):
        name = name or getattr(source, "filename", "") or "the photo"
        _check_pixels(source, name)
        return _decode(source, name)
    if isinstance(source, bytes):
        name = name or "the photo"
        _check_size(len(source), name)
        return _open(source, name)
    if not isinstance(source, (str, Path)):
        raise PhotoError(f"a photo is a path, bytes or a PIL picture, not {type(source).__name__}")
    path = Path(source)
    name = name or str(source)
    try:
        if path.is_dir():
            os.scandir(path).close()  # one that cannot be listed says so
            raise PhotoError(f"{name} is a folder, not a photo")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for ever
            raise PhotoError(f"{name} is not a file but a pipe, a socket or a device")
        _check_size(status.st_size, name)
        with path.open("rb") as file:
            return _open(file.read(MAX_BYTES + 1), name)
    except FileNotFoundError:
        raise PhotoError(f"{name} does not exist") from None
    except PhotoError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        why = getattr(error, "strerror", None) or error
        raise PhotoError(f"{name} cannot be read: {why}") from error


def _check_size(size: int, name: str) -> None:
    if size == 0:
        raise PhotoError(f"{name} is empty (0 bytes)")
    if size > MAX_BYTES:
        raise PhotoError(
            f"{name} is too large: {size / 2**20:.0f} MiB, the limit is {MAX_BYTES // 2**20} MiB"
        )


def _open(data: bytes, name: str) -> Image.Image:
    headers.check(data, name)
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            _check_pixels(picture, name)
            picture.draft(None, (ENOUGH_PIXELS, ENOUGH_PIXELS))  # what is no JPEG takes no notice
            return _decode(picture, name)
    except Image.UnidentifiedImageError:
        raise PhotoError(f"{name} is not a picture in any format known here") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise PhotoError(
            f"{name} has too many pixels; the limit is {MAX_PIXELS / 1e6:.0f} megapixels"
        ) from None
    except PhotoError:
        raise
    except Exception as error:  # decoders raise nearly anything on broken files
        raise PhotoError(f"{name} is damaged or not a picture: {error}") from error


def _check_pixels(picture: Image.Image, name: str) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise PhotoError(
            f"{name} is too large: {width}x{height} pixels, "
            f"the limit is {MAX_PIXELS / 1e6:.0f} megapixels"
        )
    if picture.format == "JPEG2000" and width * height > MAX_JPEG2000:
        raise PhotoError(
            f"{name} is a JPEG 2000 of {width}x{height} pixels; of those the limit is "
            f"{MAX_JPEG2000 / 1e6:.0f} megapixels, as they take long; save it as JPEG"
        )
    if width == 0 or height == 0:
        raise PhotoError(f"{name} has no pixels ({width}x{height})")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise PhotoError(
            f"{name} is a strip of {width}x{height} pixels; "
            f"the longer side may be {MAX_ASPECT} times the shorter one"
        )


def _decode(picture: Image.Image, name: str) -> Image.Image:
    _check_planes(picture, name)
    try:
        picture.load()
    except Exception as error:
        raise PhotoError(f"{name} is damaged or cut short: {error}") from error
    rgb = _to_rgb(picture)
    # Not `ImageOps.exif_transpose`: it also rewrites the EXIF block, and fails if any tag is odd.
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except Exception as error:  # a broken EXIF block must not cost the photo
        warnings.warn(f"{name}: its EXIF block is broken, rotation ignored ({error})", stacklevel=4)
        orientation = None
    if orientation in _UPRIGHT:
        rgb = rgb.transpose(_UPRIGHT[orientation])
    rgb.info.clear()  # what is upright now must not be turned again
    return rgb


def _check_planes(picture: Image.Image, name: str) -> None:
    """Refuses a TIFF that Pillow decodes wrongly without a word: colors of 16 bits in planes."""
    tags = getattr(picture, "tag_v2", None)
    if picture.format != "TIFF" or tags is None:
        return
    bits = tags.get(ExifTags.Base.BitsPerSample, (8,))
    planar = tags.get(ExifTags.Base.PlanarConfiguration, 1) == 2
    if planar and len(bits) > 1 and max(bits) > 8:
        raise PhotoError(
            f"{name} is a TIFF with {max(bits)} bits a color in separate planes, which cannot be "
            "read here; save it interleaved, or as PNG"
        )


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith(("I", "F")):
        return _to_8_bit(picture).convert("RGB")
    if picture.mode == "La":  # the one mode that Pillow does not turn into RGBA
        picture = picture.convert("LA")
    if picture.has_transparency_data:
        picture = _to_srgb(picture.convert("RGBA"))
        background = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(background, picture)
    elif "icc_profile" in picture.info:
        picture = _to_srgb(picture if picture.mode in _WITH_PROFILE else picture.convert("RGB"))
    # A copy even when nothing changes: the caller's picture may be closed or drawn on later.
    return picture.convert("RGB")


def _to_srgb(picture: Image.Image) -> Image.Image:
    """The colors that the picture's profile means; the picture itself where that says nothing."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(picture.info["icc_profile"]))
        if "srgb" in ImageCms.getProfileDescription(profile).lower():
            return picture
        mode = "RGBA" if picture.mode == "RGBA" else "RGB"
        converted = ImageCms.profileToProfile(picture, profile, _SRGB, outputMode=mode)
    except (ImageCms.PyCMSError, OSError, KeyError, TypeError, ValueError):
        return picture  # none, a broken one, or one of other channels: it must not cost the photo
    return converted or picture


def _to_8_bit(picture: Image.Image) -> Image.Image:
    """Grey values of 16 or 32 bits, or floats, to 0..255.

    16-bit files say their range. Others do not, so the smallest usual one that holds all values
    counts: 0..1 for floats (with some slack, as resampling overshoots), 8 bits, 16 bits.
    """
    mode, (width, height) = picture.mode, picture.size
    strips = [(0, top, width, min(height, top + _STRIP)) for top in range(0, height, _STRIP)]
    top = max(_finite(picture.crop(strip)).max(initial=0) for strip in strips)
    if mode.startswith("I;16"):
        full_scale = 65535.0
    elif mode == "F" and top <= 2:
        full_scale = 1.0
    else:
        full_scale = 255.0 if top <= 255 else 65535.0 if top <= 65535 else top
    grey = Image.new("L", picture.size)
    for strip in strips:
        shares = (_finite(picture.crop(strip)) / full_scale).clip(0, 1)
        grey.paste(Image.fromarray((shares * 255).round().astype(np.uint8)), strip[:2])
    return grey


def _finite(picture: Image.Image) -> np.ndarray:
    """The values of a picture as float64, shape (height, width)."""
    return np.nan_to_num(np.asarray(picture).astype(np.float64), posinf=0, neginf=0)
