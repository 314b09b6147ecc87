"""What docs/migration.md says of another library's λ, held by counting pixels.

Each library is run as the page prints it, on pictures of one class each, so that the pixels of the
result say which weights are right.
"""

import re

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.stats import kstest
from torch.testing import assert_close

from tests.test_docs import TABLES, every_name

BATCH = CLASSES = 10
TIMES = 5
TORCHVISION, TIMM, KORNIA = "torchvision `v2.MixUp` and `v2.CutMix`", "timm", "kornia"
ORIGINAL = "The original code"
# kornia says so itself at every construction without use_correct_lambda.
pytestmark = pytest.mark.filterwarnings("ignore:RandomCutMixV2 currently uses:DeprecationWarning")


def mixup_data(images, labels, alpha):
    """Mix as the original code does: one λ, the weight of the first labels that come back."""
    lam, order = np.random.beta(alpha, alpha), torch.randperm(len(images))
    return lam * images + (1 - lam) * images[order], labels, labels[order], lam


def mixup_criterion(criterion, output, targets_a, targets_b, lam):
    return lam * criterion(output, targets_a) + (1 - lam) * criterion(output, targets_b)


def names_of(section):
    """Return what the page's lines of a library need, or skip where it is not installed."""
    names = every_name(alpha=1.0, cross_entropy=lambda *of: F.cross_entropy(*of, reduction="none"))
    if section == TIMM:
        names["Mixup"] = pytest.importorskip("timm.data").Mixup
        names["SoftTargetCrossEntropy"] = pytest.importorskip("timm.loss").SoftTargetCrossEntropy
    elif section == KORNIA:
        names["K"] = pytest.importorskip("kornia").augmentation
    elif section == ORIGINAL:
        names.update(mixup_data=mixup_data, mixup_criterion=mixup_criterion)
    return names


def programs(section, column):
    """Join the lines of a table to programs: each way to make a mixer, its call, its loss."""
    made, call, loss = [], None, "loss = F.cross_entropy(output, labels)"
    for row in TABLES[section]:
        line = row[column]
        if line.startswith(("mix = ", "criterion = ")):
            made.append(line)
        elif line.startswith("images, "):
            call = line
        elif line.startswith("loss = "):
            yield from (f"{making}; {call}; {line}" for making in made)
            made = []
    yield from (f"{making}; {call}; {loss}" for making in made if section == TORCHVISION)


PROGRAMS = [
    pytest.param(section, program, id=program)
    for section in (TORCHVISION, TIMM, KORNIA, ORIGINAL)
    for column in (0, 1)
    for program in dict.fromkeys(programs(section, column))
]


def run(program, names, batch=BATCH, size=8):
    """Run a program on sample i of nothing but class i; return its weights and the pixels' shares.

    The gradient of a cross-entropy is (softmax − weights) / B, whatever way the loss is written.
    """
    colours = torch.eye(CLASSES)[torch.arange(batch) % CLASSES]
    images = colours[..., None, None].repeat(1, 1, size, size)
    output = torch.randn(batch, CLASSES, requires_grad=True)
    names = {**names, "images": images, "labels": torch.arange(batch) % CLASSES, "output": output}
    exec(program, names)
    (slope,) = torch.autograd.grad(names["loss"], output)
    weights = output.detach().softmax(dim=1) - batch * slope
    return weights, names["images"].mean(dim=(2, 3))


def smoothing(program):
    if "label_smoothing" in program:
        return float(re.search(r"label_smoothing=([\d.]+)", program)[1])
    return 0.1 if " Mixup(" in program else 0.0


def test_every_line_that_makes_a_mixer_is_in_a_program():
    run_lines = {line for program in PROGRAMS for line in program.values[1].split("; ")}
    for section in (TORCHVISION, TIMM, KORNIA, ORIGINAL):
        for line in (line for row in TABLES[section] for line in row):
            # Presence in place of shares counts no pixels.
            counts = "seed" not in line and "BinaryCrossEntropy" not in line
            counts &= "PresentLabels" not in line
            if re.match("mix = |criterion = |loss = ", line) and counts:
                assert set(line.split("; ")) <= run_lines, f"nobody counts pixels after {line}"


@pytest.mark.parametrize(("section", "program"), PROGRAMS)
def test_the_printed_loss_weighs_each_class_by_its_pixels(section, program):
    names, part = names_of(section), smoothing(program)
    for _ in range(TIMES):
        weights, shares = run(program, names)
        assert_close(weights, (1 - part) * shares + part / CLASSES, rtol=0, atol=2e-6)


MAKE = 'mix = K.Random{kind}(data_keys=["input", "class"]{more})'
CALL = "images, rows = mix(images, labels); own, partner, lam = {rows}.unbind(-1)"
OF_PARTNER, OF_OWN = (
    f"loss = ({own} * cross_entropy(output, own.long())"
    f" + {partner} * cross_entropy(output, partner.long())).mean()"
    for own, partner in (("(1 - lam)", "lam"), ("lam", "(1 - lam)"))
)


@pytest.mark.parametrize(
    ("kind", "more", "right", "wrong"),
    [
        ("MixUpV2", "", OF_PARTNER, OF_OWN),
        ("CutMixV2", "", OF_PARTNER, OF_OWN),
        ("CutMixV2", ", use_correct_lambda=True", OF_OWN, OF_PARTNER),
    ],
    ids=["mixup", "cutmix by default", "cutmix with use_correct_lambda"],
)
def test_kornias_rows_are_right_with_one_loss_and_swapped_with_the_other(kind, more, right, wrong):
    making = MAKE.format(kind=kind, more=more)
    call = CALL.format(rows="rows" if kind == "MixUpV2" else "rows[0]")
    names, printed = names_of(KORNIA), {row[0] for row in TABLES[KORNIA]}
    assert {making, call, right} <= printed
    swapped = []
    for _ in range(TIMES):
        weights, shares = run(f"{making}; {call}; {right}", names)
        assert_close(weights, shares, rtol=0, atol=2e-6)
        weights, shares = run(f"{making}; {call}; {wrong}", names)
        mixed = shares.amax(dim=1) < 1  # else its own partner
        swapped.append((weights - shares)[mixed].abs().sum(dim=1))
        own = torch.eye(CLASSES)[mixed].bool()
        assert_close(weights[mixed][own], 1 - shares[mixed][own], rtol=0, atol=2e-6)
    assert torch.cat(swapped).mean() > 0.5


@pytest.mark.parametrize(
    ("section", "making", "for_each"),
    [
        (TORCHVISION, "mix = v2.MixUp(num_classes=10)", False),
        (TORCHVISION, "mix = v2.CutMix(alpha=1.0, num_classes=10)", False),
        (TIMM, "mix = Mixup(mixup_alpha=0.8, label_smoothing=0, num_classes=10)", False),
        (
            TIMM,
            'mix = Mixup(mixup_alpha=0.8, label_smoothing=0, num_classes=10, mode="elem")',
            True,
        ),
        (KORNIA, 'mix = K.RandomMixUpV2(data_keys=["input", "class"])', True),
        (
            KORNIA,
            'mix = K.RandomMixUpV2(same_on_batch=True, data_keys=["input", "class"])',
            False,
        ),
        (KORNIA, 'mix = K.RandomCutMixV2(data_keys=["input", "class"])', True),
        (ORIGINAL, "criterion = nn.CrossEntropyLoss()", False),
    ],
    ids=str,
)
def test_lambda_is_drawn_for_each_sample_or_for_the_batch(section, making, for_each):
    (program,) = (line for line in programs(section, 0) if line.startswith(f"{making};"))
    _, shares = run(program, names_of(section), size=64)
    own = shares.diagonal()[shares.diagonal() < 1]
    assert (own.max() - own.min() > 1e-3) == for_each


@pytest.mark.parametrize("kind", ["MixUp", "CutMix"])
def test_kornias_lambda_is_uniform_and_its_boxes_lie_inside(kind):
    start = f'mix = K.Random{kind}V2(data_keys=["input", "class"]);'
    (program,) = (line for line in programs(KORNIA, 0) if line.startswith(start))
    torch.manual_seed(0)
    names = names_of(KORNIA)
    shares = torch.cat([run(program, names, batch=1000, size=64)[1] for _ in range(2)])
    own = shares.gather(1, torch.arange(2000)[:, None] % CLASSES)[shares.amax(dim=1) < 1]
    # The sides of a box are whole pixels, rounded down; clipping would cut a third of them.
    assert kstest(own.flatten().numpy(), "uniform").statistic < 0.06
