"""Trains BERT further, or from nothing, on masked words and next sentences.

    python run_pretraining.py --input_file='records/*.tfrecord' --output_dir=out/domain \\
        --bert_dir=uncased_L-12_H-768_A-12 --do_train --do_eval --learning_rate=1e-4 \\
        --num_train_steps=10000 --num_warmup_steps=1000
"""
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")   # before TensorFlow is imported

from absl import app  # noqa: E402

from adapter_bert import flags  # noqa: E402
from adapter_bert.errors import InputError, exit_on_input_error  # noqa: E402
from adapter_bert.training.pretraining import Settings, run  # noqa: E402
from run_classifier import speak_plainly  # noqa: E402


@exit_on_input_error
def main(arguments):
    """Reads the flags and runs."""
    speak_plainly()
    if arguments[1:]:
        raise InputError(f"{arguments[1]!r} belongs to no flag; write --flag=value")
    run(*flags.read(Settings))


if __name__ == "__main__":
    flags.define(Settings)
    app.run(main)
