"""Ray Data and Ray Train: mix what each rank's iterator gives, under DistributedDataParallel."""

from tempfile import TemporaryDirectory

import digits
import ray.data
import ray.train
import torch
import torch.nn.functional as F
from ray.train.torch import TorchTrainer, prepare_model

from mixup_transforms import RandomMixup, seeded_generator


def train(settings):
    torch.manual_seed(0)
    model = prepare_model(digits.small_cnn())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    shard = ray.train.get_dataset_shard("train")
    for epoch in range(10):
        generator = seeded_generator(0, epoch=epoch)  # the rank is that of torch.distributed
        mix = RandomMixup(alpha=0.4, num_classes=10, generator=generator)
        for batch in shard.iter_torch_batches(batch_size=32):
            images, labels = mix(batch["image"], batch["label"])
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    if ray.train.get_context().get_world_rank() == 0:
        torch.save(model.module.state_dict(), settings["file"])


def main():
    training, test = digits.digits()
    rows = [{"image": image.numpy(), "label": int(label)} for image, label in training]
    ray.init(num_cpus=4, include_dashboard=False)
    with TemporaryDirectory() as folder:
        TorchTrainer(
            train,
            train_loop_config={"file": f"{folder}/model.pt"},
            datasets={"train": ray.data.from_items(rows)},
            scaling_config=ray.train.ScalingConfig(num_workers=2),
            run_config=ray.train.RunConfig(storage_path=folder),
        ).fit()
        model = digits.small_cnn()
        model.load_state_dict(torch.load(f"{folder}/model.pt"))
    print(f"test accuracy: {digits.accuracy(model, test):.1%}")


if __name__ == "__main__":
    main()
