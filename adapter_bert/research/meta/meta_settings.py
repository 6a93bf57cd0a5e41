"""What run_meta_training.py is told, each with its default and its flag's help text."""
import dataclasses

from adapter_bert.errors import InputError
from adapter_bert.fields import setting
from adapter_bert.research.meta.finetuning_settings import (
    check_each,
    check_start,
    tasks_at_once,
    with_rates,
)
from adapter_bert.train.settings import ModelSettings


@dataclasses.dataclass(frozen=True)
class MetaSettings(ModelSettings):
    """The flags of run_meta_training.py; those of Meta-BERT have its defaults."""

    output_dir: str | None = setting(None, "Folder for checkpoints, log and pack.")
    data: str | None = setting(None, "JSON file: a list of objects with text, label and domain.")
    validation_domains: str = setting(
        "", "Domains that choose the best checkpoint, commas between them; without them the last "
            "one counts as the best.")
    test_domains: str = setting("", "Domains that nothing here may see, commas between them.")
    bert_model: str | None = setting(
        None, "What to start from: a checkpoint, or the folder of a base as --bert_dir.")
    pack: str | None = setting(
        None, "A pack to start from with its head, on the base that --bert_dir names.")
    algorithm: str = setting("fomaml", "fomaml (first-order MAML) or reptile.")
    epochs: int = setting(3, "Times that --num_train_task tasks are drawn.")
    outer_batch_size: int = setting(5, "Tasks of an outer step.")
    outer_update_lr: float | None = setting(
        None, "Learning rate of the outer Adam; 5e-5 with --tuning=full, else 1e-3.")
    inner_optimizer: str = setting("adam", "adam or sgd, of a task.")
    inner_update_lr: float | None = setting(
        None, "Its learning rate; 5e-5 with --tuning=full, else 1e-3.")
    inner_batch_size: int = setting(16, "Examples of an inner step.")
    inner_update_step: int = setting(10, "Passes over a task's examples.")
    inner_update_step_eval: int = setting(10, "The same of a validation task.")
    num_domain: int = setting(
        100, "Domains to train on, drawn by the seed; all where it exceeds them.")
    num_support: int = setting(80, "Examples that a task learns from.")
    num_query: int = setting(20, "Examples that it is asked.")
    num_train_task: int = setting(50, "Tasks of an epoch.")
    num_test_task: int = setting(3, "Tasks drawn of each validation domain.")
    num_labels: int | None = setting(
        None, "Accepted, since Meta-BERT has it, where the data has so many labels.")
    tasks_at_once: int = setting(
        0, "Tasks that learn side by side; 0: those of an outer step, up to 5, and with "
           "--tuning=full one after the other, for memory.")
    seed: int = setting(0, "Fixes first weights, dropout and draws.")
    adapter_init_stddev: float = setting(2e-2, "Standard deviation of the adapters' first weights.")
    pack_dir: str | None = setting(
        None, "Where the pack goes, a folder or a file that ends in .zip; OUTPUT_DIR/pack unless "
              "given.")
    pack_precision: str = setting("float32", "Type of the pack's weights: float32 or bfloat16.")
    pack_license: str = setting("", "License of the pack, as SPDX writes it.")
    pack_description: str = setting("", "A sentence on the pack for those who look for one.")

    @property
    def steps_an_epoch(self):
        """Outer steps of an epoch; the last one has the tasks that are left."""
        return -(-self.num_train_task // self.outer_batch_size)


def check(settings):
    """Refuses settings that no run can have, before anything is read or written.

    Raises:
      InputError: with the flag and what it may be.
    """
    check_each(settings, ("output_dir", "data"))
    check_start(settings)
    if settings.pack_dir and settings.tuning == "full":
        raise InputError("--pack_dir: full tuning changes the whole model and makes no pack")


def with_defaults(settings):
    """Settings with what depends on the tuning mode filled in, where nobody gave it."""
    at_once = settings.tasks_at_once or min(tasks_at_once(settings), settings.outer_batch_size)
    return dataclasses.replace(with_rates(settings), tasks_at_once=at_once)
