"""The images of the command line: modes of pixels, damaged files, folders and names."""

from __future__ import annotations

import csv
import os
import struct
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from test_cli_compare import Brightness
from typer.testing import CliRunner

from captum_mda._cli.app import app
from captum_mda.evaluate._file_names import safe_name, showable, unique_names
from captum_mda.evaluate._pixels import background_colour
from captum_mda.evaluate.images import find_images, read_image

SIDE = 32
# Every grey once, from black to white, in no order.
GREY = np.random.default_rng(0).permutation(256).astype(np.uint8).reshape(16, 16)
COLOUR = np.stack([GREY, GREY[::-1], GREY.T], axis=-1)

Array = npt.NDArray[Any]


def read(path: Path, **options: Any) -> Array:
    image = read_image(path, **options)
    assert image.mode == "RGB"
    return np.asarray(image)


def saved(path: Path, pixels: Array | Image.Image, **options: Any) -> Path:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(path, **options)
    return path


def png(path: Path, rows: Array, colour_type: int, bits: int) -> Path:
    """Write samples (H, W, channels) of 16 bits, for which PIL has no writer."""

    def chunk(name: bytes, data: bytes) -> bytes:
        end = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + end

    height, width = rows.shape[:2]
    head = struct.pack(">IIBBBBB", width, height, bits, colour_type, 0, 0, 0)
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in rows)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )
    return path


def tiff(path: Path, data: bytes, shape: tuple[int, ...], tags: dict[int, int]) -> Path:
    """Write one strip of samples, for which PIL has no writer."""
    channels = shape[2] if len(shape) > 2 else 1
    start = 8 + len(data)
    entries = {256: shape[1], 257: shape[0], 259: 1, 273: 8, 277: channels}
    entries |= {278: shape[0], 279: len(data)} | tags
    packed = b""
    extra, extra_at = b"", start + 2 + 12 * len(entries) + 4
    for tag, value in sorted(entries.items()):
        if tag in (258, 339) and channels == 3:
            packed += struct.pack("<HHII", tag, 3, 3, extra_at + len(extra))
            extra += struct.pack("<HHH", *[value] * 3)
        else:
            packed += struct.pack("<HHII", tag, 4, 1, value)
    directory = struct.pack("<H", len(entries)) + packed + struct.pack("<I", 0)
    path.write_bytes(b"II*\0" + struct.pack("<I", start) + data + directory + extra)
    return path


@pytest.mark.parametrize("ending", ["png", "tiff", "pgm", "jp2"])
@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_16_bit_grey_is_scaled(ending: str, order: str, tmp_path: Path) -> None:
    wide = (GREY.astype(np.uint16) * 257).astype(order)
    try:
        path = saved(tmp_path / f"grey.{ending}", wide)
    except OSError:
        pytest.skip("PIL writes no such file")
    np.testing.assert_array_equal(read(path), np.dstack([GREY] * 3))


def test_16_bit_grey_is_rounded(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 385, 386, 65406, 65407, 65535]], np.uint16)
    wanted = [0, 0, 1, 1, 2, 254, 255, 255]  # thresholds at half of 257
    got = read(saved(tmp_path / "grey.png", values))
    assert got[0, :, 0].tolist() == wanted


def test_white_is_zero_in_16_bits(tmp_path: Path) -> None:
    data = (65535 - GREY.astype("<u2") * 257).astype("<u2").tobytes()
    path = tiff(tmp_path / "grey.tiff", data, GREY.shape, {258: 16, 262: 0})
    np.testing.assert_array_equal(read(path)[..., 0], GREY)


def test_12_bits_that_a_tiff_declares_are_its_range(tmp_path: Path) -> None:
    values = GREY.astype(np.uint16) * 16 + GREY // 16  # 0 to 4095
    bits = [f"{value:012b}" for value in values.flatten()]
    packed = int("".join(bits), 2).to_bytes(len(bits) * 12 // 8, "big")
    path = tiff(tmp_path / "grey.tiff", packed, GREY.shape, {258: 12, 262: 1})
    np.testing.assert_allclose(read(path)[..., 0], GREY, atol=1)


@pytest.mark.parametrize("colour_type", [2, 4, 6], ids=["RGB", "LA", "RGBA"])
def test_16_bit_colours_are_scaled(colour_type: int, tmp_path: Path) -> None:
    channels = {2: COLOUR, 4: GREY[..., None], 6: COLOUR}[colour_type]
    rows = channels.astype(np.uint16) * 257
    if colour_type != 2:
        rows = np.dstack([rows, np.full(GREY.shape, 65535, np.uint16)])
    got = read(png(tmp_path / "wide.png", rows, colour_type, 16))
    np.testing.assert_array_equal(got, np.broadcast_to(channels, got.shape))


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("layout", ["grey.png", "grey.tiff", "rgb.png", "rgb.tiff"])
def test_fewer_bits_in_16_are_refused(bits: int, layout: str, tmp_path: Path) -> None:
    scale = 2 ** (bits - 8)
    pixels = (GREY if layout.startswith("grey") else COLOUR).astype(np.uint16) * scale
    path = tmp_path / layout
    if layout.startswith("grey"):
        saved(path, pixels)
    elif layout.endswith("png"):
        png(path, pixels, 2, 16)
    else:
        tiff(path, pixels.astype("<u2").tobytes(), pixels.shape, {258: 16, 262: 2})
    with pytest.raises(ValueError, match=r"nearly black; they seem .* fewer bits") as e:
        read_image(path)
    assert str(path) in str(e.value) and ".astype('uint8')" in str(e.value)


def test_14_bits_in_16_are_told(tmp_path: Path) -> None:
    told: list[str] = []
    path = saved(tmp_path / "grey.png", GREY.astype(np.uint16) * 64)
    assert int(read(path, note=told.append).max()) == 64
    assert len(told) == 1 and "end at 16,320" in told[0] and str(path) in told[0]
    bright = saved(tmp_path / "bright.png", GREY.astype(np.uint16) * 257)
    read(bright, note=told.append)
    assert len(told) == 1


def test_black_of_16_bits_is_black(tmp_path: Path) -> None:
    path = saved(tmp_path / "black.png", np.zeros((4, 4), np.uint16))
    assert not read(path).any()


@pytest.mark.parametrize(
    "dtype", ["int16", "int32", "uint32", "float32", "float64", "int8"]
)
@pytest.mark.parametrize("peak", [1, 255, 4000], ids=str)
def test_modes_without_a_range_are_refused(
    dtype: str, peak: int, tmp_path: Path
) -> None:
    pixels = (GREY / 255 * min(peak, np.inf if dtype != "int8" else 127)).astype(dtype)
    if dtype in ("int8", "uint32"):
        bits, kind = np.dtype(dtype).itemsize * 8, {"int8": 2, "uint32": 1}[dtype]
        tags = {258: bits, 262: 1, 339: kind}
        path = tiff(tmp_path / "a.tiff", pixels.tobytes(), pixels.shape, tags)
    else:
        path = saved(tmp_path / "a.tiff", pixels)
    with pytest.raises(ValueError, match="no defined black and white") as error:
        read_image(path)
    low, high = int(pixels.min()), pixels.max()
    assert f"from {low} to {high:g}" in str(error.value)
    assert "(a - LOW) / (HIGH - LOW)" in str(error.value)


def test_counts_of_telescopes_are_refused(tmp_path: Path) -> None:
    """Signed, and the other way round than PIL reads them."""
    cards = ["SIMPLE  =                    T", "BITPIX  =                   16"]
    cards += ["NAXIS   =                    2", "NAXIS1  =                   16"]
    cards += ["NAXIS2  =                   16", "END"]
    head = "".join(f"{card:80}" for card in cards).ljust(2880).encode()
    data = (GREY.astype(">i2") * 100).tobytes()
    (tmp_path / "a.fits").write_bytes(head + data.ljust(2880, b"\0"))
    with pytest.raises(ValueError, match="no defined black and white"):
        read_image(tmp_path / "a.fits")


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_16_bits_are_turned_upright(ending: str, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn clockwise
    wide = np.rot90(GREY).astype(np.uint16) * 257
    path = saved(tmp_path / f"a.{ending}", np.ascontiguousarray(wide), exif=exif)
    np.testing.assert_array_equal(read(path)[..., 0], GREY)


def test_the_recipe_converts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "float.tiff", GREY.astype(np.float32) / 255)
    with pytest.raises(ValueError) as error:
        read_image(path)
    recipe = str(error.value).partition("white: ")[2]
    import PIL.Image

    monkeypatch.chdir(tmp_path)
    names = {"numpy": np, "PIL": PIL, "FILE": str(path), "LOW": 0, "HIGH": 1}
    exec(recipe, names)
    np.testing.assert_allclose(read(tmp_path / "converted.png")[..., 0], GREY, atol=1)


ALPHA = np.where(np.arange(256).reshape(16, 16) % 3, 255, 0).astype(np.uint8)


def transparent(name: str, path: Path) -> Path:
    """An image whose pixels are transparent where `ALPHA` is 0."""
    grey = np.where(ALPHA, np.maximum(GREY, 1), 0).astype(np.uint8)
    if name == "LA":
        return saved(path, np.dstack([GREY, ALPHA]))
    if name == "RGBA":
        return saved(path, np.dstack([COLOUR, ALPHA]))
    if name == "L, one value":
        return saved(path, grey, transparency=0)
    if name == "RGB, one colour":
        black = np.where(ALPHA[..., None], np.maximum(COLOUR, 1), 0).astype(np.uint8)
        return saved(path, black, transparency=(0, 0, 0))
    if name == "P, one index":
        return saved(path, palette(grey), transparency=0)
    if name == "P, by index":
        return saved(path, palette(grey), transparency=bytes([0] + [255] * 255))
    if name == "16 bits, one value":
        return saved(path, grey.astype(np.uint16) * 257, transparency=0)
    rows = np.dstack([GREY, ALPHA]).astype(np.uint16) * 257
    return png(path, rows, 4, 16)


def palette(grey: Array) -> Image.Image:
    image = Image.fromarray(grey).convert("P")
    image.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
    return image


@pytest.mark.parametrize(
    "name",
    [
        "LA",
        "RGBA",
        "L, one value",
        "RGB, one colour",
        "P, one index",
        "P, by index",
        "16 bits, one value",
        "LA of 16 bits",
    ],
)
def test_alpha_is_laid_over_a_background(name: str, tmp_path: Path) -> None:
    path = transparent(name, tmp_path / "a.png")
    clear = ALPHA == 0
    white, black, grey = (
        read(path),
        read(path, background="black"),
        read(path, background="#102030"),
    )
    assert (white[clear] == 255).all() and (black[clear] == 0).all()
    assert (grey[clear] == (16, 32, 48)).all()
    np.testing.assert_array_equal(white[~clear], black[~clear])
    assert black[~clear].any()


def test_half_transparent_pixels_are_mixed(tmp_path: Path) -> None:
    pixels = np.array([[[200, 100, 0, 128]]], np.uint8)
    got = read(saved(tmp_path / "a.png", pixels))[0, 0]
    wanted = [(value * 128 + 255 * 127) / 255 for value in (200, 100, 0)]
    np.testing.assert_allclose(got, wanted, atol=1)


def test_backgrounds() -> None:
    assert background_colour(" White ") == (255, 255, 255)
    for colour in ("#ff000080", "clear", "", "12"):
        with pytest.raises(ValueError, match=r"^--background: got .* opaque colour"):
            background_colour(colour, "--background")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB", "RGBX"])
def test_other_modes_are_those_of_pil(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(COLOUR)
    image = image if mode == "LAB" else image.convert(mode)
    if mode == "LAB":
        image = Image.merge("LAB", image.split())
    path = saved(tmp_path / "a.tiff", image)
    with Image.open(path) as opened:
        wanted = np.asarray(opened.convert("RGB"))
    np.testing.assert_array_equal(read(path), wanted)


@pytest.mark.parametrize("ending", ["gif", "tiff", "png", "webp"])
def test_of_several_frames_the_first_is_read(ending: str, tmp_path: Path) -> None:
    first, second = Image.new("RGB", (8, 8), "white"), Image.new("RGB", (8, 8), "black")
    path = tmp_path / f"a.{ending}"
    saved(path, first, save_all=True, append_images=[second])
    told: list[str] = []
    assert (read(path, note=told.append) == 255).all()
    assert told == [f"note: {path}: it has 2 frames, of which the first is read"]


def damaged(folder: Path) -> dict[str, bytes]:
    """Files that are no images, or not whole ones."""
    whole = saved(folder / "whole.png", COLOUR).read_bytes()
    jpeg = saved(folder / "whole.jpg", COLOUR).read_bytes()
    return {
        "empty": b"",
        "text": b"no picture",
        "cut": whole[: len(whole) // 2],
        "cut JPEG": jpeg[: len(jpeg) // 2],
        "flipped": whole[:40] + bytes(byte ^ 255 for byte in whole[40:]),
        "head alone": whole[:33],
    }


@pytest.mark.parametrize(
    "name", ["empty", "text", "cut", "cut JPEG", "flipped", "head alone"]
)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(damaged(tmp_path)[name])
    with pytest.raises(ValueError, match=r"^images: .*a\.png is no image, or a dam"):
        read_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(ValueError, match="no regular file"):
        read_image(tmp_path / "a.png")


def test_images_with_too_many_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path / "a.png", COLOUR)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"a\.png is no image.*exceeds limit"):
        read_image(path)


def test_a_folder_means_its_images(tmp_path: Path) -> None:
    names = ["b.PNG", "a.jpeg", "c.tiff", "d.heic", ".hidden.png", "notes.txt"]
    for name in names:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    other = tmp_path / "missing.png"
    found = find_images([other, tmp_path, tmp_path / "a.jpeg"])
    listed = ["missing.png", "a.jpeg", "b.PNG", "c.tiff", "d.heic", "a.jpeg"]
    assert [path.name for path in found] == listed


def test_folders_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ValueError, match=rf"^images: the folder {tmp_path} has no im"):
        find_images([tmp_path])
    (tmp_path / "cats").mkdir()
    with pytest.raises(ValueError, match="of the 1 folders in it are not searched"):
        find_images([tmp_path])


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a command with a model of brightness and output into tmp_path/out."""
    monkeypatch.setattr("timm.create_model", lambda name, pretrained: Brightness())
    monkeypatch.setattr("timm.is_model", lambda name: name == "bright")

    def invoke(command: str, *arguments: object) -> Any:
        words: list[object] = [
            command,
            "--model",
            "bright",
            "--out",
            tmp_path / "out",
            "--overwrite",
        ]
        words += ["--no-progress", "--target", 1, *arguments]
        if command == "compare":
            words += ["--methods", "occlusion"]
        return CliRunner().invoke(app, [str(word) for word in words])

    return invoke


def photo(path: Path, ending: str = "") -> Path:
    """A bright picture, on whose upper half the model's class depends."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(180, 256, (SIDE, SIDE), dtype=np.uint8)
    Image.fromarray(pixels).save(path, ending or None)
    return path


def rows_of(tmp_path: Path, command: str) -> list[dict[str, str]]:
    name = {"explain": "scores.csv", "compare": "comparison.csv"}[command]
    with open(tmp_path / "out" / name, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


COMMANDS = pytest.mark.parametrize("command", ["explain", "compare"])


@COMMANDS
def test_an_image_that_cannot_be_read_is_a_row(
    command: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    photo(folder / "b.png")
    (folder / "a.png").write_bytes(b"no picture")
    saved(folder / "c.tiff", np.zeros((4, 4), np.float32))
    result = run(command, folder, tmp_path / "none.png")
    assert result.exit_code == 1, result.output
    rows = rows_of(tmp_path, command)
    assert [row["name"] for row in rows] == ["a", "b", "c", "none"]
    errors = [row["error"] for row in rows]
    assert "is no image, or a damaged one" in errors[0] and errors[1] == ""
    assert "no defined black and white" in errors[2]
    assert "there is no file" in errors[3]
    assert rows[1]["insertion"] and "b" in result.stdout


@COMMANDS
def test_16_bit_grey_is_explained_as_8_bits(
    command: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    path = photo(tmp_path / "narrow.png")
    with Image.open(path) as narrow:
        wide = saved(tmp_path / "wide.png", np.asarray(narrow).astype(np.uint16) * 257)
    assert run(command, path, wide).exit_code == 0
    first, second = rows_of(tmp_path, command)
    for row in (first, second):
        del row["name"], row["image"], row["seconds"]
    assert first == second and float(first["probability"]) > 0.9


@COMMANDS
def test_the_background_is_an_option(
    command: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    pixels = np.full((SIDE, SIDE, 4), 255, np.uint8)
    pixels[..., 3] = np.random.default_rng(0).integers(200, 256, (SIDE, SIDE))
    pixels[: SIDE // 4, :, 3] = 0
    path = saved(tmp_path / "a.png", pixels)
    run(command, path)
    (white,) = rows_of(tmp_path, command)
    run(command, path, "--background", "#404040")
    (dark,) = rows_of(tmp_path, command)
    assert float(white["probability"]) > float(dark["probability"])
    result = run(command, path, "--background", "nothing")
    assert result.exit_code == 2 and "--background: got 'nothing'" in result.output


def test_names_that_are_written() -> None:
    assert safe_name(Path("a/b c.d.png")) == "b c.d"
    assert safe_name(Path("tab\tline\n.png")) == "tab_line_"
    assert safe_name(Path("caf\udce9.png")) == "caf_"
    assert safe_name(Path("mirror\u202egnp.png")) == "mirror_gnp"
    for letter in ("x", "é", "猫", "🐈"):
        name = safe_name(Path(letter * 300 + ".png"))
        assert len(name.encode()) <= 230 and name.startswith(letter * 50)
    long = [Path("x" * 240 + f"{index}.png") for index in range(2)]
    assert len(set(map(safe_name, long))) == 2
    same = [Path("a\udce9.png"), Path("a\udcea.png"), Path("a_.png")]
    assert unique_names(same) == ["a_", "a_-2", "a_-3"]


def test_texts_that_are_shown() -> None:
    assert showable("a é 猫 🐈") == "a é 猫 🐈"
    assert showable("\udcff\ud800".encode("utf-8", "surrogatepass").decode("latin-1"))
    for text in ("\udce9", "\ud800", "\ud83d\udce9", "\x1b[31m\n", "\u202e"):
        shown = showable(text)
        assert shown.encode().decode() == shown and shown.isprintable()


@pytest.mark.skipif(sys.platform == "win32", reason="names are text there")
@COMMANDS
@pytest.mark.parametrize(
    "name",
    [
        b"caf\xe9 \xff",
        b"x" * 250,
        "é".encode() * 124,
        b"two\nlines\t$\\$",
        "猫🐈".encode(),
    ],
    ids=["no UTF-8", "long", "long UTF-8", "lines", "no glyphs"],
)
def test_any_name_of_a_photo(
    name: bytes, command: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / os.fsdecode(name + b".png")
    photo(path, "PNG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of matplotlib's missing glyphs
        result = run(command, path)
    assert result.exit_code == 0, result.output
    (row,) = rows_of(tmp_path, command)
    ending = "-compare.png" if command == "compare" else ".png"
    assert (tmp_path / "out" / f"{row['name']}{ending}").is_file()
    assert row["error"] == "" and len(result.stdout.splitlines()) in (4, 5)


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_tables_on_any_terminal(
    encoding: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    path = photo(tmp_path / "猫 é.png")
    words = ["explain", str(path), "--model", "bright", "--target", "1"]
    words += ["--no-progress", "--out", str(tmp_path / "out"), "--overwrite"]
    result = CliRunner(charset=encoding).invoke(app, words)
    assert result.exit_code == 0, result.output
    shown = "猫 é".encode(encoding, "backslashreplace").decode(encoding)
    assert shown in result.stdout


def test_what_of_a_folder_is_left_out_is_told(tmp_path: Path) -> None:
    from captum_mda.evaluate.images import left_out

    photo(tmp_path / "a.png", "PNG")
    assert left_out([tmp_path]) == []
    (tmp_path / "within").mkdir()
    for name in ("notes.txt", "table.csv", ".hidden"):
        (tmp_path / name).write_text("")
    (told,) = left_out([tmp_path, tmp_path / "a.png"])
    assert told == (
        f"note: {tmp_path}: 2 files that are no images and 1 folder in it left out"
    )
