import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torchvision.transforms import v2

from mixup_transforms import functional
from tests.cases import KERNELS, every_kernel, partners_for
from tests.strategies import generator_of, images, lams, seeds


def plain_mixup(x, partner, lam):
    """The definition, one number at a time, in Python's own arithmetic."""
    out = x.clone().double()
    for i, j in enumerate(partner.tolist()):
        weight = lam[i].item()
        own, other = x[i].flatten().tolist(), x[j].flatten().tolist()
        mixed = [weight * a + (1 - weight) * b for a, b in zip(own, other, strict=True)]
        out[i] = torch.tensor(mixed, dtype=torch.float64).view(x[i].shape)
    return out


@given(
    x=images(dtypes=(torch.float32, torch.float64), min_batch=1),
    lam=st.lists(lams, min_size=6, max_size=6),
    seed=seeds,
)
def test_mixup_is_its_definition(x, lam, seed):
    partner = torch.randint(len(x), (len(x),), generator=generator_of(seed))
    lam = torch.tensor(lam[: len(x)])
    expected = plain_mixup(x, partner, lam)
    torch.testing.assert_close(
        functional.mixup(x, partner, lam).double(), expected, rtol=1e-5, atol=1e-4
    )


GEOMETRY = {
    "lam": torch.tensor([0.25, 0.5, 0.75]),
    "box": torch.tensor([[1, 0, 4, 2], [0, 1, 2, 3], [2, 2, 5, 4]]),
    "mask": torch.ones(3, 4, 5, dtype=torch.bool).triu(),
    "centre": torch.tensor([[2, 1], [3, 3], [1, 2]]),
}


@every_kernel
def test_only_in_place_is_an_input_written(name, path):
    kernel, geometry = KERNELS[name]
    x, partner = torch.rand(3, 2, 4, 5), partners_for(name, torch.tensor([2, 0, 1]))
    before = x.clone()
    mixed = kernel(x, partner, GEOMETRY[geometry])
    assert torch.equal(x, before)
    assert not torch.equal(mixed, before)
    assert kernel(x, partner, GEOMETRY[geometry], inplace=True) is x
    assert torch.equal(x, mixed)


def test_a_second_batch_of_single_numbers():
    own, others = torch.zeros(2), torch.tensor([1.0, 2.0, 3.0])
    mixed = functional.mixup(own, torch.tensor([2, 0]), torch.tensor([0.5, 0.0]), others=others)
    assert mixed.tolist() == [1.5, 1.0]


def test_a_stride_of_a_single_element_means_nothing():
    x = torch.rand(64).as_strided((4, 1, 8), (16, 0, 1))
    expected = functional.mixup(x, torch.tensor([1, 2, 3, 0]), torch.full((4,), 0.25))
    functional.mixup(x, torch.tensor([1, 2, 3, 0]), torch.full((4,), 0.25), inplace=True)
    assert torch.equal(x, expected)


@every_kernel
@pytest.mark.parametrize("wanted", [0, 1], ids=["own", "others"])
def test_either_batch_alone_may_want_its_gradient(name, wanted, path):
    kernel, geometry = KERNELS[name]
    batches = torch.rand(3, 2, 4, 5), torch.rand(3, 2, 4, 5)
    batches[wanted].requires_grad_()
    partner = partners_for(name, torch.tensor([2, 0, 1]))
    kernel(batches[0], partner, GEOMETRY[geometry], others=batches[1]).sum().backward()
    assert 0 < batches[wanted].grad.sum() < batches[wanted].numel()


def test_labels_are_written_only_in_place():
    labels, partner, lam = torch.eye(3), torch.tensor([2, 0, 1]), torch.tensor([0.25, 0.5, 1.0])
    mixed = functional.mix_labels(labels, partner, lam)
    assert torch.equal(labels, torch.eye(3))
    assert functional.mix_labels(labels, partner, lam, inplace=True) is labels
    assert torch.equal(labels, mixed)


def test_sixteen_bits_are_mixed_in_float32(path):
    x = torch.tensor([[30001], [30000]])
    lam = torch.tensor([0.5 + 2.0**-24, 1])  # the midpoint, but for float32 alone
    rounded = {torch.int16: 30000, torch.int32: 30001}
    for dtype, expected in rounded.items():
        assert functional.mixup(x.to(dtype), torch.tensor([1, 0]), lam)[0] == expected


def test_integers_round_to_nearest_even(path):
    x = torch.tensor([[0, 2, 253], [1, 3, 254]], dtype=torch.uint8)
    mixed = functional.mixup(x, torch.tensor([1, 0]), torch.tensor([0.5, 0.5]))
    assert mixed.tolist() == [[0, 2, 254]] * 2


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_wide_integers_do_not_overflow(dtype, path):
    x = torch.tensor([[2**31 - 1], [2**31 - 3]], dtype=dtype)
    mixed = functional.mixup(x, torch.tensor([1, 0]), torch.tensor([0.5, 0.9]))
    assert mixed.tolist() == [[2**31 - 2], [2**31 - 3]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_mixed_in_float32(dtype):
    x = torch.randn(4, 1000).to(dtype)
    partner, lam = torch.tensor([1, 2, 3, 0]), torch.rand(4)
    expected = functional.mixup(x.float(), partner, lam).to(dtype)
    assert torch.equal(functional.mixup(x, partner, lam), expected)


def test_lam_zero_is_the_partner_bit_for_bit():
    x = torch.tensor([[torch.nan, torch.inf], [-0.0, 2.0]])
    mixed = functional.mixup(x, torch.tensor([1, 1]), torch.tensor([0.0, 1.0]))
    assert mixed.tolist() == [[-0.0, 2.0], [-0.0, 2.0]]
    assert torch.signbit(mixed[:, 0]).all()


def test_parity_with_torchvision(monkeypatch):
    x, labels = torch.rand(8, 3, 5, 7), torch.randint(0, 10, (8,))
    theirs = v2.MixUp(alpha=1.0, num_classes=10)
    monkeypatch.setattr(theirs, "make_params", lambda flat_inputs: {"lam": 0.3})
    expected, expected_labels = theirs(x, labels)
    partner, lam = torch.arange(8).roll(1), torch.full((8,), 0.3)
    torch.testing.assert_close(functional.mixup(x, partner, lam), expected)
    torch.testing.assert_close(
        functional.mix_labels(functional.one_hot(labels, 10), partner, lam), expected_labels
    )


@pytest.mark.parametrize("dims", [(), (5,), (4, 6)])
@pytest.mark.parametrize("epsilon", [0.0, 0.1, 0.9])
def test_one_hot_is_what_cross_entropy_smooths_to(dims, epsilon):
    labels, logits = torch.randint(0, 3, (7, *dims)), torch.randn(7, 3, *dims)
    rows = functional.one_hot(labels, 3, label_smoothing=epsilon)
    torch.testing.assert_close(
        F.cross_entropy(logits, rows), F.cross_entropy(logits, labels, label_smoothing=epsilon)
    )
    torch.testing.assert_close(rows.sum(1), torch.ones(7, *dims))


@given(
    labels=st.lists(st.integers(0, 4), max_size=6),
    epsilon=st.floats(0, 1, exclude_max=True),
    dtype=st.sampled_from([torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]),
)
def test_one_hot_is_its_definition(labels, epsilon, dtype):
    rows = functional.one_hot(torch.tensor(labels, dtype=dtype), 5, label_smoothing=epsilon)
    assert rows.dtype == torch.float32
    expected = [
        [1 - epsilon + epsilon / 5 if k == label else epsilon / 5 for k in range(5)]
        for label in labels
    ]
    torch.testing.assert_close(rows, torch.tensor(expected).view(-1, 5))


@pytest.mark.parametrize("ignore_index", [255, -100])
def test_ignored_positions_have_no_weight_and_no_gradient(ignore_index):
    labels = torch.tensor([[0, ignore_index], [2, 1]])
    rows = functional.one_hot(labels, 3, label_smoothing=0.1, ignore_index=ignore_index)
    assert (rows[0, :, 1] == 0).all()
    logits = torch.randn(2, 3, 2, requires_grad=True)
    F.cross_entropy(logits, rows, reduction="sum").backward()
    assert (logits.grad[0, :, 1] == 0).all()
    assert (logits.grad[0, :, 0] != 0).all()


def test_kernels_compile_without_a_break():
    torch._dynamo.reset()
    mix = torch.compile(functional.mixup, fullgraph=True, backend="eager")
    x, partner, lam = torch.rand(4, 6), torch.tensor([1, 2, 3, 0]), torch.tensor([0.2, 1, 0, 0.7])
    assert torch.equal(mix(x, partner, lam), functional.mixup(x, partner, lam))
    one_hot = torch.compile(functional.one_hot, fullgraph=True, backend="eager")
    rows = one_hot(torch.tensor([0, 5, 2]), 3)
    assert torch.equal(rows[[0, 2]], torch.eye(3)[[0, 2]])
    assert rows[1].isnan().all()


PARTNER, LAM = torch.tensor([1, 0]), torch.tensor([0.5, 0.5])
X = torch.rand(2, 3)

bad_pairs = [
    (torch.tensor([2, 0]), LAM, ValueError, "partner must hold .* got 2"),
    (torch.tensor([1, -1]), LAM, ValueError, "partner must hold .* got -1"),
    (torch.tensor([1]), LAM, ValueError, "partner must have shape"),
    (torch.tensor([1.0, 0.0]), LAM, TypeError, "partner must hold integer"),
    ([1, 0], LAM, TypeError, "partner must be a tensor"),
    (PARTNER, torch.tensor([0.5, 1.5]), ValueError, "lam must lie .* got 1.5"),
    (PARTNER, torch.tensor([0.5, -0.1]), ValueError, "lam must lie .* got -0.1"),
    (PARTNER, torch.tensor([0.5, torch.nan]), ValueError, "lam must lie .* got nan"),
    (PARTNER, torch.tensor([0.5]), ValueError, "lam must have shape"),
    (PARTNER, torch.tensor([[0.5], [0.5]]), ValueError, "lam must have shape"),
    (PARTNER, torch.tensor([1, 0]), TypeError, "lam must be floating"),
    (PARTNER, 0.5, TypeError, "lam must be a tensor"),
]


@pytest.mark.parametrize(("partner", "lam", "error", "message"), bad_pairs)
def test_bad_pairs(partner, lam, error, message):
    for kernel in (functional.mixup, functional.mix_labels):
        with pytest.raises(error, match=message):
            kernel(X, partner, lam)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.rand(2, 3, requires_grad=True), "is a leaf that requires grad"),
        (torch.rand(1, 3).expand(2, 3), "one memory location several times"),
        (torch.rand(8).as_strided((2, 3), (1, 1)), "one memory location several times"),
    ],
)
def test_in_place_targets_that_cannot_be_written(x, message):
    before = x.detach().clone()
    for kernel in (functional.mixup, functional.mix_labels):
        with pytest.raises(ValueError, match=message):
            kernel(x, PARTNER, LAM, inplace=True)
    assert torch.equal(x, before)
    assert torch.equal(functional.mixup(x, PARTNER, LAM), functional.mixup(before, PARTNER, LAM))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_two_given_batches(dtype):
    own, others = torch.rand(3, 2, 4).to(dtype), torch.rand(5, 2, 4).to(dtype)
    partner, lam = torch.tensor([4, 0, 0]), torch.tensor([0.3, 1.0, 0.0])
    mixed = functional.mix_labels(own, partner, lam, others=others)
    assert mixed.dtype == torch.float32
    expected = 0.3 * own[0].float() + 0.7 * others[4].float()
    torch.testing.assert_close(mixed[0], expected)
    assert torch.equal(mixed[1], own[1].float())
    assert torch.equal(mixed[2], others[0].float())


# Mosaic


def test_a_mosaic_of_a_second_batch_on_a_canvas_of_another_size(path):
    own = torch.tensor([[[1, 2, 3], [4, 5, 6]]])
    others = torch.tensor([[[10] * 3] * 2, [[20] * 3] * 2, [[30] * 3] * 2])
    mixed = functional.mosaic(
        own, torch.tensor([[2, 0, 1]]), torch.tensor([[2, 1]]), others=others, size=(4, 6)
    )
    assert mixed.tolist() == [
        [
            [5, 6, 30, 30, 30, 0],
            [10, 10, 20, 20, 20, 0],
            [10, 10, 20, 20, 20, 0],
            [0, 0, 0, 0, 0, 0],
        ]
    ]
    share = functional.quadrant_share(torch.tensor([[2, 1]]), 2, 3, size=(4, 6))
    torch.testing.assert_close(share, torch.tensor([[2, 3, 4, 6]]) / 15)


@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    canvas=st.one_of(st.none(), st.tuples(st.integers(1, 12), st.integers(1, 12))),
    seed=seeds,
)
def test_quadrant_shares_are_those_of_the_pixels_shown(size, canvas, seed):
    height, width = canvas or size
    generator = generator_of(seed)
    x = torch.randint(width + 1, (5,), generator=generator)
    y = torch.randint(height + 1, (5,), generator=generator)
    centre = torch.stack((x, y), 1)
    colours = torch.arange(1, 5).view(4, 1, 1).expand(4, *size)
    own, others, partner = colours[:1].expand(5, *size), colours[1:], torch.tensor([[0, 1, 2]] * 5)
    mixed = functional.mosaic(own, partner, centre, others=others, size=canvas)
    share = functional.quadrant_share(centre, *size, size=canvas)
    for shown, found in zip(mixed, share, strict=True):
        counts = shown.flatten().bincount(minlength=5)[1:]
        torch.testing.assert_close(found, counts / counts.sum())


MOSAIC = (torch.rand(4, 3, 6, 8), torch.tensor([[1, 2, 3]] * 4), torch.tensor([[4, 3]] * 4))


@pytest.mark.parametrize(
    ("changed", "options", "error", "message"),
    [
        ({0: torch.rand(4, 8)}, {}, ValueError, r"images must have shape \(B, …, H, W\)"),
        ({0: torch.rand(4, 3, 0, 8)}, {}, ValueError, "at least one pixel"),
        ({1: torch.tensor([1, 2, 3, 0])}, {}, ValueError, r"partner must have shape \(4, 3\)"),
        ({1: torch.tensor([[1, 2, 4]] * 4)}, {}, ValueError, "partner must hold .* got 4"),
        ({1: torch.rand(4, 3)}, {}, TypeError, "partner must hold integer"),
        ({2: torch.rand(4, 2)}, {}, TypeError, "centre must hold integer pixels"),
        ({2: torch.tensor([[4, 3]])}, {}, ValueError, r"centre must have shape \(4, 2\)"),
        ({2: torch.tensor([[9, 3]] * 4)}, {}, ValueError, r"got \[9, 3\] for sample 0"),
        ({2: torch.tensor([[4, 7]] * 4)}, {}, ValueError, r"got \[4, 7\] for sample 0"),
        ({2: [4, 3]}, {}, TypeError, "centre must be a tensor"),
        ({}, {"size": (3, 2), "inplace": False}, ValueError, r"got \[4, 3\] for sample 0"),
        ({}, {"size": 12}, TypeError, "size must be a pair"),
        ({}, {"size": (12, 0)}, ValueError, r"size must be a pair .* at least 1, got \(12, 0\)"),
        ({}, {"size": (12, 16), "inplace": True}, ValueError, r"size must be .* \(6, 8\), got"),
        ({}, {"others": torch.rand(4, 3, 6, 9)}, ValueError, "others must be a batch like"),
    ],
)
def test_bad_mosaics(changed, options, error, message):
    arguments = [changed.get(i, given) for i, given in enumerate(MOSAIC)]
    before = MOSAIC[0].clone()
    with pytest.raises(error, match=message):
        functional.mosaic(*arguments, **{"inplace": True, **options})
    assert torch.equal(MOSAIC[0], before)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((torch.tensor([4, 3]), 6, 8), ValueError, r"centre must have shape \(2, 2\)"),
        ((torch.tensor([[9, 3]]), 6, 8), ValueError, r"got \[9, 3\] for sample 0"),
        ((torch.tensor([[4, 3]]), 6.0, 8), TypeError, "height must be an integer"),
        ((torch.tensor([[4, 3]]), 6, 0), ValueError, "width must be at least 1"),
        (([[4, 3]], 6, 8), TypeError, "centre must be a tensor"),
    ],
)
def test_bad_centres(arguments, error, message):
    with pytest.raises(error, match=message):
        functional.quadrant_share(*arguments)


@every_kernel
def test_autograd_hears_of_what_is_written_in_place(name):
    kernel, geometry = KERNELS[name]
    x, weight = torch.rand(3, 2, 4, 5), torch.ones(1, requires_grad=True)
    product = (x * weight).sum()
    kernel(x, partners_for(name, torch.tensor([2, 0, 1])), GEOMETRY[geometry], inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()
