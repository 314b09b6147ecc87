"""Parity with other libraries, by injecting what they draw: never by matching seeds.

timm and kornia are in the extra ``peers``; a peer that is not installed is skipped.
"""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close, make_tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import OneHot, RandomCutMix, RandomMixup

BATCH, CLASSES, DRAWS = 6, 10, 10
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
SHAPES = [(3, 5, 7), (1, 16, 4), (2, 9, 31)]


@pytest.fixture
def timm():
    return pytest.importorskip("timm.data.mixup")


@pytest.fixture
def kornia():
    return pytest.importorskip("kornia.augmentation")


def from_torchvision(params):
    """One λ or box for the batch; the partner is the sample before."""
    geometry = "box" if "box" in params else "lam"
    partner = torch.arange(BATCH).roll(1)
    return {"partner": partner, geometry: torch.tensor([params[geometry]] * BATCH)}


def from_timm(**geometry):
    """One λ or box for the batch; the partner is the sample as far from the other end."""
    partner = torch.arange(BATCH).flip(0)
    return {"partner": partner, **{k: torch.tensor([v] * BATCH) for k, v in geometry.items()}}


def from_kornia(params):
    """Mixup's λ weights the partner; corners are (x, y), clockwise, and all within the box."""
    if "mixup_lambdas" in params:
        return {"partner": params["mixup_pairs"], "lam": 1 - params["mixup_lambdas"]}
    top_left, _, bottom_right, _ = params["crop_src"][0].long().unbind(1)
    box = torch.cat((top_left, bottom_right + 1), dim=1)
    return {"partner": params["mix_pairs"][0], "box": box}


def soft(own, partner, own_share):
    """Spell out what two class indices and a share mean."""
    own, partner = (F.one_hot(indices.long(), CLASSES) for indices in (own, partner))
    return own_share[:, None] * own + (1 - own_share[:, None]) * partner


def freeze_params(monkeypatch, theirs, x):
    """Let torchvision draw once, and give the same again when it is called."""
    params = theirs.make_params([x])
    monkeypatch.setattr(theirs, "make_params", lambda flat_inputs: params)
    return params


@pytest.fixture(params=["index", torch.float32, torch.float64], ids=str)
def labels(request):
    if request.param == "index":
        return torch.randint(CLASSES, (BATCH,))
    return torch.rand(BATCH, CLASSES, dtype=request.param)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, *FLOATS])
@pytest.mark.parametrize("shape", [*SHAPES, (2, 3, 6, 11)])
def test_torchvision_cutmix(shape, dtype, labels, monkeypatch):
    x = make_tensor(BATCH, *shape, dtype=dtype, device="cpu")
    x = tv_tensors.Video(x) if x.ndim == 5 else x
    for _ in range(DRAWS):
        theirs = v2.CutMix(num_classes=CLASSES)
        params = from_torchvision(freeze_params(monkeypatch, theirs, x))
        expected, expected_labels = theirs(x, labels)
        mixed, mixed_labels = RandomCutMix(num_classes=CLASSES).replay(params, x, labels)
        assert type(mixed) is type(expected)
        assert torch.equal(mixed, expected)
        # Their λ is a float64; ours is the float32 next to it.
        assert_close(mixed_labels, expected_labels, rtol=0, atol=2**-23)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_torchvision_mixup(shape, dtype, labels, monkeypatch):
    x = torch.rand(BATCH, *shape).to(dtype)
    for _ in range(DRAWS):
        theirs = v2.MixUp(num_classes=CLASSES)
        params = from_torchvision(freeze_params(monkeypatch, theirs, x))
        expected, expected_labels = theirs(x, labels)
        mixed, mixed_labels = RandomMixup(num_classes=CLASSES).replay(params, x, labels)
        # They round three times in the image's dtype, we once; λ is as above.
        assert_close(mixed, expected, rtol=0, atol=max(torch.finfo(dtype).eps, 2**-23))
        assert_close(mixed_labels, expected_labels, rtol=0, atol=2**-23)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("lam", [0.0, 0.3, 0.8, 1.0])
def test_timm_mixup(lam, smoothing, timm, monkeypatch):
    x, labels = torch.rand(BATCH, 3, 5, 7), torch.randint(CLASSES, (BATCH,))
    theirs = timm.Mixup(label_smoothing=smoothing, num_classes=CLASSES)
    monkeypatch.setattr(theirs, "_params_per_batch", lambda: (lam, False))
    expected, expected_labels = theirs(x.clone(), labels)
    batch = OneHot(CLASSES, label_smoothing=smoothing)(x, labels)
    mixed, mixed_labels = RandomMixup().replay(from_timm(lam=lam), batch)
    assert_close(mixed, expected)
    assert_close(mixed_labels, expected_labels)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    "box", [(2, 1, 6, 4), (0, 0, 3, 2), (4, 0, 7, 5), (0, 0, 7, 5), (3, 2, 3, 4)], ids=str
)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32])
def test_timm_cutmix(dtype, box, smoothing, timm, monkeypatch):
    x = make_tensor(BATCH, 3, 5, 7, dtype=dtype, device="cpu")
    labels = torch.randint(CLASSES, (BATCH,))
    x1, y1, x2, y2 = box
    theirs = timm.Mixup(label_smoothing=smoothing, num_classes=CLASSES)
    monkeypatch.setattr(theirs, "_params_per_batch", lambda: (0.5, True))
    monkeypatch.setattr(timm, "rand_bbox", lambda *args, **settings: (y1, y2, x1, x2))
    expected, expected_labels = theirs(x.clone(), labels)
    batch = OneHot(CLASSES, label_smoothing=smoothing)(x, labels)
    mixed, mixed_labels = RandomCutMix().replay(from_timm(box=box), batch)
    assert torch.equal(mixed, expected)
    assert_close(mixed_labels, expected_labels)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_kornia_mixup(shape, dtype, kornia):
    x, labels = torch.rand(BATCH, *shape, dtype=dtype), torch.randint(CLASSES, (BATCH,))
    theirs = kornia.RandomMixUpV2(data_keys=["input", "class"])
    for _ in range(DRAWS):
        expected, rows = theirs(x, labels)
        own, partner, partner_share = rows.unbind(-1)
        params = from_kornia(theirs._params)
        mixed, mixed_labels = RandomMixup(num_classes=CLASSES).replay(params, x, labels)
        assert_close(mixed, expected, rtol=0, atol=1e-6)
        expected_labels = soft(own, partner, 1 - partner_share)
        assert_close(mixed_labels, expected_labels, check_dtype=False, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_kornia_cutmix(shape, dtype, kornia):
    x = make_tensor(BATCH, *shape, dtype=dtype, device="cpu")
    labels = torch.randint(CLASSES, (BATCH,))
    theirs = kornia.RandomCutMixV2(data_keys=["input", "class"], use_correct_lambda=True)
    for _ in range(DRAWS):
        expected, rows = theirs(x, labels)
        own, partner, own_share = rows[0].unbind(-1)
        params = from_kornia(theirs._params)
        mixed, mixed_labels = RandomCutMix(num_classes=CLASSES).replay(params, x, labels)
        assert torch.equal(mixed, expected)
        expected_labels = soft(own, partner, own_share)
        assert_close(mixed_labels, expected_labels, check_dtype=False, rtol=0, atol=1e-6)


def pure_colours(dtype=torch.float32):
    """Sample i shows class i and nothing else: the mean of channel k is the truth on class k."""
    full = 1 if dtype.is_floating_point else 255
    images = (full * torch.eye(BATCH)).to(dtype)[..., None, None].expand(-1, -1, 5, 7)
    return images, torch.arange(BATCH)


def assert_labels_tell_the_truth(images, labels):
    full, rounding = (1, 1e-6) if images.is_floating_point() else (255, 0.5 / 255 + 1e-6)
    shown = images.double().mean(dim=(2, 3)) / full
    assert_close(labels.double(), shown, rtol=0, atol=rounding)


# kornia says so itself at every construction without use_correct_lambda.
@pytest.mark.filterwarnings("ignore:RandomCutMixV2 currently uses the old:DeprecationWarning")
def test_kornia_cutmix_by_default_gives_the_partners_weight_as_lam(kornia):
    theirs = kornia.RandomCutMixV2(data_keys=["input", "class"])
    for _ in range(DRAWS):
        images, labels = pure_colours()
        theirs(images, labels)
        mix = RandomCutMix(num_classes=BATCH)
        assert_labels_tell_the_truth(*mix.replay(from_kornia(theirs._params), images, labels))


def test_timm_mixup_of_single_uint8_images_cuts_lam_to_zero_in_the_labels(timm, monkeypatch):
    images, labels = pure_colours(torch.uint8)
    lam = torch.tensor([0.7, 0.4, 0.25, 0.9, 0.5, 0.05])
    mix = RandomMixup(num_classes=BATCH)
    mixed, mixed_labels = mix.replay({**from_timm(), "lam": lam}, images, labels)
    assert_labels_tell_the_truth(mixed, mixed_labels)
    # On the same images in float32 they are right.
    theirs = timm.Mixup(mode="elem", label_smoothing=0.0, num_classes=BATCH)
    lam_and_cutmix = lam.numpy(), torch.zeros(BATCH, dtype=torch.bool).numpy()
    monkeypatch.setattr(theirs, "_params_per_elem", lambda batch: lam_and_cutmix)
    expected, expected_labels = theirs(images.float(), labels)
    assert_close(mixed.float(), expected, rtol=0, atol=0.5 + 1e-4)
    assert_close(mixed_labels, expected_labels)
