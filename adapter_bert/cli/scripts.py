"""The commands that BERT and Meta-BERT users know: run_classifier, run_squad and the others.

Each is a script at the top of the repository and a console command of the installed package.
"""
import functools
import logging as standard_logging
import sys
from collections.abc import Callable


def described(script: Callable[[], None]) -> Callable[[], None]:
    """The script with its docstring as what --help shows: absl takes that of the main module."""
    @functools.wraps(script)
    def run() -> None:
        sys.modules["__main__"].__doc__ = "\n".join(
            line.removeprefix("    ") for line in (script.__doc__ or "").splitlines())
        script()
    return run


@described
def run_classifier() -> None:
    """Trains, evaluates and predicts a text task with adapters on BERT.

        python run_classifier.py --task_name=MRPC --data_dir=glue/MRPC --output_dir=out/mrpc \\
            --bert_dir=uncased_L-12_H-768_A-12 --do_train --do_eval --learning_rate=3e-4 \\
            --num_train_epochs=5
    """
    from adapter_bert.cli import run_command
    from adapter_bert.train.named_task import text_task
    from adapter_bert.train.settings import Settings
    run_command.start(Settings, run_command.of_task(text_task))


@described
def run_squad() -> None:
    """Trains question answering with adapters on BERT, and answers the questions of a file.

    Files are in SQuAD's JSON form, 1.1 or 2.0; an answer is a part of the question's context.

        python run_squad.py --train_file=train-v1.1.json --predict_file=dev-v1.1.json \\
            --bert_dir=uncased_L-12_H-768_A-12 --do_train --do_predict --learning_rate=3e-4 \\
            --output_dir=out/squad
    """
    from adapter_bert.cli import run_command
    from adapter_bert.train.named_task import squad_task
    from adapter_bert.train.settings import SquadSettings
    run_command.start(SquadSettings, run_command.of_task(squad_task))


@described
def run_pretraining() -> None:
    """Trains BERT further, or from random weights, on masked words and next sentences.

        python run_pretraining.py --input_file='records/*.tfrecord' --output_dir=out/domain \\
            --bert_dir=uncased_L-12_H-768_A-12 --do_train --do_eval --learning_rate=1e-4 \\
            --num_train_steps=10000 --num_warmup_steps=1000
    """
    from adapter_bert.cli import run_command
    from adapter_bert.train import pretraining_run
    run_command.start(pretraining_run.Settings, pretraining_run.run)


@described
def run_meta_training() -> None:
    """Meta-trains BERT, or adapters on it, so that a few examples teach a new domain.

        python run_meta_training.py --data=dataset.json --validation_domains=dvd,video \\
            --test_domains=books,music --bert_dir=uncased_L-12_H-768_A-12 --output_dir=out/meta
    """
    from adapter_bert.cli import run_command
    from adapter_bert.research.meta import meta_settings, meta_training
    run_command.start(meta_settings.MetaSettings, meta_training.run)


@described
def run_finetuning() -> None:
    """Fine-tunes a plain base or a meta-trained start, and evaluates it on unseen domains.

        python run_finetuning.py --data=dataset.json --test_domains=books,music --num_domain=1 \\
            --bert_dir=uncased_L-12_H-768_A-12 --output_dir=out/low_resource
        python run_finetuning.py --data=dataset.json --test_domains=books,music --shots=0,8,16,80 \\
            --bert_dir=uncased_L-12_H-768_A-12 --bert_model=out/meta/ckpt/meta.epoch-3.step-30 \\
            --output_dir=out/few_shots
    """
    from adapter_bert.cli import run_command
    from adapter_bert.research.meta import finetuning, finetuning_settings
    run_command.start(finetuning_settings.FinetuningSettings, finetuning.run)


@described
def create_pretraining_data() -> None:
    """Makes TFRecord files for pre-training BERT from text files.

        python create_pretraining_data.py --input_file='texts/*.txt' --vocab_file=vocab.txt \\
            --output_file=out/train.tfrecord [-- --runner=FlinkRunner ...]

    What comes after -- is for Apache Beam; without it, all cores of this machine work.
    """
    from absl import app

    from adapter_bert import flags
    from adapter_bert.data.pretraining.creation_settings import PretrainingSettings
    from adapter_bert.errors import exit_on_input_error
    flags.define(PretrainingSettings)
    app.run(exit_on_input_error(_create_pretraining_data))


def _create_pretraining_data(arguments: list[str]) -> None:
    """Creates the files; `arguments` is what absl left of sys.argv."""
    from absl import logging

    from adapter_bert import flags
    from adapter_bert.data.pretraining.creation_settings import PretrainingSettings
    from adapter_bert.errors import InputError, require
    # Our lines without prefix on stderr; what others have to say comes as exceptions.
    logging.get_absl_logger().setLevel(standard_logging.INFO)
    logging.get_absl_handler().setFormatter(standard_logging.Formatter("%(message)s"))
    standard_logging.getLogger().setLevel(standard_logging.CRITICAL)
    beam_flags = arguments[1:]
    if beam_flags and not beam_flags[0].startswith("--"):
        raise InputError(f"{beam_flags[0]!r} belongs to no flag; write --flag=value, and quote a "
                         "glob as --input_file='texts/*.txt'")
    require("beam", apache_beam="apache-beam", google_crc32c="google-crc32c")
    from adapter_bert.data.pretraining.create import create
    settings, _ = flags.read(PretrainingSettings)
    made = create(settings, beam_flags)
    logging.info("%s: %s instances of %s documents, %.1f tokens each; %.1f %% of them to be "
                 "predicted, %.1f %% with a random next sentence", settings.output_file,
                 f"{made['instances']:,}", f"{made['documents']:,}", made["length"]["mean"],
                 100 * made["predicted_share"], 100 * made["random_next_share"])
