"""Makes TFRecord files for pre-training BERT of text files.

    python create_pretraining_data.py --input_file='texts/*.txt' --output_file=out/train.tfrecord \\
        --vocab_file=uncased_L-12_H-768_A-12/vocab.txt [-- --runner=FlinkRunner ...]

What comes after -- is for Apache Beam; without it, work is done on all cores of this machine.
"""
import logging as standard_logging

from absl import app, logging

from adapter_bert import flags
from adapter_bert.errors import InputError, exit_on_input_error, require
from adapter_bert.pipeline.pretraining.settings import PretrainingSettings


def speak_plainly():
    """Our lines without prefix on stderr, what others have to say comes as exceptions."""
    logging.get_absl_logger().setLevel(standard_logging.INFO)
    logging.get_absl_handler().setFormatter(standard_logging.Formatter("%(message)s"))
    standard_logging.getLogger().setLevel(standard_logging.CRITICAL)


@exit_on_input_error
def main(arguments):
    """Reads the flags and runs."""
    speak_plainly()
    beam_flags = arguments[1:]
    if beam_flags and not beam_flags[0].startswith("--"):
        raise InputError(f"{beam_flags[0]!r} belongs to no flag; write --flag=value, and quote a "
                         "glob as --input_file='texts/*.txt'")
    require("beam", apache_beam="apache-beam", google_crc32c="google-crc32c")
    from adapter_bert.pipeline.pretraining.create import create
    settings, _ = flags.read(PretrainingSettings)
    made = create(settings, beam_flags)
    logging.info("%s: %s instances of %s documents, %.1f word pieces each; %.1f %% of them to be "
                 "predicted, %.1f %% with a random next sentence", settings.output_file,
                 f"{made['instances']:,}", f"{made['documents']:,}", made["length"]["mean"],
                 100 * made["predicted_share"], 100 * made["random_next_share"])


if __name__ == "__main__":
    flags.define(PretrainingSettings)
    app.run(main)
