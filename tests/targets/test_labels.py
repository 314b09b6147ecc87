import pickle
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.utils._pytree import tree_map
from torch.utils.data import default_collate
from torchvision.transforms import v2

from mixup_transforms import (
    LabelMixture,
    MixtureLoss,
    OneHot,
    RandomChoice,
    RandomCutMix,
    RandomMixup,
    SampleLabels,
    ToLabelMixture,
    mixed_accuracy,
)
from mixup_transforms._core import classes, draws
from tests.strategies import generator_of, seeds

CLASSES = 5


def mixture_of(batch=6, k=3, seed=0):
    generator = generator_of(seed)
    classes = torch.randint(CLASSES, (batch, k), generator=generator)
    return LabelMixture(classes, torch.rand(batch, k, generator=generator).softmax(1))


def focal(output, target, gamma=2.0, reduction="mean"):
    losses = F.cross_entropy(output, target, reduction="none")
    losses = (1 - (-losses).exp()) ** gamma * losses
    return {"mean": losses.mean(), "sum": losses.sum(), "none": losses}[reduction]


# LabelMixture


@given(seed=seeds, k=st.integers(1, 6), epsilon=st.sampled_from([0.0, 0.1, 0.9]))
def test_dense_is_its_definition(seed, k, epsilon):
    mixture = mixture_of(k=k, seed=seed)
    expected = torch.full((6, CLASSES), epsilon / CLASSES)
    for i in range(6):
        for c, w in zip(mixture.classes[i], mixture.weights[i], strict=True):
            expected[i, c] += (1 - epsilon) * w
    torch.testing.assert_close(mixture.dense(CLASSES, epsilon), expected)


@pytest.mark.parametrize("make", [RandomMixup, RandomCutMix])
@pytest.mark.parametrize("inplace", [False, True])
def test_mixing_a_mixture_is_mixing_its_dense_form(make, inplace):
    x, labels = torch.rand(6, 3, 8, 9), torch.randint(CLASSES, (6,))

    def run(to_soft):
        chain = [to_soft, RandomCutMix(generator=generator_of(0), inplace=inplace)]
        chain += [make(generator=generator_of(1), p=0.7, inplace=inplace)]
        return v2.Compose(chain)(x.clone(), labels)

    images, mixture = run(ToLabelMixture())
    same_images, dense = run(OneHot(CLASSES))
    assert torch.equal(images, same_images)
    assert mixture.classes.shape == (6, 4)
    torch.testing.assert_close(mixture.dense(CLASSES), dense)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_classes_take_a_lam_of_any_floating_dtype(dtype):
    labels, partner = torch.tensor([2, 0, 1]), torch.tensor([1, 2, 0])
    lam = torch.tensor([0.25, 1.0, 0.5])  # which all of them hold
    rows = [
        classes.blend_classes(labels, partner, each, 3, others=None)
        for each in (lam.to(dtype), lam)
    ]
    assert torch.equal(*rows)


def test_mixtures_in_a_choice_a_dict_and_out_of_training():
    mix = RandomChoice([RandomMixup(), RandomCutMix()], per_sample=True)
    batch = {"labels": mixture_of(), "x": torch.rand(6, 3, 4, 4), "more": mixture_of()}
    out = mix(batch)
    assert out["labels"].classes.shape == (6, 6)
    assert out["more"] is batch["more"]
    torch.testing.assert_close(out["labels"].weights.sum(1), torch.ones(6))
    assert mix.eval()(batch)["labels"] is batch["labels"]
    for getter in ("more", lambda b: b["more"]):
        chosen = RandomMixup(labels_getter=getter)(batch)
        assert chosen["more"].classes.shape == (6, 6)
        assert chosen["labels"] is batch["labels"]


def test_the_whole_label_path_of_many_classes_is_small():
    labels = torch.randint(21_841, (1024,))
    _, mixture = v2.Compose([ToLabelMixture(), RandomMixup()])(torch.rand(1024, 2), labels)
    assert sum(t.numel() * t.element_size() for t in mixture) < 50_000
    output = torch.zeros(1024, 21_841)
    assert MixtureLoss(F.cross_entropy)(output, mixture).item() == pytest.approx(9.9916, abs=1e-3)


def test_a_mixture_survives_what_data_loaders_do():
    mixture = mixture_of()
    for copied in (
        pickle.loads(pickle.dumps(mixture)),
        tree_map(lambda t: t.to("cpu").clone(), mixture),
        default_collate([LabelMixture(c, w) for c, w in zip(*mixture, strict=True)]),
    ):
        assert type(copied) is LabelMixture
        assert torch.equal(copied.classes, mixture.classes)
        assert torch.equal(copied.weights, mixture.weights)
    stacked = default_collate([mixture, mixture])
    assert type(stacked) is LabelMixture
    assert stacked.classes.shape == (2, 6, 3)


@pytest.mark.parametrize(
    ("classes", "weights", "error", "message"),
    [
        ([[0, 1]], [[1.0]], ValueError, r"shape \(B, K\)"),
        ([[0], [1]], [[1.0]], ValueError, r"shape \(B, K\)"),
        ([0], [1.0], ValueError, r"shape \(B, K\)"),
        ([[]], [[]], TypeError, "classes of .* must be integers"),
        ([[0, 1]], [[1.5, -0.5]], ValueError, "weights of .* got -0.5"),
        ([[0, 1]], [[1.0, torch.nan]], ValueError, "weights of .* got nan"),
        ([[0, -1]], [[0.5, 0.5]], ValueError, "classes of .* got -1"),
        ([[0.0]], [[1.0]], TypeError, "classes of .* must be integers"),
        ([[0]], [[1]], TypeError, "weights of .* must be floating"),
    ],
)
def test_mixtures_that_disagree(classes, weights, error, message):
    mixture = LabelMixture(torch.tensor(classes), torch.tensor(weights))
    for use in (
        lambda: mixture.dense(CLASSES),
        lambda: MixtureLoss(F.cross_entropy)(torch.rand(1, CLASSES), mixture),
        lambda: mixed_accuracy(torch.rand(1, CLASSES), mixture),
        lambda: SampleLabels()(mixture),
        lambda: RandomMixup()(torch.rand(1, 3), mixture),
        lambda: ToLabelMixture()(mixture),
    ):
        with pytest.raises(error, match=message):
            use()


# MixtureLoss

weight = torch.tensor([0.1, 1.0, 2.0, 0.5, 3.0])


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}, {"weight": weight}], ids=str)
@pytest.mark.parametrize("form", ["function", "module"])
def test_soft_cross_entropy_value_and_gradient(reduction, settings, form):
    if form == "module":
        criterion = nn.CrossEntropyLoss(reduction=reduction, **settings)
    else:
        criterion = partial(F.cross_entropy, reduction=reduction, **settings)
    mixture = mixture_of()
    grads = []
    for target in (mixture, mixture.dense(CLASSES)):
        output = torch.randn(6, CLASSES, generator=generator_of(1)).requires_grad_()
        ours = MixtureLoss(criterion)(output, target)
        theirs = F.cross_entropy(output, mixture.dense(CLASSES), reduction=reduction, **settings)
        torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
        grads += [torch.autograd.grad(loss.sum(), output)[0] for loss in (ours, theirs)]
    for grad in grads[1:]:
        torch.testing.assert_close(grad, grads[0], atol=1e-6, rtol=1e-5)
    if form == "module":
        assert criterion.reduction == reduction


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_any_loss_that_takes_indices(reduction):
    output, mixture = torch.randn(6, CLASSES), mixture_of()
    expected = torch.stack(
        [
            sum(
                w * focal(output[i : i + 1], c[None])
                for c, w in zip(mixture.classes[i], mixture.weights[i], strict=True)
            )
            for i in range(6)
        ]
    )
    expected = {"mean": expected.mean(), "sum": expected.sum(), "none": expected}[reduction]
    loss = MixtureLoss(partial(focal, reduction=reduction))
    torch.testing.assert_close(loss(output, mixture), expected)
    torch.testing.assert_close(loss(output, mixture.dense(CLASSES)), expected)
    labels = torch.randint(CLASSES, (6,))
    torch.testing.assert_close(loss(output, labels), focal(output, labels, reduction=reduction))


def test_dense_targets_with_positions():
    output, target = torch.randn(2, CLASSES, 3, 4), torch.randn(2, CLASSES, 3, 4).softmax(1)
    torch.testing.assert_close(
        MixtureLoss(F.cross_entropy)(output, target), F.cross_entropy(output, target)
    )


def test_a_loss_without_a_reduction_setting():
    output, mixture = torch.randn(6, CLASSES), mixture_of()
    each = MixtureLoss(lambda o, c: F.cross_entropy(o, c, reduction="none"))(output, mixture)
    assert each.shape == (6,)
    with pytest.raises(ValueError, match="a loss for each sample"):
        MixtureLoss(lambda o, c: F.cross_entropy(o, c))(output, mixture)


def test_a_class_without_weight_may_have_an_infinite_loss():
    output = torch.tensor([[0.0, -torch.inf, 1.0]], requires_grad=True)
    loss = MixtureLoss(F.cross_entropy)(
        output, LabelMixture(torch.tensor([[0, 1]]), torch.tensor([[1.0, 0.0]]))
    )
    assert loss.isfinite()


# SampleLabels


@pytest.mark.parametrize("form", ["dense", "mixture", "tokens"])
def test_sampled_labels_are_unbiased(form):
    rows = torch.tensor([[0.0, 0.2, 0.5, 0.3], [1.0, 0.0, 0.0, 0.0]])
    soft = {
        "dense": rows,
        "mixture": LabelMixture(
            torch.tensor([[2, 1, 3, 2], [0, 1, 0, 0]]),
            torch.tensor([[0.25, 0.2, 0.3, 0.25], [0.5, 0.0, 0.0, 0.5]]),
        ),
        "tokens": rows.unsqueeze(2).expand(2, 4, 3),
    }[form]
    sample = SampleLabels(generator=generator_of(0))
    drawn = torch.stack([sample(soft) for _ in range(10_000)])
    assert drawn.dtype == torch.int64
    mean = F.one_hot(drawn, 4).double().mean(0)
    expected = rows.double() if form != "tokens" else rows.double().unsqueeze(1).expand(2, 3, 4)
    torch.testing.assert_close(mean, expected, atol=0.02, rtol=0)
    assert (mean[expected == 0] == 0).all()


def test_sampled_labels_in_a_pipeline_repeat():
    def run():
        sample = SampleLabels(generator=generator_of(1))
        mix = v2.Compose([OneHot(CLASSES), RandomMixup(generator=generator_of(0)), sample])
        return mix(torch.ones(64, 2), torch.arange(64) % CLASSES)[1]

    assert torch.equal(run(), run())
    assert not torch.equal(run(), torch.arange(64) % CLASSES)


def test_out_of_training_the_likeliest_class_is_taken():
    generator = generator_of(0)
    state = generator.get_state()
    sample = SampleLabels(generator=generator).eval()
    assert sample(torch.tensor([[0.4, 0.6]]).expand(50, 2)).tolist() == [1] * 50
    assert torch.equal(generator.get_state(), state)


@pytest.mark.parametrize("ignore_index", [-100, 255])
@pytest.mark.parametrize("training", [True, False])
def test_labels_without_weight_keep_the_ignore_index(ignore_index, training):
    sample = SampleLabels(ignore_index=ignore_index).train(training)
    assert sample(torch.tensor([[0.0, 1.0], [0.0, 0.0]])).tolist() == [1, ignore_index]
    mixture = LabelMixture(torch.tensor([[3], [4]]), torch.tensor([[1.0], [0.0]]))
    assert sample(mixture).tolist() == [3, ignore_index]


def test_state_dict_resumes_sampled_labels():
    soft = torch.full((50, 4), 0.25)
    sample, resumed = (
        SampleLabels(generator=generator_of(0)),
        SampleLabels(generator=generator_of(1)),
    )
    sample(soft)
    resumed.load_state_dict(sample.state_dict())
    assert torch.equal(sample(soft), resumed(soft))


# mixed_accuracy


def test_mixed_accuracy_of_every_form():
    output, mixture = torch.randn(6, CLASSES, generator=generator_of(2)), mixture_of()
    predicted = output.argmax(1)
    expected = sum(mixture.dense(CLASSES)[i, predicted[i]].item() for i in range(6)) / 6
    assert mixed_accuracy(output, mixture).item() == pytest.approx(expected, abs=1e-6)
    assert mixed_accuracy(output, mixture.dense(CLASSES)).item() == pytest.approx(
        expected, abs=1e-6
    )
    labels = torch.randint(CLASSES, (6,))
    plain = (predicted == labels).float().mean()
    assert mixed_accuracy(output, labels) == plain
    torch.testing.assert_close(mixed_accuracy(output, OneHot(CLASSES)(labels)), plain)


def test_a_draw_falls_on_no_class_without_weight(monkeypatch):
    monkeypatch.setattr(draws, "uniform", lambda *shape, generator: torch.zeros(shape))
    assert SampleLabels()(torch.tensor([[0.0, 0.0, 1.0]])).tolist() == [2]


def test_each_label_is_drawn_by_itself():
    drawn = SampleLabels(generator=generator_of(0))(torch.full((64, 2), 0.5))
    assert 16 < drawn.sum() < 48


def test_weights_that_do_not_quite_sum_to_one_are_scaled(monkeypatch):
    monkeypatch.setattr(draws, "uniform", lambda *shape, generator: torch.full(shape, 0.5))
    assert SampleLabels()(torch.tensor([[0.5003, 0.5005]])).tolist() == [1]


def test_a_loss_of_several_numbers_for_each_sample():
    output, mixture = torch.randn(6, CLASSES, dtype=torch.bfloat16), mixture_of()

    def errors(output, classes):
        return (output - F.one_hot(classes, CLASSES)).abs()

    loss = MixtureLoss(errors)(output, mixture)
    expected = sum(
        mixture.weights[:, k, None].bfloat16() * errors(output, mixture.classes[:, k])
        for k in range(3)
    )
    torch.testing.assert_close(loss, expected)


def test_a_dense_target_of_one_class():
    loss = MixtureLoss(F.cross_entropy)(torch.randn(4, 1), torch.ones(4, 1))
    assert loss == 0


def test_a_module_without_a_reduction_setting():
    class Hinge(nn.Module):
        def forward(self, output, classes):
            return F.multi_margin_loss(output, classes, reduction="none")

    output, mixture = torch.randn(6, CLASSES), mixture_of(k=1)
    expected = mixture.weights[:, 0] * Hinge()(output, mixture.classes[:, 0])
    torch.testing.assert_close(MixtureLoss(Hinge())(output, mixture), expected)


def test_mixtures_on_a_device_without_values():
    labels = torch.zeros(4, dtype=torch.int64, device="meta")
    _, mixed = v2.Compose([ToLabelMixture(), RandomMixup()])(torch.rand(4, 2).to("meta"), labels)
    assert [part.device.type for part in mixed] == ["meta", "meta"]
    assert [part.shape for part in mixed] == [(4, 2), (4, 2)]


def test_mixed_accuracy_of_many_half_precision_labels():
    rows = torch.ones(70_000, 1, dtype=torch.float16)
    assert mixed_accuracy(rows, rows) == 1


def test_mixed_accuracy_leaves_out_what_has_no_weight():
    output = torch.tensor([[[1.0, 1.0]], [[0.0, 0.0]]]).transpose(0, 1)  # predicts class 0
    target = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    assert mixed_accuracy(output, target) == 1
    assert mixed_accuracy(output, target * 0).isnan()


# Half precision


def test_mixed_accuracy_of_many_half_precision_mixtures():
    classes = torch.zeros(100_000, 1, dtype=torch.int64)
    mixture = LabelMixture(classes, torch.ones(100_000, 1, dtype=torch.float16))
    output = torch.tensor([[1.0, 0.0]]).expand(100_000, 2)
    assert mixed_accuracy(output, mixture) == 1
    bfloat16 = LabelMixture(classes, mixture.weights.bfloat16())
    assert mixed_accuracy(output, bfloat16) == 1
    assert mixed_accuracy(output.flip(1), mixture) == 0


@given(
    dtype=st.sampled_from([torch.bfloat16, torch.float16, torch.float32, torch.float64]),
    classes=st.sampled_from([1, 2, 7, 100, 1000, 50_257]),
    spread=st.sampled_from([0.0, 0.1, 1.0, 10.0]),
    seed=seeds,
)
def test_a_softmax_of_any_dtype_can_be_sampled(dtype, classes, spread, seed):
    logits = torch.randn(4, classes, generator=generator_of(seed)) * spread
    for rows in (logits.softmax(1).to(dtype), logits.to(dtype).softmax(1)):
        drawn = SampleLabels()(rows)
        assert (rows.gather(1, drawn.unsqueeze(1)) > 0).all()
        # Mixed, they are float32, and their sums no better.
        SampleLabels()(RandomMixup()(torch.rand(4, 2), rows)[1])


def test_the_most_that_bfloat16_loses_is_allowed_and_more_is_not():
    rows = torch.full((1, 255), 1 / 255, dtype=torch.bfloat16)
    assert rows.double().sum() - 1 > 0.0038
    SampleLabels()(rows)
    for off in (0.985, 1.015):
        with pytest.raises(ValueError, match="must sum to 1"):
            SampleLabels()(torch.tensor([[off, 0.0]]))


# What can index classes


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64], ids=str)
def test_unsigned_labels_are_class_indices_everywhere(dtype):
    x, labels = torch.rand(4, 3, 8, 8), torch.tensor([4, 0, 2, 2])
    unsigned, output = labels.to(dtype), torch.randn(4, CLASSES)
    for make in (RandomMixup, RandomCutMix):
        mixed = [
            make(num_classes=CLASSES, generator=generator_of(0))(x, y)[1]
            for y in (labels, unsigned)
        ]
        assert torch.equal(*mixed)
        assert torch.equal(
            make(num_classes=CLASSES).eval()(x, unsigned)[1], OneHot(CLASSES)(labels)
        )
    assert torch.equal(OneHot(CLASSES)(unsigned), OneHot(CLASSES)(labels))
    mask = unsigned.view(1, 2, 2)
    ignoring = OneHot(4, ignore_index=4)
    assert torch.equal(ignoring(mask), ignoring(mask.long()))
    assert torch.equal(ToLabelMixture()(unsigned).classes, ToLabelMixture()(labels).classes)
    mixture = LabelMixture(unsigned[:, None], torch.ones(4, 1))
    assert torch.equal(mixture.dense(CLASSES), OneHot(CLASSES)(labels))
    assert torch.equal(SampleLabels()(mixture), labels)
    assert RandomMixup()(x, mixture)[1].classes.dtype == torch.int64
    for target in (unsigned, mixture):
        assert mixed_accuracy(output, target) == mixed_accuracy(output, labels)
        torch.testing.assert_close(
            MixtureLoss(F.cross_entropy)(output, target), F.cross_entropy(output, labels)
        )


@pytest.mark.parametrize("value", [2**16 - 1, 2**32 - 1, 2**63, 2**64 - 1])
def test_unsigned_labels_out_of_range_are_named(value):
    dtype = {16: torch.uint16, 32: torch.uint32}.get(value.bit_length(), torch.uint64)
    labels = torch.tensor([1, value], dtype=dtype)
    for use in (OneHot(3), RandomMixup(num_classes=3)):
        with pytest.raises(ValueError, match=f"labels must lie .* got {value}$"):
            use(torch.rand(2, 2), labels)


# Cross entropy of dense targets at once


@st.composite
def cross_entropies(draw):
    settings = {
        "reduction": draw(st.sampled_from(["mean", "sum", "none"])),
        "label_smoothing": draw(st.sampled_from([0.0, 0.1, 0.9])),
        "ignore_index": draw(st.sampled_from([-100, 255, 0, CLASSES - 1])),
        "weight": draw(st.sampled_from([None, weight, torch.tensor([0.0, 1, 2, 0, 1])])),
    }
    form = draw(st.sampled_from([partial(partial, F.cross_entropy), nn.CrossEntropyLoss]))
    return form(**settings)


@given(
    criterion=cross_entropies(),
    dims=st.sampled_from([(), (3,), (2, 3)]),
    seed=seeds,
    sums=st.sampled_from(["one", "zero", "any"]),
)
def test_a_dense_target_at_once_is_the_sum_over_its_classes(criterion, dims, seed, sums):
    generator = generator_of(seed)
    target = torch.rand(4, CLASSES, *dims, generator=generator)
    if sums != "any":
        target = target.softmax(1)
    if sums == "zero":
        target[1:3] = 0
    results = []
    for loss_of in (criterion, hidden(criterion)):
        output = torch.randn(4, CLASSES, *dims, generator=generator_of(seed)).requires_grad_()
        soft = target.clone().requires_grad_()
        loss = MixtureLoss(loss_of)(output, soft)
        results.append((loss, *torch.autograd.grad(loss.sum(), (output, soft))))
    for ours, slow in zip(*results, strict=True):
        torch.testing.assert_close(ours, slow, atol=1e-5, rtol=1e-5)


def hidden(criterion):
    """The same loss, in a form that says nothing but its reduction."""
    settings = getattr(criterion, "keywords", None) or {
        name: getattr(criterion, name)
        for name in ("weight", "ignore_index", "label_smoothing", "reduction")
    }

    def loss(output, classes, reduction):
        return F.cross_entropy(output, classes, **{**settings, "reduction": reduction})

    return partial(loss, reduction=settings["reduction"])


def test_a_dense_target_is_not_taken_class_by_class(monkeypatch):
    monkeypatch.setattr(MixtureLoss, "_term", None)
    output, target = torch.randn(2, CLASSES, 3), torch.rand(2, CLASSES, 3)
    for criterion in (
        F.cross_entropy,
        partial(F.cross_entropy, weight=weight),
        partial(partial(F.cross_entropy, label_smoothing=0.1), reduction="sum"),
        nn.CrossEntropyLoss(weight=weight),
    ):
        assert MixtureLoss(criterion)(output, target).isfinite()


def test_a_cross_entropy_of_other_arguments_is_left_to_itself():
    output, target = torch.randn(4, CLASSES), torch.rand(4, CLASSES).softmax(1)
    loss = MixtureLoss(partial(F.cross_entropy, reduce=None))(output, target)
    torch.testing.assert_close(loss, F.cross_entropy(output, target))
    with pytest.raises(RuntimeError):
        MixtureLoss(partial(F.cross_entropy, output))(output, target)


def test_a_cross_entropy_that_is_another_is_left_to_itself():
    class Doubled(nn.CrossEntropyLoss):
        def forward(self, output, target):
            return 2 * super().forward(output, target)

    output, target = torch.randn(4, CLASSES), torch.rand(4, CLASSES).softmax(1)
    plain = F.cross_entropy(output, target)
    torch.testing.assert_close(MixtureLoss(Doubled())(output, target), 2 * plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_cross_entropy_of_half_precision_keeps_its_dtype(dtype):
    output = torch.randn(4, CLASSES, 3).to(dtype)
    target = torch.rand(4, CLASSES, 3).softmax(1)
    loss = MixtureLoss(F.cross_entropy)(output, target)
    assert loss.dtype == dtype
    expected = F.cross_entropy(output.double(), target.double())
    torch.testing.assert_close(loss.double(), expected, rtol=1e-2, atol=1e-2)
    with torch.autocast("cpu", dtype=dtype):
        own = F.cross_entropy(output, target.argmax(1))
        assert MixtureLoss(F.cross_entropy)(output, target).dtype == own.dtype


def test_a_masked_class_of_a_dense_target_has_no_loss():
    output = torch.tensor([[0.0, -torch.inf, 1.0]], requires_grad=True)
    loss = MixtureLoss(F.cross_entropy)(output, torch.tensor([[0.5, 0.0, 0.5]]))
    loss.backward()
    assert loss.isfinite()
    assert output.grad.isfinite().all()


def test_an_output_without_classes_takes_a_dense_target():
    def binary(output, classes):
        return F.binary_cross_entropy_with_logits(output, classes.float(), reduction="none")

    output, share = torch.randn(4), torch.rand(4)
    loss = MixtureLoss(binary)(output, torch.stack([1 - share, share], dim=1))
    expected = F.binary_cross_entropy_with_logits(output, share, reduction="none")
    torch.testing.assert_close(loss, expected)


# Out of training


def test_the_likeliest_class_of_a_mixture_may_be_in_several_places():
    mixture = LabelMixture(
        torch.tensor([[1, 2, 0, 2], [3, 3, 4, 4]]),
        torch.tensor([[0.3, 0.25, 0.2, 0.25], [0.2, 0.3, 0.4, 0.1]]),
    )
    assert SampleLabels().eval()(mixture).tolist() == [2, 3]


@given(seed=seeds, k=st.integers(1, 6))
def test_the_likeliest_class_is_that_of_the_dense_form(seed, k):
    mixture = mixture_of(k=k, seed=seed)
    chosen = SampleLabels().eval()(mixture).unsqueeze(1)
    dense = mixture.dense(CLASSES)
    torch.testing.assert_close(dense.gather(1, chosen), dense.amax(1, keepdim=True))
