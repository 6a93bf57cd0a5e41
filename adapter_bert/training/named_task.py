"""The task that settings name: a row of the table, columns of anybody's files, or questions."""
from adapter_bert import tasks
from adapter_bert.errors import InputError


def text_task(settings):
    """The task of --task_name, or the custom task of the column flags.

    Args:
      settings: settings.Settings.
    """
    if (settings.task_name or "").lower() != "custom":
        return tasks.get_task(settings.task_name or "")
    for name in ("text_column", "label_column"):
        if getattr(settings, name) is None:
            raise InputError(f"--{name} is missing; the task custom needs it")
    kind = {"classes": "classification", "number": "regression"}.get(
        settings.label_type, settings.label_type)
    return tasks.generic_task(settings.text_column, settings.text_b_column, settings.label_column,
                              settings.header, kind)


def squad_task(settings):
    """The task of --train_file and --predict_file; InputError where one that is needed lacks.

    Args:
      settings: settings.SquadSettings.
    """
    is_needed = {"train_file": settings.do_train,
                 "predict_file": settings.do_eval or settings.do_predict
                 or settings.evaluates_in_training}
    for name in filter(is_needed.get, is_needed):
        if not getattr(settings, name):
            raise InputError(f"--{name} is missing")
    return tasks.squad_task(settings.train_file, settings.predict_file)
