"""What run_finetuning.py is told, each with its default and its flag's help text."""
import dataclasses

from adapter_bert import paths
from adapter_bert.errors import InputError
from adapter_bert.fields import setting
from adapter_bert.train.settings import CHOICES, ModelSettings, check_value

# Of this command and of run_meta_training.py.
KNOWN = {**CHOICES, "inner_optimizer": ("adam", "sgd"), "algorithm": ("fomaml", "reptile")}
AT_ONCE = 5   # tasks that learn side by side
RATES = ("learning_rate", "inner_update_lr", "outer_update_lr")
LEAST = {"tasks_at_once": 0, **dict.fromkeys((
    "num_domain", "num_train_task", "num_test_task", "num_support", "num_query", "epochs",
    "batch_size", "outer_batch_size", "inner_batch_size", "inner_update_step",
    "inner_update_step_eval"), 1)}


@dataclasses.dataclass(frozen=True)
class FinetuningSettings(ModelSettings):
    """The flags of run_finetuning.py; those of Meta-BERT have its defaults where they fit."""

    output_dir: str | None = setting(None, "Folder for the results.")
    data: str | None = setting(None, "JSON file: a list of objects with text, label and domain.")
    validation_domains: str = setting(
        "", "Domains not to learn from, since they chose the start or its learning rates; commas "
            "between them.")
    test_domains: str = setting("", "Domains to be tested on, commas between them.")
    bert_model: str | None = setting(
        None, "What to start from: a checkpoint of run_meta_training.py, or the folder of a base "
              "as --bert_dir.")
    pack: str | None = setting(
        None, "A pack to start from with its head, on the base that --bert_dir names.")
    zero_shot: bool = setting(False, "Learn nothing: the start as it is on the test domains.")
    shots: str | None = setting(
        None, "Few-shot curves: how many labelled examples of a test domain are learned from, in "
              "all, as in 0,8,16,80. Without it, all examples of the test domains are asked.")
    num_domain: int = setting(
        50, "Training domains to learn from first, drawn by the seed; all where it exceeds them. "
            "With --shots none unless it is given.")
    num_test_task: int = setting(20, "With --shots: tasks drawn of each test domain, a seed.")
    num_query: int = setting(100, "With --shots: examples of each task that are asked.")
    epochs: int = setting(1, "Passes over the examples of the training domains.")
    batch_size: int = setting(32, "Examples of them a step.")
    learning_rate: float | None = setting(
        None, "Learning rate on them; 5e-5 with --tuning=full, else 1e-3.")
    inner_update_lr: float | None = setting(
        None, "Learning rate on the shots; 5e-5 with --tuning=full, else 1e-3.")
    inner_update_step_eval: int = setting(10, "Passes over the shots.")
    inner_batch_size: int = setting(16, "Shots a step.")
    inner_optimizer: str = setting("adam", "adam or sgd.")
    seeds: str = setting("0", "Each fixes the first weights of a new head, the order of the data "
                              "and the draws, as in 0,1,2.")
    num_labels: int | None = setting(
        None, "Accepted, since Meta-BERT has it, where the data has so many labels.")
    adapter_init_stddev: float = setting(2e-2, "Standard deviation of the adapters' first weights.")

    @property
    def shots_list(self):
        """--shots as ints, ascending; None without it."""
        return None if self.shots is None else numbers("shots", self.shots)

    @property
    def seed_list(self):
        """--seeds as ints, ascending."""
        return numbers("seeds", self.seeds)


def numbers(flag, text):
    """The whole numbers of a list with commas, ascending, each once.

    Raises:
      InputError: there is none, or one is negative or too large.
    """
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError as error:
        raise InputError(f"--{flag}={text}: give whole numbers as in 0,8,16") from error
    if not 0 <= found[0] <= found[-1] < 2**31:
        raise InputError(f"--{flag}={text}: numbers must be from 0 to {2**31 - 1}")
    return found


def with_rates(settings):
    """Settings with the learning rates that nobody gave, those of the tuning mode."""
    rate = 5e-5 if settings.tuning == "full" else 1e-3
    return dataclasses.replace(settings, **{
        name: getattr(settings, name) or rate for name in RATES if hasattr(settings, name)})


def tasks_at_once(settings):
    """How many tasks learn side by side: of full tuning one, for memory."""
    return 1 if settings.tuning == "full" else AT_ONCE


def check(settings, given):
    """Refuses settings that no run can have, before anything is read or written.

    Args:
      settings: FinetuningSettings.
      given: names of those that a person gave.

    Raises:
      InputError: with the flag and what it may be.
    """
    check_each(settings, ("output_dir", "data", "test_domains"))
    _ = settings.shots_list, settings.seed_list
    if settings.zero_shot and {"shots", "num_domain", "epochs"} & given:
        raise InputError("--zero_shot: learns nothing, so --shots, --num_domain and --epochs do "
                         "not go with it; leave them out (--shots=0 asks the draws of a curve)")
    check_start(settings)


def check_start(settings):
    """InputError where flags name two starts, or a pack without its base."""
    if settings.bert_model and settings.pack:
        raise InputError("--bert_model and --pack: both name a start; give one of them")
    if settings.pack and not settings.bert_dir:
        raise InputError(f"--pack={settings.pack}: name the folder of its base with --bert_dir")


def check_each(settings, required):
    """InputError where a flag of `required` is missing, or a value alone is wrong."""
    for name in required:
        if not getattr(settings, name):
            raise InputError(f"--{name} is missing")
    for name, value in dataclasses.asdict(settings).items():
        if value is not None:
            check_one(name, value)


def check_one(name, value):
    """InputError where a flag's value alone is wrong."""
    check_value(name, value)
    if isinstance(value, str) and paths.is_remote(value):
        raise InputError(f"--{name}={value}: meta-learning reads and writes this machine's paths "
                         "only; copy it here first")
    if name in LEAST and value < LEAST[name]:
        raise InputError(f"--{name}={value}: must be at least {LEAST[name]}")
    if name in RATES and not value > 0:
        raise InputError(f"--{name}={value}: must be above 0")
    if name in KNOWN and value not in KNOWN[name]:
        raise InputError(f"--{name}={value}: not one of {', '.join(KNOWN[name])}")
