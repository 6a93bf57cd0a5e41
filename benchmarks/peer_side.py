"""The side of the library `adapters` (AdapterHub, PyTorch): as its users run it, or at its best.

Runs in the environment of requirements-bench.txt. `--mode=plain` is float32 padded to 128; `best`
is bfloat16 autocast, batches grouped by length and padded to their longest row; `compiled` is that
with torch.compile.
"""
import argparse
import time

import numpy as np
import peer_quality
import sides
import torch
import workload

BATCH, MAX_LENGTH = peer_quality.BATCH, peer_quality.MAX_LENGTH


def batches_without_end(rows, mode, generator):
    """Batches of tensors in the manner of the mode."""
    lengths = [len(row["input_ids"]) for row in rows]
    while True:
        if mode == "plain":
            order = generator.permutation(len(rows))
            groups = [order[i:i + BATCH] for i in range(0, len(rows) - len(rows) % BATCH, BATCH)]
        else:
            groups = peer_quality.grouped_batches(lengths, generator)
        for group in groups:
            tokens = MAX_LENGTH if mode == "plain" else max(lengths[i] for i in group)
            yield tensors([rows[i] for i in group], tokens)


def tensors(rows, tokens):
    """A padded batch."""
    ids, segments, mask = (np.zeros([len(rows), tokens], np.int64) for _ in range(3))
    for index, row in enumerate(rows):
        count = len(row["input_ids"])
        ids[index, :count], segments[index, :count] = row["input_ids"], row["segment_ids"]
        mask[index, :count] = 1
    batch = {"input_ids": ids, "token_type_ids": segments, "attention_mask": mask}
    return ({name: torch.from_numpy(array) for name, array in batch.items()},
            torch.tensor([row["label_ids"] for row in rows]))


def step_function(model, options):
    """A function of a batch that trains on it."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, schedule = peer_quality.build_optimizer(model, 100_000)
    forward = torch.compile(model, dynamic=True) if options.mode == "compiled" else model

    def step(inputs, labels):
        with torch.autocast("cpu", torch.bfloat16, enabled=options.mode != "plain"):
            logits = forward(**inputs).logits
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    return step


def predict_function(model, options):
    """A function of a batch that computes its probabilities."""
    forward = torch.compile(model, dynamic=True) if options.mode == "compiled" else model

    def predict(inputs, _):
        with torch.inference_mode(), torch.autocast(
                "cpu", torch.bfloat16, enabled=options.mode != "plain"):
            forward(**inputs).logits.softmax(-1)
    return predict


def main():
    """Builds the model and serves."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", required=True, help="Hugging Face BERT folder")
    parser.add_argument("--rows", required=True)
    parser.add_argument("--work", choices=("train", "predict"), default="train")
    parser.add_argument("--mode", choices=("plain", "best", "compiled"), default="best")
    options = parser.parse_args()
    torch.manual_seed(0)
    model = peer_quality.build_model(options.base)
    model.train(options.work == "train")
    work = (step_function if options.work == "train" else predict_function)(model, options)
    rows = workload.read(options.rows)
    mean_length = np.mean([len(row["input_ids"]) for row in rows])
    data = batches_without_end(rows, options.mode, np.random.default_rng(0))

    def answer(request):
        tokens, padded, start = 0, 0, time.perf_counter()
        for _ in range(request["steps"]):
            inputs, labels = next(data)
            work(inputs, labels)
            tokens += int(inputs["attention_mask"].sum())
            padded += inputs["attention_mask"].numel()
        return workload.answer(time.perf_counter() - start, tokens, padded, mean_length)
    sides.serve({"engine": f"adapters, {options.mode}", "torch": torch.__version__}, answer)


if __name__ == "__main__":
    main()
