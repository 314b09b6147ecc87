import pytest
import torch
from scipy import stats
from torchvision import tv_tensors
from torchvision.transforms import v2

from mixup_transforms import (
    OneHot,
    RandomChoice,
    RandomCutMix,
    RandomFMix,
    RandomMixup,
    RandomMosaic,
)
from tests.bits import same
from tests.strategies import generator_of, soft_labels


def pair(**settings):
    return [RandomMixup(num_classes=4, **settings), RandomCutMix(num_classes=4, **settings)]


X = torch.rand(400, 3, 5, 6)


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("p", [None, [0.2, 0.8], [1, 4], [0, 3]])
def test_frequencies(per_sample, p):
    mix = RandomChoice(pair(), weights=p, per_sample=per_sample, generator=generator_of(0))
    drawn = [mix.make_params([X])["choice"] for _ in range(5 if per_sample else 1500)]
    if not per_sample:
        assert all(len(choice.unique()) == 1 for choice in drawn)
        drawn = [choice[:1] for choice in drawn]
    counts = torch.cat(drawn).bincount(minlength=2)
    weights = torch.tensor([1.0, 1.0] if p is None else p)
    if weights.min() == 0:
        assert counts[0] == 0
    else:
        expected = weights / weights.sum() * counts.sum()
        assert (
            stats.chisquare(counts, expected.double() * counts.sum() / expected.sum()).pvalue > 1e-4
        )


def test_the_seed_repeats_mixers_without_a_generator_of_their_own():
    first, second = (RandomChoice(pair(), per_sample=True, generator=generator_of(3)) for _ in "ab")
    torch.manual_seed(1)
    a = [first(X, soft_labels(400))[0] for _ in range(3)]
    torch.manual_seed(2)
    b = [second(X, soft_labels(400))[0] for _ in range(3)]
    assert same(a, b)


def test_a_mixers_own_generator_is_honoured():
    def lam(own_seed):
        mixers = [RandomMixup(generator=generator_of(own_seed))]
        return RandomChoice(mixers, generator=generator_of(0)).make_params([X])["lam"]

    assert torch.equal(lam(1), lam(1))
    assert not torch.equal(lam(1), lam(2))


@pytest.mark.parametrize("per_sample", [False, True])
def test_the_amount_drawn_does_not_depend_on_the_choice(per_sample):
    states = set()
    for p in ([1, 0], [0, 1], [0.5, 0.5]):
        generator, own = generator_of(0), generator_of(1)
        mixers = [RandomMixup(), RandomFMix(generator=own)]
        RandomChoice(mixers, weights=p, per_sample=per_sample, generator=generator).make_params([X])
        states.add((generator.get_state().numpy().tobytes(), own.get_state().numpy().tobytes()))
    assert len(states) == 1


def test_per_sample_mixes_the_partners_original_pixels():
    mix = RandomChoice(pair(), per_sample=True, generator=generator_of(0))
    params = mix.make_params([X])
    mixed, _ = mix.replay(params, X, torch.randint(4, (400,)))
    assert set(params["choice"].tolist()) == {0, 1}
    for k, mixer in enumerate(mix.transforms):
        rows = params["choice"] == k
        alone = mixer.apply(X, params)
        assert torch.equal(mixed[rows], alone[rows])


@pytest.mark.parametrize("per_sample", [False, True])
def test_p_gates_whatever_is_chosen(per_sample):
    mixers = [RandomMixup(per_sample=False), RandomFMix()]
    mix = RandomChoice(mixers, per_sample=per_sample, generator=generator_of(0))
    mix.p = 0.0
    assert torch.equal(mix(X, soft_labels(400))[0], X)
    mixers = [RandomMixup(per_sample=False), RandomMixup()]
    mix = RandomChoice(mixers, per_sample=per_sample, generator=generator_of(0))
    mix.p = 0.3
    lam = torch.stack([mix.make_params([X[:40]])["lam"] for _ in range(400)])
    assert (lam != 1).double().mean().item() == pytest.approx(0.3, abs=0.07)
    if not per_sample:
        assert (lam == 1).all(1).sum() + (lam != 1).all(1).sum() == 400


def test_params_can_be_injected():
    mix = RandomChoice(pair(), per_sample=True)
    params = {
        "choice": torch.tensor([0, 1]),
        "partner": torch.tensor([1, 0]),
        "lam": torch.tensor([0.25, 0.99]),
        "box": torch.tensor([[9, 9, 9, 9], [0, 0, 3, 5]]),
    }
    x = torch.rand(2, 3, 5, 6)
    mixed, labels = mix.replay(params, x, torch.tensor([0, 1]))
    torch.testing.assert_close(mixed[0], 0.25 * x[0] + 0.75 * x[1])
    assert torch.equal(mixed[1, ..., :3], x[0, ..., :3])
    assert labels[:, :2].tolist() == [[0.25, 0.75], [0.5, 0.5]]
    with pytest.raises(ValueError, match="box must have one row"):
        mix.replay({**params, "box": params["box"][:1]}, x, torch.tensor([0, 1]))
    for choice, message in (
        (torch.tensor([0, 2]), "choice must hold"),
        (None, "have 'choice'"),
    ):
        wrong = {**params, "choice": choice}
        if choice is None:
            del wrong["choice"]
        with pytest.raises(ValueError, match=message):
            mix.replay(wrong, x, torch.tensor([0, 1]))


def test_state_dict_resumes_every_stream():
    def make(seed):
        mixers = [RandomMixup(), RandomCutMix(generator=generator_of(seed + 1))]
        return RandomChoice(mixers, per_sample=True, generator=generator_of(seed))

    mix, resumed = make(0), make(10)
    mix(X, soft_labels(400))
    resumed.load_state_dict(mix.state_dict())
    for _ in range(3):
        assert torch.equal(mix(X, soft_labels(400))[0], resumed(X, soft_labels(400))[0])


def test_masks_under_every_choice():
    image = tv_tensors.Image(torch.rand(8, 3, 5, 6))
    mask = OneHot(3)(tv_tensors.Mask(torch.randint(0, 3, (8, 5, 6))))
    for dtype in (torch.float32, torch.float16):
        for inplace in (False, True):
            mixers = [RandomMixup(inplace=inplace), RandomCutMix(inplace=inplace)]
            mix = RandomChoice(mixers, per_sample=True, generator=generator_of(0))
            given = tv_tensors.Mask(mask.to(dtype))
            mixed = mix(image.clone(), given.clone())[1]
            assert mixed.dtype == torch.float32
            torch.testing.assert_close(mixed.sum(1), torch.ones(8, 5, 6), atol=1e-3, rtol=0)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("make", [RandomMixup, RandomCutMix, RandomFMix, RandomMosaic])
def test_an_empty_batch_whichever_mixer_comes_first(make, inplace):
    mix = RandomChoice([make(num_classes=4, inplace=inplace), make(num_classes=4, inplace=inplace)])
    batch = X[:0], torch.empty(0, dtype=torch.int64)
    params = mix.make_params([X[:0]])
    for images, labels in (mix(*batch), mix.between(batch, batch), mix.replay(params, *batch)):
        assert (images is batch[0]) == inplace
        assert images.shape == X[:0].shape
        assert labels.shape == (0, 4)


def test_torchvisions_containers_work_around_ours():
    x, labels = torch.rand(8, 3, 5, 6), torch.randint(4, (8,))
    pipeline = v2.Compose(
        [
            OneHot(4),
            v2.RandomChoice([RandomMixup(), RandomCutMix()]),
            v2.RandomApply([RandomFMix()], p=0.5),
            RandomChoice([RandomMixup(), RandomFMix()], per_sample=True),
        ]
    )
    mixed, soft = pipeline(x, labels)
    assert mixed.shape == x.shape
    torch.testing.assert_close(soft.sum(1), torch.ones(8))


def test_repr():
    mix = RandomChoice([RandomMixup(), RandomCutMix()], weights=[1, 3], generator=generator_of(5))
    assert repr(mix).startswith(
        "RandomChoice(\n"
        "  weights=[0.25, 0.75], p=1.0, per_sample=False, generator=<cpu generator, seed 5>\n"
    )
    assert "(0): RandomMixup(alpha=1.0" in repr(mix)
    thirds = RandomChoice([RandomMixup(), RandomCutMix()], weights=[1, 2])
    assert repr(thirds).startswith(
        "RandomChoice(\n  weights=[0.3333, 0.6667], p=1.0, per_sample=False"
    )


def test_eval_draws_from_no_mixers_generator():
    generator = generator_of(0)
    mix = RandomChoice([RandomMixup(generator=generator), RandomCutMix()]).eval()
    state = generator.get_state()
    assert (mix.make_params([torch.rand(4, 3, 6, 6)])["lam"] == 1).all()
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([1.0], ValueError, "one for each of"),
        ([1, -1], ValueError, "not all 0"),
        ([0, 0], ValueError, "not all 0"),
        (["a", 1], TypeError, "weights must be a number"),
        (0.5, TypeError, "weights must be a list"),
        ("ab", TypeError, "weights must be a list"),
    ],
)
def test_bad_weights(weights, error, message):
    with pytest.raises(error, match=message):
        RandomChoice(pair(), weights=weights)
    mix = RandomChoice(pair())
    with pytest.raises(error, match=message):
        mix.weights = weights
    assert mix.weights == [0.5, 0.5]


def test_what_a_choice_drew_for_images_of_different_sizes_is_replayed():
    images = [torch.rand(3, 5 + i, 9 - i) for i in range(6)]
    mix, same = (
        RandomChoice([RandomMixup(), RandomCutMix()], per_sample=True, generator=generator_of(4))
        for _ in "ab"
    )
    params = mix.make_params([images, [{}] * 6])
    assert set(params["choice"].tolist()) == {0, 1}
    replayed, _ = mix.replay(params, images, [{}] * 6)
    called, _ = same(images, [{}] * 6)
    assert all(torch.equal(one, other) for one, other in zip(replayed, called, strict=True))


def test_p_is_the_gate_as_everywhere():
    mix = RandomChoice(pair(), weights=[0.25, 0.75], p=0.3, generator=generator_of(0))
    assert mix.p == 0.3
    lam = [mix.make_params([X])["lam"][0].item() != 1 for _ in range(2000)]
    assert sum(lam) / 2000 == pytest.approx(0.3, abs=0.04)
    with pytest.raises(TypeError, match="give weights="):
        RandomChoice(pair(), p=[0.25, 0.75])


@pytest.mark.parametrize("weights", [[1e308, 1e308], [1e-320, 1e-320], [10**300, 10**308]])
def test_weights_may_be_as_large_and_small_as_numbers_are(weights):
    mix = RandomChoice(pair(), weights=weights)
    assert sum(mix.weights) == pytest.approx(1)
    assert min(mix.weights) >= 0


def test_every_mixer_checks_the_batch():
    mix = RandomChoice([RandomMixup(), RandomCutMix()], weights=[1, 0])
    with pytest.raises(ValueError, match=r"\(B, …, H, W\)"):
        mix(torch.rand(4, 7), soft_labels(4))
    with pytest.raises(TypeError, match="to be mixed, got bool"):
        mix(torch.rand(4, 3, 5, 5) > 0.5, soft_labels(4))
