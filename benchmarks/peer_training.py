"""Trains the library `adapters` (AdapterHub, PyTorch) on tokenized examples; predicts others.

Runs in an environment of its own (requirements-bench.txt). Houlsby adapters of width 64 with the
tanh GELU, every LayerNorm and a linear head are trained, and the pooler where our run trains it:
AdamW, 10 % warm-up, linear decay, bfloat16 autocast, batches grouped by length, as a user of the
library would do it. The files are those of peer_features.py.

    python benchmarks/peer_training.py --base=HUGGING_FACE_DIR --kind=tokens --labels=13 \\
        --train=train.npz --dev=dev.npz --output=predictions.npz

The last line on standard output is a JSON object: the mean loss of each epoch, seconds, versions.
"""
import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import adapters
import numpy as np
import torch
import transformers
import workload
from adapters import AutoAdapterModel, DoubleSeqBnConfig
from torch.nn.functional import cross_entropy, mse_loss

WIDTH, WEIGHT_DECAY, WARMUP, MOST_NORM = 64, 0.01, 0.1, 1.0
PADDING = -1e9   # logit of a token that is padding
NAME = "task"    # of the adapter and of its head

Batch = dict[str, torch.Tensor]


class Settings(NamedTuple):
    """What a run is trained with; rates and counts as of our runs."""

    learning_rate: float
    epochs: float
    batch_size: int
    seed: int


class Head(NamedTuple):
    """A kind of head in the library.

    add: name of the model's method that adds it.
    loss: function (model output, batch) -> scalar.
    predictions: function (model output, batch) -> {name: tensor [B, ...]} as our scorers read it.
    """

    add: str
    loss: Callable[[Any, Batch], torch.Tensor]
    predictions: Callable[[Any, Batch], dict[str, torch.Tensor]]


def classification_loss(output: Any, batch: Batch) -> torch.Tensor:
    """Cross-entropy of each text's class."""
    return cross_entropy(output.logits.float(), batch["label_ids"])


def regression_loss(output: Any, batch: Batch) -> torch.Tensor:
    """Squared error of each text's score."""
    return mse_loss(output.logits.float()[:, 0], batch["label_ids"].float())


def token_loss(output: Any, batch: Batch) -> torch.Tensor:
    """Cross-entropy at the first piece of each word."""
    is_first = batch["word_starts"] == 1
    return cross_entropy(output.logits.float()[is_first], batch["label_ids"][is_first])


def span_logits(output: Any, batch: Batch) -> dict[str, torch.Tensor]:
    """Logits of start and end, [B, T] each; padding cannot be either."""
    padding = PADDING * (batch["input_mask"] == 0)
    return {"start_logits": output.start_logits.float() + padding,
            "end_logits": output.end_logits.float() + padding,
            "index": batch["index"], "doc_start": batch["doc_start"]}


def span_loss(output: Any, batch: Batch) -> torch.Tensor:
    """Mean of the cross-entropies of start and end."""
    logits = span_logits(output, batch)
    return sum(cross_entropy(logits[f"{end}_logits"], batch[f"{end}_positions"])
               for end in ("start", "end")) / 2


HEADS = {
    "classification": Head("add_classification_head", classification_loss, lambda output, batch: {
        "probabilities": output.logits.float().softmax(-1)}),
    "regression": Head("add_classification_head", regression_loss, lambda output, batch: {
        "scores": output.logits.float()[:, 0]}),
    "tokens": Head("add_tagging_head", token_loss, lambda output, batch: {
        "label_ids": output.logits.argmax(-1)}),
    "spans": Head("add_qa_head", span_loss, span_logits),
}


def build_model(base: str, kind: str, labels: int, trains_pooler: bool) -> Any:
    """The base with one Houlsby adapter and a linear head.

    Args:
      base: folder in Hugging Face's form.
      kind: key of HEADS.
      labels: outputs of the head.
      trains_pooler: whether the pooler trains beside adapters, LayerNorms and head.
    """
    model = AutoAdapterModel.from_pretrained(base)
    model.add_adapter(NAME, config=DoubleSeqBnConfig(
        reduction_factor=model.config.hidden_size / WIDTH, non_linearity="gelu_new"))
    pooled = {"use_pooler": True} if kind in ("classification", "regression") else {}
    getattr(model, HEADS[kind].add)(
        NAME, num_labels=labels, layers=1, activation_function=None, **pooled)
    model.train_adapter(NAME)
    for name, parameter in model.named_parameters():
        if "LayerNorm" in name or (trains_pooler and "pooler" in name):
            parameter.requires_grad = True
    return model


def build_optimizer(model: Any, rate: float, steps: int) -> tuple[Any, Any]:
    """AdamW with decay on matrices only, and its schedule: 10 % warm-up, then linear decay to 0."""
    trained = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    plain = [one for name, one in trained if "bias" in name or "LayerNorm" in name]
    decayed = [one for name, one in trained if not ("bias" in name or "LayerNorm" in name)]
    optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": WEIGHT_DECAY},
                                   {"params": plain, "weight_decay": 0.0}], lr=rate)
    return optimizer, transformers.get_linear_schedule_with_warmup(
        optimizer, int(steps * WARMUP), steps)


def tensors(rows: list[dict[str, Any]], tokens: int = 0) -> Batch:
    """A padded batch, see workload.padded."""
    return {name: torch.from_numpy(array) for name, array in workload.padded(rows, tokens).items()}


def forward(model: Any, batch: Batch) -> Any:
    """The model's output for a batch, in bfloat16 where autocast has it so."""
    with torch.autocast("cpu", torch.bfloat16):
        return model(input_ids=batch["input_ids"], token_type_ids=batch["segment_ids"],
                     attention_mask=batch["input_mask"])


def train_epochs(model: Any, head: Head, rows: list[dict[str, Any]],
                 settings: Settings) -> Iterator[float]:
    """Trains; yields the mean loss of each epoch, and of what is left of the last one."""
    generator = np.random.default_rng(settings.seed)
    steps = int(len(rows) * settings.epochs / settings.batch_size)
    trained = [one for one in model.parameters() if one.requires_grad]
    optimizer, schedule = build_optimizer(model, settings.learning_rate, steps)
    batches = workload.batches_without_end(
        [len(row["input_ids"]) for row in rows], settings.batch_size, generator)
    losses: list[float] = []
    for step in range(1, steps + 1):
        model.train()
        batch = tensors([rows[place] for place in next(batches)])
        loss = head.loss(forward(model, batch), batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, MOST_NORM)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % (len(rows) // settings.batch_size) == 0 or step == steps:
            yield float(np.mean(losses))
            losses.clear()


def predict(model: Any, head: Head, rows: list[dict[str, Any]],
            batch_size: int) -> dict[str, np.ndarray]:
    """Predictions of rows in their order, {name: array [rows, ...]}; [rows, T] ends in zeros."""
    model.eval()
    order = np.argsort([-len(row["input_ids"]) for row in rows], kind="stable")
    tokens, parts = len(rows[order[0]]["input_ids"]), []
    with torch.inference_mode():
        for start in range(0, len(order), batch_size):
            batch = tensors([rows[place] for place in order[start:start + batch_size]])
            found = head.predictions(forward(model, batch), batch)
            parts.append({name: to_length(values.numpy(), batch["input_mask"].shape[1], tokens)
                          for name, values in found.items()})
    places = np.argsort(order)
    return {name: np.concatenate([part[name] for part in parts])[places] for name in parts[0]}


def to_length(values: np.ndarray, tokens: int, wanted: int) -> np.ndarray:
    """[B, tokens] as [B, wanted], which ends in zeros; other arrays as they are."""
    if values.ndim < 2 or values.shape[1] != tokens:
        return values
    return np.pad(values, [(0, 0), (0, wanted - tokens)])


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Trains, writes the predictions, and returns what is recorded of it."""
    torch.manual_seed(options.seed)
    train, dev = workload.read(options.train), workload.read(options.dev)
    head = HEADS[options.kind]
    model = build_model(options.base, options.kind, options.labels, options.train_pooler)
    start = time.perf_counter()
    losses = list(train_epochs(model, head, train, Settings(
        options.learning_rate, options.epochs, options.batch_size, options.seed)))
    seconds = time.perf_counter() - start
    np.savez(options.output, **predict(model, head, dev, options.batch_size))
    return {"losses": [round(loss, 4) for loss in losses], "train_seconds": round(seconds),
            "trained_parameters": sum(
                one.numel() for one in model.parameters() if one.requires_grad),
            "versions": {"adapters": adapters.__version__, "torch": torch.__version__,
                         "transformers": transformers.__version__,
                         "python": platform.python_version()}}


def main() -> None:
    """Runs what the flags say."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", required=True, help="BERT folder in Hugging Face's form")
    parser.add_argument("--kind", required=True, choices=HEADS)
    parser.add_argument("--labels", type=int, required=True, help="outputs of the head")
    parser.add_argument("--train", required=True, help="examples to train on, .npz")
    parser.add_argument("--dev", required=True, help="examples to predict, .npz")
    parser.add_argument("--output", required=True, help="file of the predictions, .npz")
    parser.add_argument("--train_pooler", action="store_true")
    parser.add_argument("--learning_rate", type=float, default=1e-3)
    parser.add_argument("--epochs", type=float, default=5)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    print(json.dumps(run(parser.parse_args())), flush=True)


if __name__ == "__main__":
    main()
