"""Objects in every form that a loader or a dataset hands them over in."""

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import PIL.Image
import pytest
import torch
from torch.utils.data import DataLoader
from torchvision import tv_tensors
from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
from torchvision.transforms import v2

from mixup_transforms import (
    MixCollate,
    MixedDataset,
    RandomChoice,
    RandomCutMix,
    RandomMixup,
    RandomMosaic,
)
from tests.bits import unchanged
from tests.object_batches import with_places
from tests.painted import KINDS, OF_ANY_OBJECTS, assert_painted, plain, revealed
from tests.strategies import generator_of

every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=repr)
every_kind_of_objects = pytest.mark.parametrize(
    "kind", [kind for kind in KINDS.values() if not kind.needs_classes], ids=repr
)
# The masks of pycocotools are no arrays to NumPy 2's liking.
coco_warns = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
SIZES = [(6, 8), (4, 9), (7, 5)]


def paired(samples):
    return tuple(zip(*samples, strict=True))


def scene_of(i, size, count=3):
    """A sample whose pixels are 1 in channel i alone but for their places, and two objects."""
    height, width = size
    image = torch.zeros(count, height, width)
    image[i] = 1
    image = with_places(image)
    boxes = [[1, 1, width - 1, height - 1], [0, 0, 3, 2]]
    masks = torch.zeros(2, height, width, dtype=torch.bool)
    masks[0, 1:-1, 1:-1] = True
    masks[1, :2, :3] = True
    target = {
        "boxes": tv_tensors.BoundingBoxes(torch.tensor(boxes), format="XYXY", canvas_size=size),
        "masks": tv_tensors.Mask(masks),
        "labels": torch.tensor([10 * i, 10 * i + 1]),
        "image_id": i,
    }
    return tv_tensors.Image(image), target


def samples_for(kind, count=3):
    sizes = [SIZES[0]] * count if kind.one_size else SIZES[:count]
    samples = [scene_of(i, size, count) for i, size in enumerate(sizes)]
    if kind.needs_classes:
        for i, (size, (_, target)) in enumerate(zip(sizes, samples, strict=True)):
            classes = torch.randint(4, size, generator=generator_of(i))
            target["semantic"] = tv_tensors.Mask(classes)
    return samples


def assert_mixed(kind, samples, mixed):
    """Check against the painter a batch whose sample i is samples[i], mixed."""
    batch = paired(samples)
    resizes = kind is not None and kind.name == "resizemix"
    scenes = [revealed(image, i, batch[0], resizes=resizes) for i, image in enumerate(mixed[0])]
    assert_painted(scenes, batch, mixed)
    return scenes


# Collated


@every_kind
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_mixes_what_zip_collates(kind, workers):
    samples = samples_for(kind)
    collate = MixCollate(kind.make(generator=generator_of(0)), collate_fn=paired)
    batches = list(DataLoader(samples, batch_size=3, collate_fn=collate, num_workers=workers))
    assert len(batches) == 1
    scenes = assert_mixed(kind, samples, batches[0])
    assert all(scene.parents[1] != i for i, scene in enumerate(scenes) if scene.mixed)


def test_the_collate_function_of_torchvisions_references_as_a_lambda():
    samples = samples_for(KINDS["cutmix"])
    mix = RandomCutMix(generator=generator_of(1))
    mix = MixCollate(mix, collate_fn=lambda samples: tuple(zip(*samples)))  # noqa: B905
    assert_mixed(KINDS["cutmix"], samples, mix(samples))


@every_kind
def test_a_pair_and_two_arguments_are_the_same(kind):
    batch = paired(samples_for(kind))
    first = kind.make(generator=generator_of(0))(batch)
    second = kind.make(generator=generator_of(0))(*batch)
    assert unchanged(first, second)


@every_kind
@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda mix: pickle.loads(pickle.dumps(mix))], ids=["copied", "pickled"]
)
def test_a_copy_goes_on_alike(kind, twin):
    mix = kind.make(generator=generator_of(0))
    batch = paired(samples_for(kind))
    mix(*batch)
    other = twin(mix)
    assert unchanged(mix(*batch), other(*batch))


@every_kind
def test_a_mixer_goes_on_from_its_saved_state(kind):
    batch = paired(samples_for(kind))
    mix = kind.make(generator=generator_of(0))
    mix(*batch)
    state = copy.deepcopy(mix.state_dict())
    expected = mix(*batch)
    resumed = kind.make(generator=generator_of(5))
    resumed.load_state_dict(state)
    assert unchanged(resumed(*batch), expected)


@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda mix: pickle.loads(pickle.dumps(mix))], ids=["copied", "pickled"]
)
def test_a_choice_goes_on_alike_too(twin):
    mix = choice_for_each_sample(generator_of(0))
    batch = paired(samples_for(KINDS["fmix"]))
    mix(*batch)
    other, resumed = twin(mix), choice_for_each_sample(generator_of(5))
    resumed.load_state_dict(copy.deepcopy(mix.state_dict()))
    expected = mix(*batch)
    assert unchanged(other(*batch), expected)
    assert unchanged(resumed(*batch), expected)


def choice_for_each_sample(generator=None):
    mixers = [kind.make() for kind in OF_ANY_OBJECTS.values() if kind.canvas is None]
    return RandomChoice(mixers, per_sample=True, generator=generator)


@every_kind
def test_threads_share_a_mixer(kind):
    samples = samples_for(kind)
    mix = kind.make(generator=generator_of(0))
    with ThreadPoolExecutor(4) as pool:
        mixed = [*pool.map(lambda batch: mix(*batch), [paired(samples)] * 16)]
    for batch in mixed:
        assert_mixed(kind, samples, batch)


@every_kind
def test_how_much_is_drawn_does_not_depend_on_the_objects(kind):
    images, targets = paired(samples_for(kind))
    emptied = [
        {
            **target,
            "boxes": target["boxes"][:0],
            "masks": target["masks"][:0],
            "labels": target["labels"][:0],
        }
        for target in targets
    ]
    emptied[0] = targets[0]
    for target, old in zip(emptied[1:], targets[1:], strict=True):
        target["boxes"] = tv_tensors.wrap(target["boxes"], like=old["boxes"])
        target["masks"] = tv_tensors.wrap(target["masks"], like=old["masks"])
    first, second = generator_of(0), generator_of(0)
    before = kind.make(generator=first)(images, targets)
    after = kind.make(generator=second)(images, emptied)
    assert torch.equal(first.get_state(), second.get_state())
    # What CopyPaste shows of a partner are its objects.
    assert unchanged(before[0], after[0]) == (kind.name != "copypaste")


# Pipelines


@every_kind
def test_torchvisions_own_transforms_before_and_after(kind):
    samples = samples_for(kind)
    flip = v2.RandomHorizontalFlip(p=1.0)
    pipeline = v2.Compose([flip, kind.make(generator=generator_of(0)), flip])
    images, targets = pipeline(*paired(samples))
    mixed = kind.make(generator=generator_of(0))(*flip(*paired(samples)))
    assert_mixed(kind, [flip(*sample) for sample in samples], mixed)
    assert unchanged((images, targets), flip(*mixed))
    assert all(type(target["boxes"]) is tv_tensors.BoundingBoxes for target in targets)
    assert all(len(target["weights"]) == len(target["boxes"]) for target in targets)


def test_torchvisions_own_transforms_of_dtype_and_size_after():
    batch = paired(samples_for(KINDS["mixup"]))
    pipeline = v2.Compose(
        [RandomMixup(generator=generator_of(0)), v2.Resize((5, 5)), v2.ToDtype(torch.float64)]
    )
    images, targets = pipeline(*batch)
    assert {tuple(image.shape) for image in images} == {(5, 5, 5)}
    assert all(tuple(target["boxes"].canvas_size) == (5, 5) for target in targets)
    assert all(target["masks"].shape[1:] == (5, 5) for target in targets)


def test_a_choice_for_each_sample_of_a_loader():
    samples = samples_for(KINDS["mixup"])
    mixers = [RandomMixup(), RandomCutMix(), RandomMosaic()]
    mix = RandomChoice(mixers, per_sample=True, generator=generator_of(0))
    assert_mixed(None, samples, MixCollate(mix, collate_fn=paired)(samples))


# Datasets


@every_kind
def test_a_dataset_mixes_two_samples_of_its_own_sizes(kind):
    samples = samples_for(kind, count=2)
    for epoch in range(4):
        mixed = MixedDataset(samples, kind.make(), seed=3)
        mixed.set_epoch(epoch)
        for i in range(2):
            assert unchanged(mixed[i], mixed[i])
        loaded = paired([mixed[0], mixed[1]])
        assert_mixed(kind, samples, loaded)
        assert [target["image_id"] for target in loaded[1]] == [0, 1]


@every_kind
def test_samples_of_a_dataset_are_the_same_in_workers_and_in_threads(kind):
    dataset = MixedDataset(samples_for(kind), kind.make(), seed=3)
    expected = [dataset[i] for i in range(3)]
    loader = DataLoader(dataset, batch_size=2, collate_fn=paired, num_workers=2)
    loaded = [sample for batch in loader for sample in zip(*batch, strict=True)]
    assert unchanged(loaded, expected)
    with ThreadPoolExecutor(4) as pool:
        assert unchanged([*pool.map(dataset.__getitem__, [*range(3)] * 4)], expected * 4)


@pytest.mark.parametrize(
    "twin",
    [copy.deepcopy, lambda data: pickle.loads(pickle.dumps(data))],
    ids=["copied", "pickled"],
)
def test_a_copy_of_a_dataset_gives_the_same_samples(twin):
    dataset = MixedDataset(samples_for(KINDS["fmix"]), choice_for_each_sample(), seed=3)
    other = twin(dataset)
    assert unchanged([other[i] for i in range(3)], [dataset[i] for i in range(3)])


def test_a_dataset_of_pictures_says_how_to_convert_them():
    samples = [scene_of(i, size) for i, size in enumerate(SIZES)]
    pictures = [(v2.functional.to_pil_image(image[:3]), target) for image, target in samples]
    bare = [(pictures[0][0], {"image_id": 0}), pictures[1]]
    for dataset in (pictures, bare):
        with pytest.raises(TypeError, match=r"\[0\] in the dataset's samples is a PIL image"):
            MixedDataset(dataset, RandomCutMix(), seed=0)[0]


def test_a_dataset_of_one_sample_gives_it_back_with_its_weights():
    samples = samples_for(KINDS["mixup"], count=1)
    image, target = MixedDataset(samples, RandomMixup(), seed=3)[0]
    assert torch.equal(image, samples[0][0])
    assert target["weights"].tolist() == [1, 1]


def test_a_dataset_whose_transforms_go_on_after_the_mixer():
    samples = samples_for(KINDS["cutmix"])
    pipeline = v2.Compose([RandomCutMix(), v2.RandomHorizontalFlip(p=1.0)])
    plainly = MixedDataset(samples, RandomCutMix(), seed=3)
    flipped = MixedDataset(samples, pipeline, seed=3)
    flip = v2.RandomHorizontalFlip(p=1.0)
    for i in range(3):
        assert unchanged(flipped[i], flip(*plainly[i]))


# COCO


@pytest.fixture
def coco(tmp_path):
    """A function that writes three pictures, red, green and blue, and reads them as COCO's."""
    pytest.importorskip("pycocotools", reason="the test extra is not installed")

    def written(sizes):
        pictures, annotations = [], []
        for i, (height, width) in enumerate(sizes):
            pixels = np.zeros((height, width, 3), dtype=np.uint8)
            pixels[..., i] = 255
            PIL.Image.fromarray(pixels).save(tmp_path / f"{i}.png")
            pictures.append({"id": i, "file_name": f"{i}.png", "height": height, "width": width})
            if i == 1:
                continue  # nobody found anything in the green one
            for n, (x, y, w, h) in enumerate([(1, 1, 4, 3), (0, 2, 5, 2)]):
                annotations.append(
                    {
                        "id": 10 * i + n,
                        "image_id": i,
                        "category_id": 10 * i + n,
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "iscrowd": 0,
                        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
                    }
                )
        names = [{"id": entry["category_id"], "name": "thing"} for entry in annotations]
        file = tmp_path / "instances.json"
        content = {"images": pictures, "annotations": annotations, "categories": names}
        file.write_text(json.dumps(content), encoding="utf-8")
        to_float = v2.Compose(
            [
                v2.ToImage(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Lambda(lambda image: tv_tensors.Image(with_places(image)), tv_tensors.Image),
            ]
        )
        return wrap_dataset_for_transforms_v2(
            CocoDetection(tmp_path, file, transforms=to_float),
            target_keys=("image_id", "boxes", "masks", "labels", "area", "iscrowd"),
        )

    return written


@coco_warns
@every_kind_of_objects
def test_a_coco_file_with_a_picture_without_annotations(coco, kind):
    dataset = coco([SIZES[0]] * 3 if kind.one_size else SIZES)
    samples = [dataset[i] for i in range(3)]
    assert samples[1][1] == {"image_id": 1}
    collate = MixCollate(kind.make(generator=generator_of(0)), collate_fn=paired)
    (mixed,) = DataLoader(dataset, batch_size=3, collate_fn=collate)
    assert_mixed(kind, samples, mixed)
    assert all(type(target["area"]) is list for target in mixed[1])


@coco_warns
@every_kind_of_objects
def test_a_coco_file_whose_samples_are_mixed_where_they_are_loaded(coco, kind):
    dataset = coco([SIZES[0]] * 3 if kind.one_size else SIZES)
    samples = [dataset[i] for i in range(3)]
    mixed = MixedDataset(dataset, kind.make(), seed=1)
    pool = paired(samples)
    for epoch in range(4):
        mixed.set_epoch(epoch)
        for i in range(3):
            image, target = mixed[i]
            assert target["image_id"] == i
            scene = revealed(image, i, pool[0], resizes=kind.name == "resizemix")
            if any("labels" in samples[j][1] for j in scene.parents):
                assert_painted([scene], paired([samples[i]]), ((image,), (target,)), pool=pool)


@coco_warns
def test_boxes_come_back_as_torchvisions_own(coco):
    dataset = coco(SIZES)
    _, targets = RandomMixup(generator=generator_of(0))(*paired(dataset[i] for i in range(3)))
    for target in targets:
        moved = v2.functional.horizontal_flip(target["boxes"])
        assert type(moved) is tv_tensors.BoundingBoxes
        assert plain(moved).shape == plain(target["boxes"]).shape
