import copy
import io
import os
import struct
import subprocess
import sys
import warnings
import zlib

import pytest
import torch
from PIL import Image, ImageFont
from torchvision import tv_tensors
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from mixup_transforms import (
    RandomChoice,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
    RandomResizeMix,
)
from mixup_transforms import __main__ as command
from mixup_transforms._mixers.base import Mixer
from mixup_transforms._preview import pictures
from mixup_transforms._preview.grid import GAP, MARGIN, PAPER, SMALLEST, preview
from mixup_transforms._preview.rows import HEADINGS, caption, rows
from mixup_transforms._preview.text import drawable, wrapped
from mixup_transforms._testing.law import parents_of
from tests.cases import MIXERS, every_mixer_of_one_partner
from tests.strategies import generator_of, soft_labels

LABELS = torch.tensor([0, 1, 2, 1])
NAMES = ["cat", "dog", "owl"]
FONT = ImageFont.load_default(size=17)

# A block of a volume is not drawn.
DRAWN = [case for case in MIXERS if case.dims < 3]
every_drawn_mixer = pytest.mark.parametrize("case", DRAWN, ids=repr)


def batch_of(*, dtype=torch.float32, channels=3, size=(12, 16), batch=4):
    pixels = torch.randint(
        256, (batch, channels, *size), generator=generator_of(), dtype=torch.uint8
    )
    return pixels if dtype == torch.uint8 else (pixels / 255).to(dtype)


def tiles(grid, *, row, height, tile, cell=None):
    """Cut the panels of a row out of a grid of captions of one line."""
    line = sum(FONT.getmetrics()) + 2
    width, tall = tile
    cell = cell or max(width, SMALLEST)
    y = MARGIN + line + GAP + row * height
    for column in range(len(HEADINGS)):
        x = MARGIN + column * (cell + GAP) + (cell - width) // 2
        yield pil_to_tensor(grid.crop((x, y, x + width, y + tall)))


def as_bytes(panel):
    panel = panel.double() * (255 if panel.is_floating_point() else 1)
    return panel.round().to(torch.uint8).expand(3, -1, -1)


# What a row shows


@every_mixer_of_one_partner
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float16, torch.float64])
@pytest.mark.parametrize("channels", [1, 3])
def test_panels_are_what_the_mixer_makes_of_the_batch(case, dtype, channels):
    images, soft = batch_of(dtype=dtype, channels=channels), soft_labels(4, 3)
    mix, same = (case.make(generator=generator_of(3)) for _ in range(2))
    params = same.make_params([images])
    mixed, targets = same.replay(params, images, soft)
    shown = rows(images, soft, mix, class_names=NAMES, max_samples=9)
    assert len(shown) == 4
    for i, row in enumerate(shown):
        own, partner, share, result = row.panels
        lam = params["lam"][i].item()
        assert torch.equal(own, images[i])
        assert torch.equal(partner, images[params["partner"][i]])
        parents = [images[k] for k in parents_of(params, i)]
        expected = case.parts(params, i, parents)[0][0].float().expand(1, 12, 16)
        torch.testing.assert_close(share, expected)
        assert share.mean().item() == pytest.approx(lam, abs=1e-6)
        assert torch.equal(result, mixed[i])
        assert row.caption == caption(lam, targets[i], NAMES)


def test_getters_of_a_training_loop_do_not_matter():
    images = torch.rand(4, 3, 8, 8)
    plain, named = (
        preview(images, LABELS, RandomMixup(generator=generator_of(), **getters))
        for getters in ({}, {"images_getter": "x", "labels_getter": "y"})
    )
    assert plain.tobytes() == named.tobytes()


def test_any_mixer_that_is_a_mask_or_a_view_is_shown():
    class HalfMix(Mixer):
        spatial = True

        def draw(self, plan):
            return plan.params(lam=torch.full((plan.rows,), 0.5))

        def apply(self, images, params, *, others=None, inplace=False):
            mixed = images if inplace else images.clone()
            half = (images if others is None else others)[params["partner"]]
            mixed[..., : images.shape[-1] // 2] = half[..., : images.shape[-1] // 2]
            return mixed

        def realise(self, params, images):
            return {"lam": params["lam"]}

    for row in rows(batch_of(), LABELS, HalfMix(), class_names=NAMES, max_samples=4):
        assert row.panels[2].unique().tolist() == [0, 1]
        assert row.panels[2][..., :8].sum() == 0
        assert row.caption.startswith("λ = 0.50: 0.50 ") or row.caption == "λ = 0.50: 1.00 dog"


@pytest.mark.parametrize(
    ("lam", "weights", "names", "expected"),
    [
        (0.724, [0.724, 0.276, 0], NAMES, "λ = 0.72: 0.72 cat + 0.28 dog"),
        (0.25, [0, 0.25, 0.75], NAMES, "λ = 0.25: 0.75 owl + 0.25 dog"),
        (0.25, [0, 0.25, 0.75], None, "λ = 0.25: 0.75 class 2 + 0.25 class 1"),
        (1.0, [0, 1, 0], NAMES, "λ = 1.00: 1.00 dog"),
        (0.4, [0, 1, 0], NAMES, "λ = 0.40: 1.00 dog"),
        (0.997, [0.997, 0.003, 0], NAMES, "λ = 1.00: 1.00 cat"),
        (0.5, [0.5, 0.3, 0.2], NAMES, "λ = 0.50: 0.50 cat + 0.30 dog + 0.20 others"),
        (0.5, [1.0], ["cat"], "λ = 0.50: 1.00 cat"),
        (0.5, [0, 0, 0], NAMES, "λ = 0.50: no label"),
    ],
)
def test_caption(lam, weights, names, expected):
    assert caption(lam, torch.tensor(weights), names) == expected


def test_a_mixer_that_is_off_shows_the_batch_as_it_is():
    images = batch_of()
    for mix in (RandomMixup().eval(), RandomCutMix(p=0.0)):
        for i, row in enumerate(rows(images, LABELS, mix, class_names=NAMES, max_samples=4)):
            assert torch.equal(row.panels[3], images[i])
            assert (row.panels[2] == 1).all()
            assert row.caption == f"λ = 1.00: 1.00 {NAMES[LABELS[i]]}"


@pytest.mark.parametrize("getter", ["default", "target", lambda batch: batch["y"], None])
@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize(
    "labels",
    [LABELS, LABELS.to(torch.uint8), LABELS.to(torch.uint16), torch.eye(4)[:, :3].half()],
)
def test_labels_are_mixed_whatever_form_they_have(getter, num_classes, labels):
    mix = RandomMixup(num_classes=num_classes, labels_getter=getter)
    for row in rows(batch_of(), labels, mix, class_names=None, max_samples=4):
        assert row.caption.count("class") in (1, 2)
    assert mix.labels_getter is getter


def test_classes_are_counted_by_the_labels_where_nothing_else_says_them():
    assert len(rows(batch_of(), LABELS + 90, RandomMixup(), class_names=None, max_samples=4)) == 4
    names = list("abcdefg")
    assert len(rows(batch_of(), LABELS, RandomMixup(), class_names=names, max_samples=4)) == 4


# The picture


@every_drawn_mixer
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_grid_shows_the_panels_pixel_by_pixel(case, dtype, channels):
    images = batch_of(dtype=dtype, channels=channels)
    grid = preview(images, LABELS, case.make(generator=generator_of(1)), class_names=NAMES)
    shown = rows(
        images, LABELS, case.make(generator=generator_of(1)), class_names=NAMES, max_samples=8
    )
    line = sum(FONT.getmetrics()) + 2
    for i, row in enumerate(shown):
        found = tiles(grid, row=i, height=72 + 2 * GAP + 14 + line, tile=(96, 72))
        for tile, panel in zip(found, row.panels, strict=True):
            enlarged = as_bytes(panel).repeat_interleave(6, 1).repeat_interleave(6, 2)
            assert torch.equal(tile, enlarged)


@pytest.mark.parametrize(
    ("size", "tile", "width"),
    [
        ((1, 1), (96, 96), 440),
        ((28, 28), (112, 112), 504),
        ((50, 100), (100, 50), 456),
        ((96, 96), (96, 96), 440),
        ((100, 4), (4, 100), 440),
        ((300, 512), (512, 300), 2104),
        ((1024, 2048), (512, 256), 2104),
        ((2000, 1), (1, 512), 440),
    ],
)
def test_tiles_are_neither_tiny_nor_huge(size, tile, width):
    images = torch.ones(2, 3, *size) * 0.5
    grid = preview(images, torch.tensor([0, 1]), RandomMixup())
    assert grid.width == width
    for panel, column in zip(tiles(grid, row=0, height=0, tile=tile), HEADINGS, strict=True):
        assert panel.flatten(1).unique(dim=1).shape == (3, 1), column
        assert (panel == 128).all() == (column != "own share")


def test_no_more_rows_than_asked_for():
    heights = [
        preview(batch_of(), LABELS, RandomMixup(), max_samples=n).height for n in (1, 2, 3, 4, 5)
    ]
    assert heights[1] - heights[0] == heights[2] - heights[1] == heights[3] - heights[2] > 72
    assert heights[4] == heights[3]


def test_text_is_wrapped_and_keeps_inside_the_margins():
    names = ["a name of many words " * 9, "W" * 150]
    labels = torch.tensor([0, 1, 0, 1])
    grid = preview(batch_of(), labels, RandomCutMix(generator=generator_of()), class_names=names)
    paper = torch.tensor(Image.new("RGB", (1, 1), PAPER).getpixel((0, 0)))
    edge = pil_to_tensor(grid)[:, :, -MARGIN + 1 :]
    assert (edge == paper.view(3, 1, 1)).all()
    assert (pil_to_tensor(grid)[:, -MARGIN + 4 :] == paper.view(3, 1, 1)).all()
    for name in (*names, "", "  spaces  "):
        lines = wrapped(name, FONT, 200)
        assert "".join(lines).replace(" ", "") == name.replace(" ", "")
        assert all(FONT.getlength(text) <= 200 for text in lines)


def test_letters_without_a_glyph_are_spelled_out():
    assert drawable("λ = 0.50: café", FONT) == "lam = 0.50: cafe"
    assert drawable("cafe\u0301 Ⅳ 猫 \ud800 \x1b[31m", FONT) == "cafe IV ? ? ?[31m"


def test_a_font_may_be_given():
    small = preview(batch_of(), LABELS, RandomMixup(generator=generator_of()))
    large = preview(
        batch_of(),
        LABELS,
        RandomMixup(generator=generator_of()),
        font=ImageFont.load_default(size=40),
    )
    assert large.width > small.width
    with pytest.raises(TypeError, match="font must be"):
        preview(batch_of(), LABELS, RandomMixup(), font="Arial")


# What it leaves alone


@every_drawn_mixer
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("wrap", [torch.Tensor, tv_tensors.Image])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_nothing_given_is_changed(case, inplace, wrap, dtype):
    images = batch_of(dtype=dtype)
    images = tv_tensors.Image(images) if wrap is tv_tensors.Image else images
    soft, mix = soft_labels(4, 3), case.make(inplace=inplace, generator=generator_of())
    kept, kept_soft, settings = copy.deepcopy(images), soft.clone(), repr(mix)
    versions = images._version, soft._version
    preview(images, soft, mix)
    assert torch.equal(images, kept)
    assert torch.equal(soft, kept_soft)
    assert (images._version, soft._version) == versions
    assert repr(mix) == settings


def test_images_may_be_expanded_or_require_grad():
    expanded = torch.rand(1, 3, 8, 8).expand(4, 3, 8, 8)
    preview(expanded, LABELS, RandomMixup(inplace=True))
    leaf = batch_of().requires_grad_()
    preview(leaf, soft_labels(4, 3).requires_grad_(), RandomCutMix(inplace=True))
    assert leaf.grad is None


def test_it_draws_from_the_stream_of_the_mixer_what_a_call_draws():
    first, second = RandomFMix(generator=generator_of()), RandomFMix(generator=generator_of())
    before = torch.get_rng_state()
    preview(batch_of(), LABELS, first)
    second(batch_of(), soft_labels(4, 3))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.generator.get_state(), second.generator.get_state())


# Bad input

IMAGES, SOFT = batch_of(), soft_labels(4, 3)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([], LABELS), {}, TypeError, "images must be a tensor"),
        ((IMAGES[0], LABELS), {}, ValueError, "images must have shape"),
        ((IMAGES[:, :2], LABELS), {}, ValueError, "images must have shape"),
        ((IMAGES[:0], LABELS[:0]), {}, ValueError, "images must have shape"),
        ((IMAGES[..., :0], LABELS), {}, ValueError, "images must have shape"),
        ((IMAGES * 2 - 1, LABELS), {}, ValueError, "got values from -1 to 1"),
        ((IMAGES * torch.nan, LABELS), {}, ValueError, "got values from nan to nan"),
        ((IMAGES.long(), LABELS), {}, TypeError, "or uint8, got int64"),
        ((IMAGES > 0.5, LABELS), {}, TypeError, "images must be .* got bool"),
        ((IMAGES, [0, 1, 2, 1]), {}, TypeError, "labels must be a tensor"),
        ((IMAGES, LABELS[:3]), {}, ValueError, "one for each of 4 images"),
        ((IMAGES, LABELS[:, None]), {}, ValueError, "one for each of 4 images"),
        ((IMAGES, SOFT[:, 0]), {}, ValueError, "one for each of 4 images"),
        ((IMAGES, SOFT[:, :0]), {}, ValueError, "one for each of 4 images"),
        ((IMAGES, SOFT / 0), {}, ValueError, "labels must be finite"),
        ((IMAGES, LABELS > 1), {}, TypeError, "labels must be .* got bool"),
        ((IMAGES, LABELS - 1), {}, ValueError, "labels must lie .* got -1"),
        ((IMAGES, LABELS), {"class_names": NAMES[:2]}, ValueError, "labels must lie .* got 2"),
        ((IMAGES, SOFT), {"class_names": NAMES[:2]}, ValueError, "each of 3 classes, got 2"),
        ((IMAGES, LABELS), {"class_names": []}, ValueError, "each of 3 classes, got 0"),
        ((IMAGES, LABELS), {"class_names": "cat"}, TypeError, "class_names must be a list"),
        ((IMAGES, LABELS), {"class_names": 3}, TypeError, "class_names must be a list"),
        ((IMAGES, LABELS), {"max_samples": 0}, ValueError, "max_samples must be at least"),
        ((IMAGES, LABELS), {"max_samples": 1.5}, TypeError, "max_samples must be an integer"),
    ],
)
def test_bad_input(arguments, options, error, message):
    generator = generator_of()
    state = generator.get_state()
    for mixer in (RandomMixup, RandomCutMix):
        with pytest.raises(error, match=message):
            preview(*arguments, mixer(generator=generator), **options)
    assert torch.equal(generator.get_state(), state)


# The command


def picture(mode="RGB", size=(40, 30)):
    gradient = Image.linear_gradient("L").resize(size)
    return gradient if mode == "L" else gradient.convert(mode)


LONG = "a" * 300  # longer than a file's name can be


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    picture().save(folder / "cat.jpg")
    picture("RGBA", (17, 90)).save(folder / "dog.png")
    picture("L", (200, 50)).save(folder / "owl.bmp")
    picture("P").save(folder / "pig.gif")
    return folder


def run(*arguments):
    return command.main([str(argument) for argument in arguments])


def lines(text):
    return text.splitlines()


@pytest.mark.parametrize("mix", command.MIXERS)
def test_a_folder_becomes_a_grid(mix, photos, tmp_path, capsys):
    out = tmp_path / "grid.png"
    assert run("preview", photos, "--mix", mix, "--size", 24, "--out", out) == 0
    output = capsys.readouterr()
    assert output.out == f"{out}\n"
    assert output.err == ""
    with Image.open(out) as grid:
        assert (grid.mode, grid.format, grid.width) == ("RGB", "PNG", 440)
    first = out.read_bytes()
    assert run("preview", photos, "--mix", mix, "--size", 24, "--out", out) == 0
    assert out.read_bytes() == first
    assert run("preview", photos, "--mix", mix, "--size", 24, "--out", out, "--seed", 1) == 0
    assert out.read_bytes() != first


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mixup", RandomMixup),
        ("cutmix", RandomCutMix),
        ("resizemix", RandomResizeMix),
        ("fmix", RandomFMix),
        ("mosaic", RandomMosaic),
    ],
)
def test_mixers_by_name(name, kind):
    mix = command.MIXERS[name](0.3, generator_of())
    assert type(mix) is kind
    assert getattr(mix, "alpha", 0.3) == 0.3
    choice = command.MIXERS["choice"](0.3, generator_of())
    assert type(choice) is RandomChoice
    assert kind in map(type, choice.transforms)


def test_names_and_pixels_reach_the_preview(photos, tmp_path, monkeypatch):
    seen = {}

    def spy(images, labels, mix, **options):
        seen.update(options, images=images, labels=labels, mix=mix)
        return preview(images, labels, mix, **options)

    monkeypatch.setattr(command, "preview", spy)
    (tmp_path / "more").mkdir()
    picture().save(tmp_path / "more" / "cat.png")
    (photos / "notes.txt").write_text("not read")
    paths = tmp_path / "more" / "cat.png", photos
    out = tmp_path / "grid.webp"
    assert run("preview", *paths, "--size", 24, "--alpha", 0.5, "--out", out) == 0
    assert seen["class_names"] == ["more/cat", "photos/cat", "dog", "owl", "pig"]
    assert seen["labels"].tolist() == [0, 1, 2, 3, 4]
    assert seen["images"].shape == (5, 3, 24, 24)
    assert seen["images"].dtype == torch.uint8
    assert seen["mix"].alpha == 0.5
    assert seen["max_samples"] == 8
    assert run("preview", *paths, "--samples", 1, "--out", out) == 0
    assert len(seen["images"]) == 2
    assert seen["max_samples"] == 1


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "I;16"])
@pytest.mark.parametrize("size", [(40, 40), (41, 90), (300, 7), (1, 1)])
def test_every_mode_and_size_is_read(mode, size, tmp_path):
    path = tmp_path / "image.tiff"
    if mode == "I;16":
        Image.new("I", size, 0x8000).convert("I;16").save(path)
    else:
        picture(mode, size).save(path)
    loaded = pictures.load(path, 20)
    assert loaded.shape == (3, 20, 20)
    assert loaded.dtype == torch.uint8
    assert mode != "I;16" or loaded.unique().tolist() == [0x80]


def test_images_are_turned_upright_cropped_and_laid_on_white(tmp_path):
    halves = Image.new("RGB", (60, 20), "red")
    halves.paste("blue", (30, 0, 60, 20))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    halves.save(tmp_path / "turned.png", exif=exif)
    left, right = pictures.load(tmp_path / "turned.png", 20)[:, 10, [1, 18]].T.tolist()
    assert (left, right) == ([0, 0, 255], [255, 0, 0])
    Image.new("RGBA", (9, 9), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (pictures.load(tmp_path / "clear.png", 5) == 255).all()
    palette = Image.new("P", (9, 9), 0)
    palette.putpalette([255, 0, 0])
    palette.save(tmp_path / "clear.gif", transparency=0)
    assert (pictures.load(tmp_path / "clear.gif", 5) == 255).all()


def test_a_transparent_colour_of_16_bits_is_no_colour_of_8(tmp_path):
    path = tmp_path / "deep.png"
    Image.new("I;16", (9, 9), 0x9C9C).save(path)
    data, header = path.read_bytes(), 8 + 4 + 4 + 13 + 4
    chunk = b"tRNS" + (0x9C9C).to_bytes(2, "big")
    chunk = (2).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    path.write_bytes(data[:header] + chunk + data[header:])
    with Image.open(path) as image:
        assert image.info["transparency"] == 0x9C9C
    assert pictures.load(path, 5).unique().tolist() == [0x9C]


def png_header(width, height):
    """A PNG that says how large it is, and has no pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n\0\0\0\r" + chunk + struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize("kind", pictures.FORMATS)
def test_a_damaged_file_is_read_or_skipped(kind, tmp_path):
    whole = io.BytesIO()
    to_pil_image(torch.randint(256, (3, 12, 12), dtype=torch.uint8)).save(whole, kind)
    data = whole.getvalue()
    paths = []
    for k in range(60):
        damaged = bytearray(data[: 1 + k * len(data) // 30] if k < 30 else data)
        for place in torch.randint(min(200, len(damaged)), (3 * (k >= 30),)).tolist():
            damaged[place] = (damaged[place] * 7 + k) % 256
        paths.append(tmp_path / f"{k:02}")
        paths[-1].write_bytes(damaged)
    skipped = []
    found = [(path, path) for path in paths]
    images = pictures.read(found, size=8, count=100, skip=skipped.append)[0]
    assert all(line.startswith("skipped ") for line in skipped)
    assert len(images) + len(skipped) == len(paths)
    assert len(skipped) > 5
    assert all(image.shape == (3, 8, 8) for image in images)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP"])
def test_of_an_animation_the_first_picture_is_shown(kind, tmp_path):
    path = tmp_path / "moving"
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("white", "black", "red")]
    frames[0].save(path, kind, save_all=True, append_images=frames[1:])
    with Image.open(path) as image:
        assert image.n_frames == 3
    assert (pictures.load(path, 5) == 255).all()


def bad_files(folder):
    whole = to_pil_image(torch.randint(256, (3, 64, 64), dtype=torch.uint8))
    whole.save(folder / "bad_truncated.jpg")
    data = (folder / "bad_truncated.jpg").read_bytes()
    (folder / "bad_truncated.jpg").write_bytes(data[: len(data) // 2])
    (folder / "bad_text.png").write_text("I am a text")
    (folder / "bad_empty.png").write_bytes(b"")
    picture(size=(300, 200)).save(folder / "bad_warned_bomb.png")
    picture(size=(300, 300)).save(folder / "bad_bomb.png")
    (folder / "bad_script.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    picture().save(folder / "bad_kind.png", "PCX")
    (folder / "bad_link.png").symlink_to(folder / "nowhere.png")
    (folder / "bad_circle.png").symlink_to(folder / "bad_circle.png")
    (folder / "bad_huge_header.png").write_bytes(png_header(2**31 - 1, 2**31 - 1))
    (folder / "bad_flat_header.png").write_bytes(png_header(0, 9))
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "bad_pipe.png")
    (folder / "bad_\x1b[31m\nname.png").write_text("I would colour the terminal")
    return sorted(file for file in folder.iterdir() if file.name.startswith("bad_"))


def test_bad_files_are_named_and_skipped(photos, tmp_path, capsys, monkeypatch):
    bad = bad_files(photos)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000)
    out = tmp_path / "grid.png"
    assert run("preview", photos, "--out", out) == 0
    monkeypatch.undo()
    with Image.open(out) as grid:
        assert grid.width == 4 * 160 + 3 * GAP + 2 * MARGIN
    output = capsys.readouterr()
    assert output.out == f"{out}\n"
    assert len(lines(output.err)) == len(bad)
    for line, path in zip(lines(output.err), bad, strict=True):
        shown = str(path).replace("\n", " ").replace("\x1b", "?")
        assert line.startswith(f"warning: skipped {shown}: ")
        assert line.isprintable()
    assert "decompression bomb" in output.err
    assert "truncated" in output.err
    assert "not a known kind of image" in output.err


def test_the_bomb_limit_is_not_moved(photos, tmp_path):
    limit = Image.MAX_IMAGE_PIXELS
    with warnings.catch_warnings(record=True) as caught:
        assert run("preview", photos, "--out", tmp_path / "grid.png") == 0
    assert limit == Image.MAX_IMAGE_PIXELS
    assert not caught


def test_fewer_than_two_images_cannot_be_mixed(tmp_path, capsys):
    out = tmp_path / "grid.png"
    (tmp_path / "text.png").write_text("text")
    assert run("preview", tmp_path, "--out", out) == 1
    skipped, error = lines(capsys.readouterr().err)
    assert skipped.startswith("warning: skipped ")
    assert error == "error: mixing needs at least two images, 0 could be read"
    picture().save(tmp_path / "cat.png")
    assert run("preview", tmp_path / "cat.png", "--out", out) == 1
    assert lines(capsys.readouterr().err) == [
        "error: mixing needs at least two images, 1 could be read"
    ]
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "cannot read nowhere.png: no such file or folder"),
        ([os.devnull], f"cannot read {os.devnull}: not a file or folder that may be read"),
        ([], "the following arguments are required: PATH"),
        (["{photos}", "--mix", "blend"], "argument --mix: invalid choice: 'blend'"),
        (["{photos}", "--alpha", "0"], "--alpha must be above 0, got 0.0"),
        (["{photos}", "--alpha", "-1"], "--alpha must be above 0, got -1.0"),
        (["{photos}", "--alpha", "nan"], "--alpha must be finite, got nan"),
        (["{photos}", "--alpha", "much"], "argument --alpha: invalid float value: 'much'"),
        (["{photos}", "--size", "0"], "--size must lie in [1, 1024], got 0"),
        (["{photos}", "--size", "100000"], "--size must lie in [1, 1024], got 100000"),
        (["{photos}", "--samples", "0"], "--samples must lie in [1, 64], got 0"),
        (["{photos}", "--seed", "-1"], "--seed must lie in [0, "),
        (["{photos}", "--out", "nowhere/grid.png"], "--out must lie in a folder that exists, got"),
        (["{photos}", "--out", "grid.txt"], "--out must have a suffix that Pillow can write"),
        (["{photos}", "--out", "grid"], "--out must have a suffix that Pillow can write"),
        (["{photos}", "--out", "grid.psd"], "--out must have a suffix that Pillow can write"),
        (["{photos}/dog.png", "--out", "{photos}/dog.png"], "--out would overwrite "),
        (["{photos}", "--out", "folder.png"], "cannot write folder.png: "),
        (["{photos}", "--out", "circle.png"], "cannot write circle.png: "),
        (["{photos}", "--out", f"{LONG}.png"], f"cannot write {LONG}.png: "),
        (["{photos}", "--out", f"{LONG}/a.png"], "--out must lie in a folder that exists, got"),
        ([LONG], f"cannot read {LONG}: no such file or folder"),
        (["circle.png"], "cannot read circle.png: no such file or folder"),
        (["{photos}", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_bad_requests_end_in_one_line(arguments, message, photos, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "circle.png").symlink_to("circle.png")
    before = sorted(tmp_path.rglob("*"))
    assert run("preview", *(argument.format(photos=photos) for argument in arguments)) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = lines(output.err)
    assert line.startswith(f"error: {message}")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_grid_too_high_for_its_format(photos, tmp_path, capsys):
    for k in range(30):
        picture().save(photos / f"{k}.png")
    out = tmp_path / "grid.webp"
    assert run("preview", photos, "--samples", 34, "--size", 512, "--out", out) == 2
    (line,) = lines(capsys.readouterr().err)
    assert line.startswith(f"error: cannot write {out}: ")
    assert not out.exists()


def test_a_name_that_the_terminal_cannot_show(photos, tmp_path, monkeypatch):
    screen = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", screen)
    assert run("preview", photos, "--out", tmp_path / "é\udcff.png") == 0
    screen.flush()
    assert screen.buffer.getvalue().endswith(b"\\xe9\\udcff.png\n")


def test_the_last_result_is_not_mixed_again(photos, capsys):
    out = photos / "aaa.png"
    assert run("preview", photos, "--out", out) == 0
    first = out.read_bytes()
    assert run("preview", photos, "--out", out) == 0
    assert out.read_bytes() == first


def test_help(capsys):
    assert command.main(["--help"]) == 0
    assert "preview" in capsys.readouterr().out
    assert command.main(["preview", "--help"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    makers = [(name, make) for name, make in command.MIXERS.items() if name != "choice"]
    without = [name for name, make in makers if not hasattr(make(1.0, generator_of()), "alpha")]
    assert f"does not apply to {' and '.join(without)} (" in words
    assert all(name in words for name in command.MIXERS)
    assert command.main([]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "usage: python -m mixup_transforms" in output.err


def test_python_m(photos, tmp_path):
    out = tmp_path / "grid.jpg"
    # Pillow logs this one, which only a process of its own would show.
    picture().save(photos / "bad.tif")
    samples = b"\x15\x01\x03\x00\x01\x00\x00\x00"
    data = (photos / "bad.tif").read_bytes()
    assert data.count(samples + b"\x03\x00") == 1
    (photos / "bad.tif").write_bytes(data.replace(samples + b"\x03\x00", samples + b"\x03\x14"))
    python = [sys.executable, "-m", "mixup_transforms"]
    done = subprocess.run(
        [*python, "preview", photos, "--mix", "choice", "--out", out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, f"{out}\n")
    (skipped,) = lines(done.stderr)
    assert skipped.startswith(f"warning: skipped {photos / 'bad.tif'}: ")
    with Image.open(out) as grid:
        assert grid.format == "JPEG"


# Folders of classes


def folders(root, *files):
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        picture().save(root / file)
    return root


def found(*paths, out="nowhere.png"):
    pairs = [*pictures.find(paths, out=paths[0] / out)]
    known = [*dict.fromkeys(of_class for _, of_class in pairs)]
    names = dict(zip(known, pictures.class_names(known), strict=True))
    return [(file.relative_to(paths[0].parent).as_posix(), names[key]) for file, key in pairs]


def test_folders_are_classes_and_take_turns(tmp_path):
    root = folders(
        tmp_path / "d", "cat/1.png", "cat/2.png", "cat/3.png", "dog/1.png", "empty/a/1.png"
    )
    (root / "dog" / "notes.txt").write_text("not read")
    assert found(root) == [
        ("d/cat/1.png", "cat"),
        ("d/dog/1.png", "dog"),
        ("d/cat/2.png", "cat"),
        ("d/cat/3.png", "cat"),
    ]


def test_pictures_beside_folders_of_classes_are_named_by_their_files(tmp_path):
    root = folders(tmp_path / "d", "cat.png", "sun.png", "cat/1.png", "dog/1.png")
    assert [name for _, name in found(root)] == ["d/cat", "sun", "cat", "dog"]
    assert [name for _, name in found(root, out="cat/1.png")] == ["cat", "sun", "dog"]


def test_a_class_is_one_in_all_the_folders_given(tmp_path):
    train = folders(tmp_path / "train", "cat/1.png", "dog/1.png")
    test = folders(tmp_path / "test", "cat/1.png")
    assert [name for _, name in found(train, test.parent / "test")[:2]] == ["cat", "dog"]
    keys = [key for _, key in pictures.find([train, test], out=tmp_path / "out.png")]
    assert keys[0] == keys[2]


def test_two_files_of_one_name_in_two_folders_are_two_classes(tmp_path):
    root = folders(tmp_path, "a/x/1.png", "b/x/1.png", "c/1.png", "c/2.png", "c/2.jpg")
    keys = [
        key for _, key in pictures.find([root / "a/x", root / "b/x", root / "c"], out=root / "o")
    ]
    assert pictures.class_names(dict.fromkeys(keys)) == ["a/x/1", "b/x/1", "c/1", "2"]
    assert keys[-1] == keys[-2]


def test_class_folders_reach_the_grid(tmp_path, monkeypatch):
    seen = {}

    def spy(images, labels, mix, **options):
        seen.update(options, labels=labels)
        return preview(images, labels, mix, **options)

    monkeypatch.setattr(command, "preview", spy)
    root = folders(tmp_path / "d", "cat/1.png", "cat/2.png", "dog/1.png", "owl/1.png")
    assert run("preview", root, "--samples", 4, "--out", tmp_path / "grid.png") == 0
    assert seen["class_names"] == ["cat", "dog", "owl"]
    assert seen["labels"].tolist() == [0, 1, 2, 0]


def test_links_that_lead_in_a_circle_are_no_classes(tmp_path):
    root = folders(tmp_path / "d", "cat/1.png", "dog/1.png")
    (root / "circle").symlink_to(root / "circle")
    (root / "up").symlink_to(root)
    assert [name for _, name in found(root)] == ["cat", "dog"]


def test_a_folder_is_listed_when_its_turn_comes(tmp_path):
    root = folders(tmp_path / "d", "cat/1.png", "dog/1.png")
    files = pictures.find([root], out=tmp_path / "grid.png")
    assert next(files)[0].parent.name == "cat"
    folders(root, "dog/0.png")
    assert next(files)[0] == root / "dog" / "0.png"


def test_a_class_that_may_not_be_read_is_named_and_skipped(tmp_path, monkeypatch, capsys):
    root = folders(tmp_path / "d", "cat/1.png", "closed/1.png", "dog/1.png")
    may = os.access
    monkeypatch.setattr(os, "access", lambda path, how: path.name != "closed" and may(path, how))
    assert run("preview", root, "--out", tmp_path / "grid.png") == 0
    (line,) = lines(capsys.readouterr().err)
    assert line == f"warning: skipped {root / 'closed'}: not a regular file"


# What it is written to


def python_m(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "mixup_transforms", *map(str, arguments)],
        text=True,
        stderr=subprocess.PIPE,
        **options,
    )


def closed_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.mark.parametrize("arguments", [["preview"], ["preview", "--help"]], ids=str)
def test_a_closed_pipe_is_no_error(arguments, photos, tmp_path):
    out, pipe = tmp_path / "grid.png", closed_pipe()
    options = [photos, "--out", out] if arguments == ["preview"] else []
    done = python_m(*arguments, *options, stdout=pipe)
    os.close(pipe)
    assert (done.returncode, done.stderr) == (0, "")
    assert out.exists() == bool(options)


full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")


@full
@pytest.mark.parametrize("arguments", [["preview"], ["preview", "--help"]], ids=str)
def test_standard_output_on_a_full_disk_is_said_in_one_line(arguments, photos, tmp_path):
    options = [photos, "--out", tmp_path / "grid.png"] if arguments == ["preview"] else []
    with open("/dev/full", "w") as disk:
        done = python_m(*arguments, *options, stdout=disk)
    assert done.returncode == 2
    (line,) = lines(done.stderr)
    assert line.startswith("error: cannot write to standard output: ")


@full
def test_a_grid_on_a_full_disk_is_said_in_one_line(photos, tmp_path, capsys):
    out = tmp_path / "grid.png"
    out.symlink_to("/dev/full")
    assert run("preview", photos, "--out", out) == 2
    (line,) = lines(capsys.readouterr().err)
    assert line.startswith(f"error: cannot write {out}: ")
    assert os.path.exists("/dev/full")


@pytest.mark.parametrize("old", [None, b"the last result"])
def test_a_disk_that_fills_up_leaves_what_was_there(old, photos, tmp_path):
    pytest.importorskip("resource")
    folder = tmp_path / "results"
    folder.mkdir()
    out = folder / "grid.png"
    if old:
        out.write_bytes(old)

    # Once all is imported, since torch writes files of its own then.
    program = (
        "import resource, sys\n"
        "from mixup_transforms.__main__ import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "sys.exit(main(sys.argv[1:]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "preview", photos, "--out", out],
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    assert done.returncode == 2
    (line,) = lines(done.stderr)
    assert line.startswith(f"error: cannot write {out}: ")
    assert [file.read_bytes() for file in folder.iterdir()] == ([old] if old else [])


@pytest.mark.parametrize("closed", [["stdout"], ["stderr"], ["stdout", "stderr"]], ids=str)
def test_closed_streams_take_no_words(closed, photos, tmp_path, monkeypatch, capsys):
    (photos / "bad.png").write_text("text")
    for name in closed:
        monkeypatch.setattr(sys, name, None)
    assert run("preview", photos, "--out", tmp_path / "grid.png") == 0
    assert ("warning" in capsys.readouterr().out) is False


@full
def test_words_that_nobody_can_read_change_nothing(photos, tmp_path, monkeypatch):
    (photos / "bad.png").write_text("text")
    with open("/dev/full", "w", buffering=1) as disk:
        monkeypatch.setattr(sys, "stderr", disk)
        assert run("preview", photos, "--out", tmp_path / "grid.png") == 0
        os.dup2(os.open(os.devnull, os.O_WRONLY), disk.fileno())


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_a_link_to_an_image_is_not_written_to(link, photos, tmp_path, capsys):
    out = tmp_path / "grid.png"
    link(photos / "dog.png", out)
    kept = (photos / "dog.png").read_bytes()
    assert run("preview", photos / "dog.png", photos / "cat.jpg", "--out", out) == 2
    (line,) = lines(capsys.readouterr().err)
    assert line == f"error: --out would overwrite {photos / 'dog.png'}, an image to be mixed"
    assert (photos / "dog.png").read_bytes() == kept


def test_an_image_of_a_folder_keeps_its_pixels_when_out_is_a_hard_link_to_it(photos, tmp_path):
    out = tmp_path / "grid.png"
    os.link(photos / "dog.png", out)
    kept = (photos / "dog.png").read_bytes()
    assert run("preview", photos, "--samples", 2, "--out", out) == 0
    assert (photos / "dog.png").read_bytes() == kept
    assert out.read_bytes() != kept


def test_the_result_keeps_its_mode_and_its_link(photos, tmp_path):
    result, out = tmp_path / "result.png", tmp_path / "grid.png"
    out.symlink_to(result)
    assert run("preview", photos, "--out", out) == 0
    fresh = tmp_path / "fresh"
    fresh.touch()
    assert result.stat().st_mode == fresh.stat().st_mode
    result.chmod(0o640)
    assert run("preview", photos, "--seed", 1, "--out", out) == 0
    assert out.is_symlink()
    assert result.stat().st_mode & 0o777 == 0o640
