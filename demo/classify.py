"""Classifies sentences with the pack of a trained run: what the demo ends with.

    python demo/classify.py --run=demo/work/movie_sentiment "A film to remember." "A bore."
"""
import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")   # before TensorFlow is imported

import adapter_bert  # noqa: E402
from adapter_bert.bert import checkpoint_io  # noqa: E402
from adapter_bert.errors import exit_on_input_error  # noqa: E402
from adapter_bert.files import read_object  # noqa: E402


def predict(run, sentences):
    """A Prediction of each sentence.

    Args:
      run: output folder of a run, with its pack.
      sentences: list of str.

    Raises:
      InputError: there is no such run, or its base is not where it was.
    """
    record = read_object(os.path.join(run, checkpoint_io.RUN_FILE), *checkpoint_io.RUN_KEYS)
    bert_dir = os.path.dirname(record["base"]["init_checkpoint"])
    with adapter_bert.load(bert_dir, os.path.join(run, "pack")) as task:
        return task.predict(sentences)


@exit_on_input_error
def main():
    """Prints a line for each sentence of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="output folder of the demo's run")
    parser.add_argument("sentences", nargs="+")
    options = parser.parse_args()
    answers = predict(options.run, options.sentences)
    for sentence, (label, probabilities) in zip(options.sentences, answers, strict=True):
        print(f"{label:>10} {probabilities[label]:7.1%}  {sentence}")


if __name__ == "__main__":
    main()
