"""The library `adapters` on MRPC from its text files: prints dev accuracy after each epoch.

Its side of time_to_accuracy.py. The tokenizer is the library's own, since its time counts too; the
training is that of peer_training.py.
"""
import argparse
import csv
import json
import os

import numpy as np
import peer_training
import torch
import transformers

BATCH, LEARNING_RATE, MAX_LENGTH = 32, 1e-3, 128


def read_rows(tokenizer, path: str) -> list[dict]:
    """The tokenized pairs of an MRPC file, as workload.read returns rows."""
    with open(path, encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    encoded = tokenizer([row[3] for row in rows], [row[4] for row in rows], truncation=True,
                        max_length=MAX_LENGTH)
    return [{"input_ids": ids, "segment_ids": segments, "label_ids": int(row[0])}
            for ids, segments, row in zip(encoded["input_ids"], encoded["token_type_ids"], rows,
                                          strict=True)]


def main() -> None:
    """Trains one seed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", required=True, help="BERT folder in Hugging Face's form")
    parser.add_argument("--data", required=True, help="folder of MRPC's train.tsv and dev.tsv")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=float, default=5)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(options.base)
    train, dev = (read_rows(tokenizer, os.path.join(options.data, name))
                  for name in ("train.tsv", "dev.tsv"))
    labels = np.array([row["label_ids"] for row in dev])
    head = peer_training.HEADS["classification"]
    model = peer_training.build_model(options.base, "classification", 2, trains_pooler=True)
    for _ in peer_training.train_epochs(model, head, train, peer_training.Settings(
            LEARNING_RATE, options.epochs, BATCH, options.seed)):
        found = peer_training.predict(model, head, dev, BATCH)["probabilities"].argmax(-1)
        print(json.dumps({"eval_accuracy": float((found == labels).mean())}), flush=True)


if __name__ == "__main__":
    main()
