"""The task that settings name: a row of the table, columns of anybody's files, or questions."""
from adapter_bert import kinds
from adapter_bert.errors import InputError


def text_task(settings):
    """The task of --task_name, or the custom task of the column flags.

    Args:
      settings: settings.Settings.

    Raises:
      InputError: there is no such task, or its columns are neither named nor recognised.
    """
    name = settings.task_name or ("custom" if settings.data_file else "")
    if name.lower() == "custom":
        kind = {"classes": "classification", "number": "regression"}.get(
            settings.label_type, settings.label_type)
        task = kinds.generic_task(settings.text_column, settings.text_b_column,
                                  settings.label_column, settings.header, kind)
    else:
        task = kinds.get_task(name)
    if settings.data_file:
        if not task.is_custom and task.kind != "tokens":
            raise InputError(f"--data_file is for --task_name=custom; the files of {task.name} "
                             "are in --data_dir")
        task = kinds.with_data_file(task, settings.data_file, settings.dev_fraction,
                                    settings.test_fraction)
    if not task.is_custom:
        return task
    needs_label = settings.do_train or settings.do_eval or bool(settings.data_file)
    return kinds.with_columns(task, settings.data_dir, needs_label)


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
    return kinds.squad_task(settings.train_file, settings.predict_file)
