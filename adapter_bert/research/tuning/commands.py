"""The training commands that a search can run: the settings and the task of their flags."""
from collections.abc import Callable, Mapping
from typing import Any

from adapter_bert.kinds import Task
from adapter_bert.train.named_task import squad_task, text_task
from adapter_bert.train.settings import RunSettings, Settings, SquadSettings

COMMANDS: dict[str, tuple[type[RunSettings], Callable[[Any], Task]]] = {
    "classifier": (Settings, text_task), "squad": (SquadSettings, squad_task)}


def settings_of(command: str, flags: Mapping[str, Any]) -> tuple[RunSettings, Task]:
    """The settings and the task of a command's flags."""
    settings_class, task_of = COMMANDS[command]
    settings = settings_class(**flags)
    return settings, task_of(settings)
