"""Dev quality of the library `adapters` (AdapterHub, PyTorch) on MRPC, one JSON a seed.

Runs in an environment of its own (requirements-bench.txt). Same base, learning rate, epochs, batch,
schedule and head as our run: Houlsby adapters of width 64 with the tanh GELU, every LayerNorm and
a linear head on the base's pooled output trained, float32, batches grouped by length. The
optimizer is the one its users take: torch's AdamW.

    python benchmarks/peer_quality.py --base HF_BERT_DIR --data MRPC_DIR --output DIR --seeds 5

With --each_epoch it is a race instead: bfloat16, the dev score printed after each epoch.
"""
import argparse
import csv
import json
import os
import platform
import time

import adapters
import numpy as np
import torch
import transformers
from adapters import AutoAdapterModel, DoubleSeqBnConfig

BATCH, EPOCHS, LEARNING_RATE, MAX_LENGTH, WIDTH = 32, 5, 1e-3, 128, 64


def read_mrpc(path):
    """MRPC rows of `path`: a list of (sentence 1, sentence 2, label)."""
    with open(path, encoding="utf-8-sig", newline="") as lines:
        rows = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    return [(row[3], row[4], int(row[0])) for row in rows]


def build_model(base):
    """The base with one Houlsby adapter and head; adapters, LayerNorms and head train."""
    model = AutoAdapterModel.from_pretrained(base)
    config = DoubleSeqBnConfig(
        reduction_factor=model.config.hidden_size / WIDTH, non_linearity="gelu_new")
    model.add_adapter("mrpc", config=config)
    model.add_classification_head(
        "mrpc", num_labels=2, layers=1, activation_function=None, use_pooler=True)
    model.train_adapter("mrpc")
    for name, parameter in model.named_parameters():
        if "LayerNorm" in name:
            parameter.requires_grad = True
    return model


def build_optimizer(model, num_steps):
    """AdamW with decay on matrices only, 10 % warm-up, then linear decay to 0."""
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    plain = [p for n, p in trained if "bias" in n or "LayerNorm" in n]
    decayed = [p for n, p in trained if not ("bias" in n or "LayerNorm" in n)]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}],
        lr=LEARNING_RATE)
    return optimizer, transformers.get_linear_schedule_with_warmup(
        optimizer, num_steps // 10, num_steps)


def encode(tokenizer, rows):
    """Word-piece ids and segment ids of each pair, not padded."""
    return tokenizer([r[0] for r in rows], [r[1] for r in rows], truncation=True,
                     max_length=MAX_LENGTH)


def grouped_batches(lengths, generator):
    """Index batches of similar length, in random order (the Trainer's group_by_length)."""
    order = generator.permutation(len(lengths))
    window = BATCH * 50
    groups = [sorted(order[i:i + window], key=lambda j: -lengths[j])
              for i in range(0, len(order), window)]
    order = np.concatenate(groups)
    batches = [order[i:i + BATCH] for i in range(0, len(order) - len(order) % BATCH, BATCH)]
    return [batches[i] for i in generator.permutation(len(batches))]


def pad(tokenizer, encoded, indices):
    """One padded batch of tensors."""
    return tokenizer.pad({key: [encoded[key][i] for i in indices] for key in encoded},
                         return_tensors="pt")


def evaluate(model, tokenizer, encoded, labels, half=False):
    """Accuracy and F1 over the whole dev set."""
    model.eval()
    predictions = []
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        for start in range(0, len(labels), BATCH):
            batch = pad(tokenizer, encoded, range(start, min(start + BATCH, len(labels))))
            predictions.append(model(**batch).logits.float().argmax(-1).numpy())
    model.train()
    predicted = np.concatenate(predictions)
    hits = int(((predicted == 1) & (labels == 1)).sum())
    return {"eval_accuracy": float((predicted == labels).mean()),
            "eval_f1": 2 * hits / float((predicted == 1).sum() + (labels == 1).sum())}


def train_epochs(base, data, seed, epochs=EPOCHS, half=False):
    """Trains on one seed; yields the model and its dev metrics after each epoch."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    train, dev = (read_mrpc(os.path.join(data, name)) for name in ("train.tsv", "dev.tsv"))
    encoded, encoded_dev = encode(tokenizer, train), encode(tokenizer, dev)
    labels, dev_labels = (np.array([row[2] for row in rows]) for rows in (train, dev))
    lengths = [len(ids) for ids in encoded["input_ids"]]
    model = build_model(base)
    model.train()
    steps = int(len(train) // BATCH * epochs)
    optimizer, schedule = build_optimizer(model, steps)
    for _ in range(max(1, int(epochs))):
        for indices in grouped_batches(lengths, generator)[:steps]:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                logits = model(**pad(tokenizer, encoded, indices)).logits
            loss = torch.nn.functional.cross_entropy(logits.float(), torch.tensor(labels[indices]))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(
                [p for p in model.parameters() if p.requires_grad], 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        yield model, evaluate(model, tokenizer, encoded_dev, dev_labels, half)


def run_seed(base, data, seed):
    """Train and evaluate one seed; returns the record that is written."""
    start = time.time()
    *_, (model, metrics) = train_epochs(base, data, seed)
    seconds = time.time() - start
    return {
        "metrics": metrics, "seed": seed, "train_seconds": seconds,
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "setup": {"batch": BATCH, "epochs": EPOCHS, "learning_rate": LEARNING_RATE,
                  "max_seq_length": MAX_LENGTH, "width": WIDTH, "precision": "float32"},
        "versions": {"adapters": adapters.__version__, "torch": torch.__version__,
                     "transformers": transformers.__version__, "python": platform.python_version()},
    }


def main():
    """Run the seeds that have no result file yet."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", required=True, help="Hugging Face BERT folder")
    parser.add_argument("--data", required=True, help="folder of MRPC's train.tsv and dev.tsv")
    parser.add_argument("--output", help="folder for seed_N.json")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--each_epoch", action="store_true", help="race one seed in bfloat16")
    parser.add_argument("--seed", type=int, default=0, help="of the race")
    parser.add_argument("--epochs", type=float, default=EPOCHS, help="of the race")
    options = parser.parse_args()
    if options.each_epoch:
        for _, metrics in train_epochs(options.base, options.data, options.seed, options.epochs,
                                       half=True):
            print(json.dumps(metrics), flush=True)
        return
    os.makedirs(options.output, exist_ok=True)
    for seed in range(options.seeds):
        path = os.path.join(options.output, f"seed_{seed}.json")
        if os.path.exists(path):
            continue
        record = run_seed(options.base, options.data, seed)
        with open(path + ".part", "w", encoding="utf-8") as file:
            json.dump(record, file, indent=1)
        os.replace(path + ".part", path)
        print(path, record["metrics"], flush=True)


if __name__ == "__main__":
    main()
