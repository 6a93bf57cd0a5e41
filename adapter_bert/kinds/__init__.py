"""What is learned: one row of a table a task, strict readers of its files, its submission file.

The scores are in `adapter_bert.kinds.metrics` and `adapter_bert.kinds.entities`, apart because
scikit-learn takes a second to import.
"""
from adapter_bert.kinds.conll import Sentence, read_sentence_parts, read_sentences
from adapter_bert.kinds.custom_task import (
    generic_task,
    labels_line,
    with_columns,
    with_data_file,
    with_labels,
)
from adapter_bert.kinds.readers import Example, find_file, read_examples, read_parts
from adapter_bert.kinds.squad_files import SquadExample, have_answers, read_squad, squad_task
from adapter_bert.kinds.submission import write_submission
from adapter_bert.kinds.task_table import TASKS, Columns, Task, get_task, splits

__all__ = [
    "TASKS", "Columns", "Example", "Sentence", "SquadExample", "Task", "find_file", "generic_task",
    "get_task", "have_answers", "labels_line", "read_examples", "read_parts",
    "read_sentence_parts", "read_sentences", "read_squad", "splits", "squad_task", "with_columns",
    "with_data_file", "with_labels", "write_submission",
]
