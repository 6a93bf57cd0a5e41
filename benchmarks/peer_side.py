"""The side of the library `adapters` (AdapterHub, PyTorch): as its users run it, or at its best.

Runs in the environment of requirements-bench.txt. `--mode=plain` is float32 padded to 128; `best`
is bfloat16 autocast, batches grouped by length and padded to their longest row; `compiled` is that
with torch.compile.
"""
import argparse
import time

import numpy as np
import peer_training
import sides
import torch
import workload

BATCH, MAX_LENGTH, RATE = 32, 128, 1e-3


def batches_without_end(rows, mode, generator):
    """Batches of tensors as the mode has them: in random order and of one length, or grouped."""
    lengths = [1 if mode == "plain" else len(row["input_ids"]) for row in rows]
    for group in workload.batches_without_end(lengths, BATCH, generator):
        yield tensors([rows[place] for place in group], MAX_LENGTH if mode == "plain" else 0)


def tensors(rows, tokens):
    """The model's inputs for a padded batch, and its labels."""
    batch = peer_training.tensors(rows, tokens)
    return {"input_ids": batch["input_ids"], "token_type_ids": batch["segment_ids"],
            "attention_mask": batch["input_mask"]}, batch["label_ids"]


def step_function(model, options):
    """A function of a batch that trains on it."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer, schedule = peer_training.build_optimizer(model, RATE, 100_000)
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
    model = peer_training.build_model(options.base, "classification", 2, False)
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
