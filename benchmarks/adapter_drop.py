"""AdapterDrop: training without adapters in the lower half of the layers, against all of them.

    python benchmarks/adapter_drop.py --bert_dir=DIR --glue_dir=DIR [--smoke]

Both sides train on the text of MRPC with batches of 32; where adapters are dropped, the LayerNorms
below the first one are frozen (--tuning=adapters_drop), so that no gradient goes there.
"""
import argparse
import pathlib
import sys

import sides
import speed

from adapter_bert import network

NAME, FLOOR = "adapter-drop", 1.5
STEPS, REPETITIONS = 20, 7


def open_sides(options):
    """The side that drops the adapters of the lower half of the layers, and the side of all."""
    layers = network.read_config(f"{options.bert_dir}/bert_config.json").num_hidden_layers
    kept = ",".join(map(str, range(layers // 2, layers)))
    command = [sys.executable, "benchmarks/our_side.py", f"--bert_dir={options.bert_dir}",
               f"--rows={speed.rows_file('MRPC', options)}"]
    return [sides.Side("dropped", [*command, "--tuning=adapters_drop", f"--adapter_layers={kept}"]),
            sides.Side("all", [*command, "--tuning=adapters"])]


def main():
    """Measures, writes the result; exits with 1 where the floor is missed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bert_dir", required=True, help="the base in Google's form")
    parser.add_argument("--glue_dir", required=True, help="folder of MRPC")
    parser.add_argument("--work_dir", type=pathlib.Path, default=speed.WORK_DIR)
    parser.add_argument("--smoke", action="store_true", help="one step a side: does it start?")
    options = parser.parse_args()
    options.work_dir.mkdir(parents=True, exist_ok=True)
    opened = open_sides(options)
    request = {"steps": 1 if options.smoke else STEPS}
    sides.interleaved(opened, [request])   # warm-up
    answers = sides.interleaved(opened, [request] * (1 if options.smoke else REPETITIONS))
    for side in opened:
        side.close()
    ratio, low, high = sides.ratios(answers, "dropped", ["all"])["all"]
    rates = {name: sides.median(found) for name, found in answers.items()}
    print(f"{rates['dropped']:.1f} examples/s without the lower half of the adapters, "
          f"{rates['all']:.1f} with all: {ratio:.2f} times as fast ({low:.2f} to {high:.2f}), "
          f"floor {FLOOR}")
    if not options.smoke:
        sides.write(NAME, {"facts": {side.name: side.facts for side in opened},
                           "answers": answers}, [
            (f"{NAME}: examples a second", rates["dropped"], None),
            (f"{NAME}: lower half dropped, times as fast as adapters in all layers", ratio, FLOOR)])
    sys.exit(not options.smoke and ratio < FLOOR)


if __name__ == "__main__":
    main()
