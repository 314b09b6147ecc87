"""The painter that the tests of objects trust, against cases worked out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as F

from tests import painter
from tests.painter import View, seen


def own(size, hole=(0, 0, 0, 0)):
    """A sample that a box of its partner, of the same size, covers."""
    return painter.cutmix(size, size, hole)[0]


def pasted(size, box):
    return painter.cutmix(size, size, box)[1]


# Boxes


def test_a_box_that_is_half_covered_has_half_the_weight_and_half_the_box():
    found = seen(own((6, 8), hole=(4, 0, 8, 6)), box=(2, 1, 6, 5))
    assert found.weight == 0.5
    assert not found.wholly
    assert found.tight.tolist() == [2, 1, 4, 5]


def test_the_other_half_is_what_the_partner_would_show_of_the_same_box():
    found = seen(pasted((6, 8), (4, 0, 8, 6)), box=(2, 1, 6, 5))
    assert found.weight == 0.5
    assert found.tight.tolist() == [4, 1, 6, 5]


def test_a_hole_through_the_middle_keeps_the_box():
    found = seen(own((6, 8), hole=(3, 2, 5, 4)), box=(2, 1, 6, 5))
    assert found.weight == 12 / 16
    assert found.tight.tolist() == [2, 1, 6, 5]
    across = seen(own((6, 8), hole=(0, 2, 8, 4)), box=(2, 1, 6, 5))
    assert across.weight == 0.5
    assert across.tight.tolist() == [2, 1, 6, 5]


def test_a_hole_over_a_corner_keeps_the_box_and_over_a_side_cuts_it():
    corner = seen(own((6, 8), hole=(4, 3, 8, 6)), box=(2, 1, 6, 5))
    assert corner.weight == 12 / 16
    assert corner.tight.tolist() == [2, 1, 6, 5]
    side = seen(own((6, 8), hole=(0, 0, 3, 6)), box=(2, 1, 6, 5))
    assert side.weight == 12 / 16
    assert side.tight.tolist() == [3, 1, 6, 5]


def test_a_real_box_is_counted_in_parts_of_pixels():
    found = seen(own((4, 4), hole=(2, 0, 4, 4)), box=(0.5, 0.25, 2.5, 1.25))
    assert found.weight == 1.5 / 2
    assert found.tight.tolist() == [0.5, 0.25, 2, 1.25]


def test_a_box_over_the_edge_is_clipped_to_its_image_first():
    untouched = seen(own((4, 4), hole=(2, 0, 4, 4)), box=(-2, -1, 2, 9))
    assert untouched.weight == 1
    assert untouched.wholly
    half = seen(own((4, 4), hole=(1, 0, 4, 4)), box=(-2, -1, 2, 9))
    assert half.weight == 0.5
    assert half.tight.tolist() == [0, 0, 1, 4]


@pytest.mark.parametrize(
    "box", [(1, 1, 1, 3), (1, 2, 3, 2), (3, 1, 1, 2), (-3, 0, 0, 4), (4, 0, 6, 4)]
)
def test_a_box_without_area_in_its_image_is_invisible(box):
    assert seen(own((4, 4)), box=box) is None


def test_a_box_that_is_wholly_covered_is_invisible():
    assert seen(own((4, 4), hole=(1, 1, 3, 3)), box=(1, 1, 3, 3)) is None


def test_what_falls_off_the_canvas_counts_below_the_line():
    part = painter.cutmix((4, 4), (4, 8), (0, 0, 4, 4))[1]
    found = seen(part, box=(2, 0, 6, 4))
    assert found.weight == 0.5
    assert found.tight.tolist() == [2, 0, 4, 4]


def test_a_small_partner_shows_only_where_it_has_pixels():
    mine, theirs = painter.cutmix((4, 4), (2, 2), (1, 1, 4, 4))
    assert theirs.share.sum() == 1
    assert theirs.share[1, 1] == 1
    assert (mine.share + theirs.share == 1).all()
    assert seen(theirs, box=(0, 0, 2, 2)).weight == 0.25


def test_mixup_on_a_joined_canvas():
    mine, theirs = painter.mixup((2, 4), (4, 2), 0.25)
    assert mine.share.tolist() == [[0.25, 0.25, 1, 1]] * 2 + [[0] * 4] * 2
    assert theirs.share.tolist() == [[0.75, 0.75, 0, 0]] * 2 + [[1, 1, 0, 0]] * 2
    assert seen(mine, box=(0, 0, 4, 2)).weight == (4 * 0.25 + 4) / 8
    assert seen(mine, box=(0, 0, 4, 2)).wholly
    assert painter.shares((mine, theirs)) == [(4 * 0.25 + 4) / 12, (4 * 0.75 + 4) / 12]


def test_mixup_gated_off_keeps_its_canvas_and_shows_nothing_of_the_partner():
    mine, theirs = painter.mixup((2, 4), (4, 2), 1)
    assert mine.share.tolist() == [[1] * 4] * 2
    assert not theirs.share.any()


def test_a_lambda_of_zero_leaves_what_the_partner_does_not_reach():
    mine, _ = painter.mixup((2, 4), (4, 2), 0)
    found = seen(mine, box=(1, 0, 4, 2))
    assert found.weight == 2 / 3
    assert found.tight.tolist() == [2, 0, 4, 2]


def test_a_scaled_box_fills_its_part_of_the_paste():
    mine, theirs = painter.resizemix((4, 4), (6, 8), (1, 1, 3, 4))
    found = seen(theirs, box=(4, 0, 8, 6))
    assert found.weight == 1
    assert found.wholly
    assert found.tight.tolist() == [2, 1, 3, 4]
    assert theirs.view.scale == (0.25, 0.5)
    assert seen(mine, box=(0, 0, 4, 4)).weight == 10 / 16


def test_fmix_follows_its_mask():
    mask = np.array([[True, False], [True, True]])
    mine, theirs = painter.fmix((2, 2), (2, 2), mask)
    assert seen(mine, box=(0, 0, 2, 1)).weight == 0.5
    assert seen(theirs, box=(0, 0, 2, 1)).tight.tolist() == [1, 0, 2, 1]


def test_what_is_pasted_lies_on_both_images_and_where_the_mask_is_false():
    mask = np.ones((3, 4), dtype=bool)
    mask[1:, 1:] = False
    mine, theirs = painter.pasted((2, 4), (3, 3), mask)
    assert theirs.share.tolist() == [[0, 0, 0, 0], [0, 1, 1, 0]]
    assert mine.share.tolist() == [[1, 1, 1, 1], [1, 0, 0, 1]]
    assert seen(theirs, box=(1, 1, 3, 3)).weight == 0.5
    assert seen(theirs, box=(0, 0, 1, 1)) is None


def test_a_mosaic_lays_each_with_its_inner_corner_at_the_centre():
    sizes = [(2, 3), (1, 2), (4, 1), (3, 9)]
    parts = painter.mosaic(*sizes, centre=(4, 3), canvas=(6, 8))
    shown = [np.argwhere(part.share) for part in parts]
    ends = [(*rows.min(0), *(rows.max(0) + 1)) for rows in shown]  # top, left, bottom, right
    assert ends == [(1, 1, 3, 4), (2, 4, 3, 6), (3, 3, 6, 4), (3, 4, 6, 8)]
    assert [part.share.sum() for part in parts] == [6, 2, 3, 12]
    assert [part.view.box[:2] for part in parts] == [(1, 1), (4, 2), (3, 3), (4, 3)]
    assert painter.shares(parts) == [6 / 23, 2 / 23, 3 / 23, 12 / 23]


def test_what_a_mosaic_crops_on_the_left_and_above_counts_below_the_line():
    first = painter.mosaic((4, 4), (4, 4), (4, 4), (4, 4), centre=(2, 1))[0]
    assert first.view.box == (-2, -3, 2, 1)
    found = seen(first, box=(1, 2, 4, 4))
    assert found.weight == 2 / 6
    assert found.tight.tolist() == [0, 0, 2, 1]
    assert not found.wholly
    mask = np.zeros((4, 4), dtype=bool)
    mask[3, 2:] = True
    found = seen(first, mask=mask)
    assert (found.weight, found.wholly) == (1, True)
    assert found.tight.tolist() == [0, 0, 2, 1]
    assert painter.visible_mask(first, mask).nonzero()[1].tolist() == [0, 1]
    assert seen(first, box=(0, 0, 2, 4)) is None


def test_a_mosaic_with_its_centre_on_the_far_corner_is_no_mosaic():
    parts = painter.mosaic((2, 3), (1, 2), (4, 1), (3, 9), centre=(8, 6), canvas=(6, 8))
    assert parts[0].share.tolist() == [[1] * 3] * 2
    assert not any(part.share.any() for part in parts[1:])
    assert not parts[0].view.moves


@pytest.mark.parametrize("length", [1, 5])
def test_images_one_pixel_high(length):
    found = seen(own((1, length), hole=(0, 0, 0, 1)), box=(0, 0, length, 1))
    assert (found.weight, found.wholly) == (1, True)
    if length > 1:
        found = seen(own((1, length), hole=(1, 0, length, 1)), box=(0, 0, length, 1))
        assert found.weight == 1 / length
        assert found.tight.tolist() == [0, 0, 1, 1]


# Masks


def test_a_mask_with_a_hole_counts_only_its_own_pixels():
    mask = np.ones((4, 4), dtype=bool)
    mask[1:3, 1:3] = False
    found = seen(own((4, 4), hole=(0, 0, 4, 1)), mask=mask)
    assert found.weight == 8 / 12
    assert found.tight.tolist() == [0, 1, 4, 4]
    assert seen(own((4, 4), hole=(1, 1, 3, 3)), mask=mask).wholly


def test_a_mask_comes_before_its_box():
    mask = np.zeros((4, 4), dtype=bool)
    mask[0, 0] = mask[3, 3] = True
    found = seen(own((4, 4), hole=(0, 0, 2, 2)), mask=mask, box=(0, 0, 4, 4))
    assert found.weight == 0.5
    assert found.tight.tolist() == [3, 3, 4, 4]


def test_an_empty_mask_is_invisible():
    assert seen(own((2, 2)), mask=np.zeros((2, 2), dtype=bool), box=(0, 0, 2, 2)) is None


def test_a_mask_is_scaled_to_the_nearest_pixel():
    view = View((4, 4), (1, 0, 3, 2))
    plane = np.arange(16).reshape(4, 4)
    # The centres of a 2 × 2 paste hit rows and columns 1 and 3.
    assert view.nearest(plane, (2, 4)).tolist() == [[0, 5, 7, 0], [0, 13, 15, 0]]
    thin = np.zeros((4, 4), dtype=bool)
    thin[0] = True
    part = painter.resizemix((2, 4), (4, 4), (1, 0, 3, 2))[1]
    assert seen(part, mask=thin) is None
    assert painter.visible_mask(part, ~thin).sum() == 4


# Keypoints


def test_a_keypoint_has_the_weight_of_its_pixel():
    part = own((4, 4), hole=(2, 0, 4, 4))
    points = [(0, 0), (1.99, 3.99), (2, 1), (-0.1, 1), (1, 4), (4, 0)]
    assert painter.point_weights(part, points).tolist() == [1, 1, 0, 0, 0, 0]


def test_a_keypoint_off_its_own_image_weighs_nothing_on_a_larger_canvas():
    part = painter.mixup((2, 2), (4, 4), 0.25)[0]
    assert painter.point_weights(part, [(1, 1), (3, 3)]).tolist() == [0.25, 0]


def test_a_keypoint_off_the_canvas_weighs_nothing():
    part = painter.cutmix((2, 2), (4, 4), (0, 0, 2, 2))[1]
    assert painter.point_weights(part, [(1, 1), (3, 3)]).tolist() == [1, 0]


def test_a_keypoint_moves_with_its_image():
    part = painter.resizemix((4, 4), (8, 8), (2, 2, 4, 4))[1]
    assert part.view.points([(4, 6), (-4, 0)]).tolist() == [[3, 3.5], [1, 2]]
    assert painter.point_weights(part, [(4, 6), (-4, 0)]).tolist() == [1, 0]


# Rotated boxes


def test_a_diamond_is_half_of_the_square_around_it():
    diamond = [(2, 0), (4, 2), (2, 4), (0, 2)]
    cover = painter.cover_of_polygon(diamond, View.as_it_is((4, 4)), (4, 4))
    assert cover.tolist() == [
        [0, 0.5, 0.5, 0],
        [0.5, 1, 1, 0.5],
        [0.5, 1, 1, 0.5],
        [0, 0.5, 0.5, 0],
    ]
    found = seen(own((4, 4), hole=(0, 0, 1, 4)), corners=diamond)
    assert found.weight == 7 / 8


def test_a_polygon_over_the_edge_is_clipped_to_its_image_first():
    diamond = [(0, -2), (2, 0), (0, 2), (-2, 0)]
    found = seen(own((4, 4), hole=(1, 0, 4, 4)), corners=diamond)
    assert found.weight == 1.5 / 2
    assert seen(own((4, 4)), corners=np.add(diamond, 9)) is None


def test_a_polygon_is_scaled_with_its_image():
    part = painter.resizemix((4, 4), (4, 8), (0, 0, 4, 4))[1]
    found = seen(part, corners=[(4, 0), (8, 2), (4, 4), (0, 2)])
    assert found.weight == 1
    cover = painter.cover_of_polygon([(4, 0), (8, 2), (4, 4), (0, 2)], part.view, (4, 4))
    assert cover.sum() == 8


boxes = st.tuples(
    *[st.integers(-8, 24).map(lambda n: n / 4)] * 2, *[st.integers(0, 24).map(lambda n: n / 4)] * 2
)


@given(boxes)
def test_a_rectangle_is_the_same_as_a_polygon(box):
    x, y, width, height = box
    view = View((5, 6), (1, 1, 4, 3))
    corners = painter.corners_of((*box, 0), "XYWHR")
    np.testing.assert_allclose(
        painter.cover_of_polygon(corners, view, (5, 6)),
        painter.cover_of_box((x, y, x + width, y + height), view, (5, 6)),
        atol=1e-12,
    )


@given(boxes, st.floats(-180, 180))
def test_a_polygon_covers_what_a_fine_grid_says(box, angle):
    corners = painter.corners_of((*box, angle), "CXCYWHR")
    cover = painter.cover_of_polygon(corners, View.as_it_is((5, 6)), (5, 6))
    fine = 16
    y, x = (np.mgrid[: 5 * fine, : 6 * fine] + 0.5) / fine
    inside = np.ones_like(x, dtype=bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        inside &= (x2 - x1) * (y - y1) - (y2 - y1) * (x - x1) >= 0
    counted = inside.reshape(5, fine, 6, fine).mean((1, 3))
    if min(box[2:]) > 0:
        np.testing.assert_allclose(cover, counted, atol=4 / fine)


@pytest.mark.parametrize("form", ["XYWHR", "CXCYWHR"])
@given(box=boxes, angle=st.floats(-180, 180, width=32))
def test_corners_are_those_of_torchvision(form, box, angle):
    boxes = torch.tensor([[*box, angle]], dtype=torch.float64)
    expected = F.convert_bounding_box_format(boxes, old_format=form, new_format="XYXYXYXY")
    found = painter.corners_of(boxes[0].tolist(), form)
    np.testing.assert_allclose(found, expected.view(4, 2).numpy(), atol=1e-6)


# Pixels


def test_pixels_are_the_sum_of_the_parts_and_an_uncovered_corner_is_zero():
    parts = painter.mixup((1, 2), (2, 1), 0.25)
    images = np.full((1, 1, 2), 4.0), np.full((1, 2, 1), 8.0)
    assert painter.mixed_pixels(parts, images).tolist() == [[[7, 4], [8, 0]]]


@given(st.integers(1, 9), st.integers(1, 9))
def test_the_triangle_filter_is_torchs(before, after):
    image = torch.rand(1, 1, before, 3, dtype=torch.float64)
    expected = torch.nn.functional.interpolate(image, (after, 3), mode="bilinear", antialias=True)
    found = painter.triangles(before, after) @ image[0, 0].numpy()
    np.testing.assert_allclose(found, expected[0, 0].numpy(), atol=1e-12)
