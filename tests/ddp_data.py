"""Load a part of a mixed dataset, and a stream, over a group of processes; write down what came."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch.distributed as dist
from torch.utils.data import DataLoader, DistributedSampler, Subset

from tests.test_processes import mixed_numbers, mixed_stream, rows


def main(folder, start, stop):
    dist.init_process_group("gloo")
    rank, numbers = dist.get_rank(), range(int(start), int(stop))
    part = Subset(mixed_numbers(), numbers)
    sampler = DistributedSampler(part, shuffle=False)
    result = {
        "indices": [numbers[i] for i in sampler],
        "rows": rows(DataLoader(part, batch_size=5, sampler=sampler)),
    }
    # A spawned worker has no process group to ask for its rank.
    worker = {"num_workers": 1, "multiprocessing_context": "spawn"} if rank == 1 else {}
    result["stream"] = rows(DataLoader(mixed_stream(), batch_size=8, **worker))
    dist.destroy_process_group()
    Path(folder, f"{rank}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
