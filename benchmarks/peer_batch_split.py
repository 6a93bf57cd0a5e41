"""The side of the library `adapters` in benchmarks/serving_speed.py: BatchSplit over 32 adapters.

Runs in the environment of requirements-bench.txt.
"""
import argparse
import statistics
import time

import sides
import torch
from adapters import AutoAdapterModel, BnConfig
from adapters.composition import BatchSplit

ROWS, TOKENS = 32, 24


def build(base, tasks):
    """The base with an adapter of width 64 and a head for each of so many tasks."""
    model = AutoAdapterModel.from_pretrained(base)
    config = BnConfig(mh_adapter=True, output_adapter=True, non_linearity="gelu_new",
                      reduction_factor=model.config.hidden_size / 64)
    names = [f"task{number}" for number in range(tasks)]
    for name in names:
        model.add_adapter(name, config=config)
        model.add_classification_head(name, num_labels=2, layers=1, use_pooler=True)
    if tasks == 1:
        model.set_active_adapters(names[0])
        model.active_head = names[0]
    else:
        split = BatchSplit(*names, batch_sizes=[1] * tasks)
        model.set_active_adapters(split)
        model.active_head = split
    return model.eval()


def main():
    """Builds the model and serves."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", required=True, help="Hugging Face BERT folder")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), required=True)
    parser.add_argument("--tasks", type=int, default=ROWS)
    options = parser.parse_args()
    model = build(options.base, options.tasks)
    batch = {"input_ids": torch.full([ROWS, TOKENS], 2143),
             "attention_mask": torch.ones([ROWS, TOKENS], dtype=torch.long),
             "token_type_ids": torch.zeros([ROWS, TOKENS], dtype=torch.long)}

    def answer(request):
        times = []
        for _ in range(request["steps"]):
            start = time.perf_counter()
            with torch.inference_mode(), torch.autocast(
                    "cpu", torch.bfloat16, enabled=options.precision == "bfloat16"):
                model(**batch)
            times.append(time.perf_counter() - start)
        seconds = statistics.median(times)
        return {"seconds": seconds, "per_second": 1 / seconds, "all": times}
    sides.serve({"engine": f"adapters, BatchSplit, {options.precision}"}, answer)


if __name__ == "__main__":
    main()
