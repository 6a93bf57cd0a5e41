"""Trains, evaluates and predicts a text task with adapters on BERT.

    python run_classifier.py --task_name=MRPC --data_dir=glue/MRPC --output_dir=out/mrpc \\
        --bert_dir=uncased_L-12_H-768_A-12 --do_train --do_eval --learning_rate=3e-4 \\
        --num_train_epochs=5
"""
from adapter_bert import run_command, tasks
from adapter_bert.errors import InputError
from adapter_bert.training.settings import Settings


def task_of(settings):
    """The GLUE task of --task_name, or the custom task of the column flags."""
    if (settings.task_name or "").lower() != "custom":
        return tasks.get_task(settings.task_name or "")
    for name in ("text_column", "label_column"):
        if getattr(settings, name) is None:
            raise InputError(f"--{name} is missing; the task custom needs it")
    kind = {"classes": "classification", "number": "regression"}.get(
        settings.label_type, settings.label_type)
    return tasks.generic_task(settings.text_column, settings.text_b_column, settings.label_column,
                              settings.header, kind)


if __name__ == "__main__":
    run_command.start(Settings, run_command.of_task(task_of))
