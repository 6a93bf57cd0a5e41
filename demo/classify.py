"""Classifies sentences with a trained run: what the demo ends with.

    python demo/classify.py --run=demo/work/movie_sentiment "A film to remember." "A bore."
"""
import argparse
import csv
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")   # before TensorFlow is imported

from adapter_bert.errors import InputError, exit_on_input_error  # noqa: E402
from adapter_bert.files import read_json  # noqa: E402
from adapter_bert.training.checkpoints import best_or_latest  # noqa: E402


def predict(run, sentences):
    """Label and probability of each sentence, by the command that anybody would type.

    Args:
      run: output folder of a run of the task custom with the text column `sentence`.
      sentences: list of str.

    Raises:
      InputError: there is no such run, or the command did not end well.
    """
    labels = read_json(os.path.join(run, "run.json"))["labels"]
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "test.csv"), "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["sentence"], *([sentence] for sentence in sentences)])
        command = os.path.join(os.path.dirname(__file__), os.pardir, "run_classifier.py")
        done = subprocess.run(
            [sys.executable, command, "--task_name=custom", f"--data_dir={folder}", "--do_predict",
             "--text_column=sentence", "--label_column=label", f"--output_dir={folder}",
             f"--init_checkpoint={best_or_latest(run)}"],
            capture_output=True, text=True, check=False)
        if done.returncode:
            raise InputError((done.stderr.strip().splitlines() or ["no message"])[-1]
                             .removeprefix("error: "))
        with open(os.path.join(folder, "test_results.tsv"), encoding="utf-8") as file:
            rows = [[float(value) for value in line.split("\t")] for line in file]
    return [(labels[row.index(max(row))], max(row)) for row in rows]


@exit_on_input_error
def main():
    """Prints a line for each sentence of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="output folder of the demo's run")
    parser.add_argument("sentences", nargs="+")
    options = parser.parse_args()
    answers = predict(options.run, options.sentences)
    for sentence, (label, probability) in zip(options.sentences, answers, strict=True):
        print(f"{label:>10} {probability:7.1%}  {sentence}")


if __name__ == "__main__":
    main()
