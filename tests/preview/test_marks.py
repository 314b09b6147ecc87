"""Objects over a picture, pixel by pixel, and the tags beside them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFont

from mixup_transforms._preview.marks import EDGE, OWN, PARTNER, Mark, draw, place
from mixup_transforms._preview.text import shortened

FONT = ImageFont.load_default(size=13)
colours = st.sampled_from([OWN, PARTNER])
grounds = st.sampled_from(["#ffffff", "#000000", "#808080", "#c03020"])


def drawn(marks, *, size, ground="#808080", scale=(1, 1)):
    """Draw marks over a plain picture: its pixels (H, W, 3)."""
    picture = Image.new("RGB", size, ground)
    draw(picture, marks, scale)
    return np.asarray(picture)


def rgb(colour):
    return np.array(Image.new("RGB", (1, 1), colour).getpixel((0, 0)))


def painted(ground, size, **planes):
    """Paint planes of pixels over a plain picture, each in its colour, the later ones on top."""
    pixels = np.tile(rgb(ground), (size[1], size[0], 1))
    for colour, plane in planes.values():
        pixels[plane] = rgb(colour)
    return pixels


def rectangle(x1, y1, x2, y2):
    return (x1, y1), (x2, y1), (x2, y2), (x1, y2)


@given(
    box=st.tuples(*[st.integers(-5, 40)] * 2, *[st.integers(2, 40)] * 2),
    scale=st.sampled_from([(1, 1), (3, 2)]),
    colour=colours,
    ground=grounds,
)
def test_a_box_is_two_pixels_of_colour_between_dark_edges(box, scale, colour, ground):
    x, y, width, height = box
    corners = rectangle(x, y, x + width, y + height)
    pixels = drawn([Mark(colour, corners)], size=(70, 60), ground=ground, scale=scale)
    (x1, x2), (y1, y2) = (
        (near * k, far * k) for near, far, k in zip((x, y), corners[2], scale, strict=True)
    )
    columns, rows = np.meshgrid(np.arange(70), np.arange(60))
    sides = [columns - x1, x2 - 1 - columns, rows - y1, y2 - 1 - rows]
    depth = np.minimum.reduce(sides)  # in pixels, from its side inwards
    edge = (EDGE, (depth == -1) | (depth == 2))
    line = (colour, (depth == 0) | (depth == 1))
    assert np.array_equal(pixels, painted(ground, (70, 60), edge=edge, line=line))


@pytest.mark.parametrize("corners", [rectangle(9, 9, 9, 20), rectangle(9, 9, 9, 9)])
def test_a_box_without_area_can_be_seen(corners):
    pixels = drawn([Mark(OWN, corners)], size=(30, 30))
    assert (pixels[9, 9] == rgb(OWN)).all()


@given(angle=st.floats(0.1, 1.4), ground=grounds)
def test_a_rotated_box_has_its_colour_along_each_side_and_none_inside(angle, ground):
    ahead = np.array([np.cos(angle), np.sin(angle)]) * 40
    beside = np.array([-np.sin(angle), np.cos(angle)]) * 24
    start = np.array([60, 40]) - (ahead + beside) / 2 + 20
    corners = [start, start + ahead, start + ahead + beside, start + beside]
    pixels = drawn([Mark(PARTNER, [tuple(c) for c in corners])], size=(160, 130), ground=ground)
    for one, other in zip(corners, corners[1:] + corners[:1], strict=True):
        for part in (0, 0.25, 0.5, 0.8):
            x, y = np.round(one + part * (other - one)).astype(int)
            around = pixels[y - 1 : y + 2, x - 1 : x + 2].reshape(-1, 3)
            assert (around == rgb(PARTNER)).all(1).any()
    x, y = np.round(sum(corners) / 4).astype(int)
    assert (pixels[y - 4 : y + 5, x - 4 : x + 5] == rgb(ground)).all()


def windows(plane, reach):
    """Whether any pixel, and whether every pixel, of the square around each is in a plane."""
    wide = np.pad(plane, reach)
    parts = np.lib.stride_tricks.sliding_window_view(wide, (2 * reach + 1,) * 2)
    return parts.any((2, 3)), parts.all((2, 3))


@given(data=st.data(), scale=st.integers(1, 4), colour=colours, ground=grounds)
def test_an_outline_follows_the_pixels_of_its_mask(data, scale, colour, ground):
    height, width = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)), label="size")
    bits = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    mask = torch.tensor(bits).view(height, width)
    size = width * scale, height * scale
    mark = Mark(colour, mask=mask)
    pixels = drawn([mark], size=size, ground=ground, scale=(scale, scale))
    plane = mask.numpy().repeat(scale, 0).repeat(scale, 1)
    near, _ = windows(plane, 1)
    _, inside = windows(plane, 2)
    _, deep = windows(inside, 1)
    edge, line = (EDGE, near & ~deep), (colour, plane & ~inside)
    assert np.array_equal(pixels, painted(ground, size, edge=edge, line=line))


def test_a_mask_of_one_pixel_can_be_seen_in_a_reduced_picture():
    mask = torch.zeros(400, 600, dtype=torch.bool)
    mask[100, 300] = True
    pixels = drawn([Mark(OWN, mask=mask)], size=(150, 100), scale=(0.25, 0.25))
    assert (pixels[25, 75] == rgb(OWN)).all()


@given(x=st.floats(-20, 60), y=st.floats(-20, 60))
def test_a_keypoint_is_a_dot_if_it_lies_in_the_picture(x, y):
    pixels = drawn([Mark(OWN, points=[(x, y)])], size=(40, 30), scale=(1, 1))
    if 0 <= x < 40 and 0 <= y < 30:
        assert (pixels[int(y), int(x)] == rgb(OWN)).all()
    else:
        assert (pixels == rgb("#808080")).all()


def test_geometry_far_off_is_no_error():
    far = [rectangle(-1e30, -1e30, 1e30, 1e30), [(0, 1e30), (1e30, 0), (0, -1e30), (-1e30, 0)]]
    pixels = drawn([Mark(OWN, corners, points=corners) for corners in far], size=(20, 20))
    assert (pixels == rgb("#808080")).all()


# Tags

names = st.text(max_size=30)
places = st.floats(-50, 300, allow_nan=False)


@st.composite
def weighed_marks(draw):
    corners = [(draw(places), draw(places)) for _ in range(4)]
    shape = draw(st.sampled_from([None, "full", "empty"]))
    mask = None if shape is None else torch.full((30, 40), shape == "full")
    points = draw(st.lists(st.tuples(places, places), max_size=3))
    weight = f"{draw(st.floats(0, 1)):.2f}"
    corners = corners if draw(st.booleans()) or mask is None else ()
    return Mark(draw(colours), corners, mask, points, weight, draw(names))


@given(
    marks=st.lists(weighed_marks(), max_size=12),
    size=st.tuples(st.integers(1, 300), st.integers(1, 200)),
    left=st.integers(0, 60),
    right=st.integers(96, 200),
)
def test_every_weight_gets_a_tag_and_no_two_overlap(marks, size, left, right):
    across = -left, size[0] + right
    tags = place(marks, (1, 1), size, FONT, across=across)
    assert [tag.words[:4] for tag in tags] == [mark.weight for mark in marks]
    assert [tag.colour for tag in tags] == [mark.colour for mark in marks]
    free = np.ones((4000, across[1] - across[0]), dtype=bool)
    for tag in tags:
        x1, y1, x2, y2 = tag.box
        assert across[0] <= x1 < x2 <= across[1]
        assert 0 <= y1 < y2
        assert FONT.getlength(tag.words) <= x2 - x1
        there = free[y1:y2, x1 - across[0] : x2 - across[0]]
        assert there.all()
        there[:] = False


def tags_of(mark, *, width=300):
    """Place a tag in a picture that shows its image at twice its size."""
    return place([mark], (2, 2), (300, 200), FONT, across=(0, width))


def test_a_tag_stands_on_its_box_or_in_it_and_never_on_a_keypoint():
    (on,) = tags_of(Mark(OWN, rectangle(50, 60, 90, 90), weight="0.50"))
    assert on.box[:1] + on.box[3:] == (100, 120)
    (inside,) = tags_of(Mark(OWN, rectangle(50, 5, 90, 90), weight="0.50"))
    assert inside.box[:2] == (100, 10)
    eyes = [(52, 7), (60, 7)]
    (beside,) = tags_of(Mark(OWN, rectangle(50, 5, 90, 90), points=eyes, weight="0.50"))
    x1, y1, x2, y2 = beside.box
    assert not any(x1 <= 2 * x < x2 and y1 <= 2 * y < y2 for x, y in eyes)


def test_a_tag_stands_in_its_picture_where_it_has_room():
    mark = Mark(OWN, rectangle(140, 60, 150, 90), weight="0.50", name="person")
    (tag,) = place([mark], (2, 2), (300, 200), FONT, across=(-40, 340))
    assert tag.box[2:] == (300, 120)


def test_an_object_without_a_weight_has_no_tag():
    assert tags_of(Mark(OWN, rectangle(0, 0, 9, 9), name="cat")) == []


@pytest.mark.parametrize(
    ("width", "words"), [(35, "0.25"), (62, "0.25 ae..."), (300, "0.25 aeroplane over a sea")]
)
def test_a_name_is_shortened_and_never_its_weight(width, words):
    mark = Mark(OWN, rectangle(0, 0, 9, 9), weight="0.25", name="aéroplane\nover  a sea")
    assert [tag.words for tag in tags_of(mark, width=width)] == [words]


@given(text=names, width=st.integers(1, 200))
def test_a_shortened_text_fits_and_begins_like_the_whole(text, width):
    short = shortened(text, FONT, width)
    assert short == text or FONT.getlength(short) <= width
    assert text.startswith(short.removesuffix("...").rstrip())
