"""Trains question answering with adapters on BERT, and answers the questions of a file.

Files are in SQuAD's JSON form, 1.1 or 2.0; an answer is a part of the question's context.

    python run_squad.py --train_file=train-v1.1.json --predict_file=dev-v1.1.json \\
        --bert_dir=uncased_L-12_H-768_A-12 --do_train --do_predict --learning_rate=3e-4 \\
        --output_dir=out/squad
"""
from adapter_bert import run_command, tasks
from adapter_bert.errors import InputError
from adapter_bert.training.settings import SquadSettings


def task_of(settings):
    """The task of --train_file and --predict_file; InputError where one that is needed lacks."""
    is_needed = {"train_file": settings.do_train,
                 "predict_file": settings.do_eval or settings.do_predict
                 or settings.evaluates_in_training}
    for name in filter(is_needed.get, is_needed):
        if not getattr(settings, name):
            raise InputError(f"--{name} is missing")
    return tasks.squad_task(settings.train_file, settings.predict_file)


if __name__ == "__main__":
    run_command.start(SquadSettings, run_command.of_task(task_of))
