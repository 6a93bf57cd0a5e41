"""Training and prediction against the library `adapters`, side by side; one JSON a row.

    python benchmarks/speed.py --bert_dir=DIR --glue_dir=DIR [--only=train-MRPC-minilm] [--smoke]

The workload is the real text of a GLUE task. Both sides train the same adapters (width 64),
LayerNorms and head with batches of 32, forward, backward, clipping and step, on the same weights.
"""
import argparse
import os
import pathlib
import statistics
import sys
from typing import NamedTuple

import numpy as np
import sides
import step_profile
import workload

from adapter_bert import compute, kinds
from adapter_bert.bert import checkpoint_io, conversion, formats, modeling, tokenization
from adapter_bert.data import features

WORK_DIR = sides.ROOT / "demo" / "work" / "bench"
BERT_BASE = modeling.BertConfig(vocab_size=30522, type_vocab_size=2)
ROWS_OF_A_WORKLOAD = 3200
PRODUCT_TOKENS = 56   # of a row, where a product is measured alone


class Row(NamedTuple):
    """A claim: `work` on a task's text with a base is so many times as fast as another side.

    name: in --only, and of the result file.
    task: of GLUE, or "128" for rows of 128 tokens.
    key: what is compared; of bytes, the other side's to ours.
    """

    name: str
    work: str
    task: str
    shape: str
    floors: dict
    steps: int
    key: str = "per_second"


ROWS = (
    Row("train-MRPC-minilm", "train", "MRPC", "minilm",
        {"plain": 6.0, "best": 2.5, "compiled": 2.5}, 10),
    Row("train-SST-2-minilm", "train", "SST-2", "minilm",
        {"plain": 15.0, "best": 2.5, "compiled": 2.5}, 16),
    Row("train-MRPC-base", "train", "MRPC", "base", {"best": 2.0}, 6),
    Row("predict-MRPC-minilm", "predict", "MRPC", "minilm", {"best": 2.0, "compiled": 2.0}, 10),
    Row("predict-MRPC-base", "predict", "MRPC", "base", {"best": 2.0}, 6),
    Row("train-MRPC-minilm-full", "train", "MRPC", "minilm", {"full": 1.5}, 20),
    Row("memory-base", "train", "128", "base", {"best": 1.25}, 3, "peak_bytes"),
)
REPETITIONS = 5
UNITS = {"per_second": "examples a second", "peak_bytes": "most bytes in memory"}
VERBS = {"per_second": "times as fast as", "peak_bytes": "times less memory than"}
OTHERS = {"plain": "`adapters` in float32, padded to 128",
          "best": "`adapters` in bfloat16, grouped",
          "compiled": "`adapters` in bfloat16, grouped, torch.compile", "full": "our full tuning"}


def bases(shape, minilm_dir, work_dir=WORK_DIR):
    """A shape's folders in Google's and in Hugging Face's form; BERT-base has random weights."""
    google = pathlib.Path(minilm_dir) if shape == "minilm" else work_dir / "bert-base"
    if shape == "base" and not (google / "bert_model.ckpt.index").exists():
        google.mkdir(parents=True, exist_ok=True)
        config, random = BERT_BASE.to_dict(), np.random.default_rng(0)
        weights = {name: random.normal(float(name.endswith("gamma")), 0.02, size).astype(np.float32)
                   for name, size in checkpoint_io.variable_shapes(config).items()}
        vocabulary = pathlib.Path(minilm_dir, "vocab.txt").read_bytes()
        formats.write_google(formats.Bert(config, vocabulary, True, weights), str(google))
    hugging_face = work_dir / f"{shape}-huggingface"
    print(conversion.convert(str(google), str(hugging_face), to="huggingface"), file=sys.stderr)
    return google, hugging_face


def rows_file(task_name, options):
    """The workload of a task: the first examples of its training set, tokenized."""
    path = options.work_dir / f"{task_name}.npz"
    if task_name == "128":
        workload.write_even(path, rows_file("MRPC", options), 128)
    elif not path.exists():
        task = kinds.get_task(task_name)
        examples = kinds.read_examples(task, os.path.join(options.glue_dir, task_name), "train")
        tokenizer = tokenization.FullTokenizer(os.path.join(options.bert_dir, "vocab.txt"))
        labels = {label: index for index, label in enumerate(task.labels)}
        rows = features.featurize(examples[:ROWS_OF_A_WORKLOAD], tokenizer, 128, labels)
        workload.write(path, list(rows))
    return path


def open_sides(row, google, hugging_face, path):
    """Our side and the others of a row."""
    ours = [sys.executable, "benchmarks/our_side.py", f"--bert_dir={google}", f"--rows={path}",
            f"--work={row.work}"]
    opened = [sides.Side("ours", ours)]
    for mode in row.floors:
        command = [*ours, "--tuning=full"] if mode == "full" else [
            str(sides.PEER_PYTHON), "benchmarks/peer_side.py", f"--base={hugging_face}",
            f"--rows={path}", f"--work={row.work}", f"--mode={mode}"]
        opened.append(sides.Side(mode, command))
    return opened


def measure(row, options):
    """Runs a row; True where every floor is met."""
    google, hugging_face = bases(row.shape, options.bert_dir, options.work_dir)
    path = rows_file(row.task, options)
    opened = open_sides(row, google, hugging_face, path)
    steps, repetitions = (1, 1) if options.smoke else (row.steps, REPETITIONS)
    sides.interleaved(opened, [{"steps": steps}] * (1 if options.smoke else 2))   # warm-up
    products = Products(row, google, path) if row.key == "per_second" else None
    answers = {side.name: [] for side in opened}
    for _ in range(repetitions):
        for name, found in sides.interleaved(opened, [{"steps": steps}]).items():
            answers[name] += found
        if products:
            products.measure()
    for side in opened:
        side.close()
    found = sides.ratios(answers, "ours", row.floors, row.key)
    for side in opened:
        rate, peak = (sides.median(answers[side.name], key) for key in ("per_second", "peak_bytes"))
        line = f"{row.name:<24} {side.name:<9} {rate:8.1f} examples/s {peak / 2**30:6.2f} GiB"
        if side.name in found:
            ratio, low, high = found[side.name]
            line += f"   ours: {ratio:.2f} {VERBS[row.key]} that ({low:.2f} to {high:.2f})"
            line += f", floor {row.floors[side.name]}"
        print(line, flush=True)
    shares = products.shares(row, answers, found) if products else []
    for what, share in shares:
        print(f"{row.name:<24} {what}: {share:.2f}", flush=True)
    if not options.smoke:
        claims = [(f"{row.name}: {UNITS[row.key]}", sides.median(answers["ours"], row.key), None),
                  *((f"{row.name}: {VERBS[row.key]} {OTHERS[name]}", ratio, row.floors[name])
                    for name, (ratio, _, _) in found.items()),
                  *((f"{row.name}: {what}", share, None) for what, share in shares)]
        sides.write(row.name, {
            "facts": {side.name: side.facts for side in opened}, "answers": answers,
            **({"products": products.record} if products else {})}, claims)
    return all(found[name][0] >= floor for name, floor in row.floors.items())


class Products:
    """Products alone, of a row's base and PRODUCT_TOKENS tokens, beside which sides are measured.

    Attributes:
      record: {"flop_an_example": of our products, "rates": {whose product: [FLOP a second]}}.
    """

    def __init__(self, row, google, path):
        config = modeling.BertConfig.from_json_file(str(google / "bert_config.json"))
        with np.load(path) as rows:
            flop = np.mean([step_profile.step_flop(config, length, row.work == "train")
                            for length in rows["lengths"]]) / step_profile.BATCH
        self._works = step_profile.limits(
            config, step_profile.BATCH * PRODUCT_TOKENS, compute.choose_precision("auto", False),
            len(os.sched_getaffinity(0)))
        self.record = {"flop_an_example": flop, "rates": {name: [] for name in self._works}}

    def measure(self):
        """Adds a rate of each."""
        for name, work in self._works.items():
            self.record["rates"][name].append(work.rate())

    def shares(self, row, answers, found):
        """[(what, share of the fastest product's rate)] of our side, and of what each floor over
        the library at its best asks of it: above 1 no program with these products can meet it."""
        limit = max(map(statistics.median, self.record["rates"].values()))
        ours = sides.median(answers["ours"]) * self.record["flop_an_example"] / limit
        what = "products, share of the fastest alone"
        return [(f"{what}: ours", ours), *(
            (f"{what}: {floor:g} times {OTHERS[name]}", ours * floor / found[name][0])
            for name, floor in row.floors.items() if name in ("best", "compiled"))]


def main():
    """Runs the wanted rows; exits with 1 where a floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bert_dir", required=True, help="the MiniLM base in Google's form")
    parser.add_argument("--glue_dir", required=True, help="folder of MRPC and SST-2")
    parser.add_argument("--only", help="comma-separated names of rows")
    parser.add_argument("--work_dir", type=pathlib.Path, default=WORK_DIR)
    parser.add_argument("--smoke", action="store_true",
                        help="one step a side: does it start?")
    parser.add_argument("--alone", action="store_true", help="leave the library out")
    options = parser.parse_args()
    options.work_dir.mkdir(parents=True, exist_ok=True)
    rows = ROWS
    if options.alone:
        rows = [row._replace(floors={mode: floor for mode, floor in row.floors.items()
                                     if mode == "full"}) for row in ROWS]
    wanted = options.only.split(",") if options.only else [row.name for row in ROWS]
    met = [measure(row, options) for row in rows if row.name in wanted]
    sys.exit(not options.smoke and not all(met))


if __name__ == "__main__":
    main()
