"""What a run is told, each with its default and its flag's help text."""
import dataclasses
import math
from typing import ClassVar

from adapter_bert import paths
from adapter_bert.errors import InputError
from adapter_bert.fields import KERNELS, PRECISIONS, setting
from adapter_bert.packs import checks
from adapter_bert.train.distributed.clusters import DISTRIBUTIONS

# The names of adapters.METHODS and ADAPTERS: that module imports TensorFlow, --help does not.
METHODS = ("houlsby", "pfeiffer", "parallel", "lora", "ia3", "prefix")
ADAPTERS = ("feedforward_adapter", "parallel_adapter", "lora", "ia3", "prefix")
CHOICES = {"adapter_method": METHODS, "precision": PRECISIONS,
           "kernels": KERNELS, "pack_precision": PRECISIONS[1:], "bad_answers": ("refuse", "skip"),
           "bad_rows": ("refuse", "skip"), "label_type": ("classes", "number", "tokens"),
           "distribution": DISTRIBUTIONS, "recipe": ("auto", "reference"),
           "guard": ("on", "off"), "head_bias_init": ("zeros", "labels")}


@dataclasses.dataclass(frozen=True)
class ModelSettings:
    """What names a base and says which model is made of it."""

    bert_config_file: str | None = setting(None, "bert_config.json of the base.")
    vocab_file: str | None = setting(None, "vocab.txt of the base.")
    init_checkpoint: str | None = setting(
        None, "Checkpoint to start from: a BERT, a model with adapters, or model.ckpt-N of a run.")
    bert_dir: str | None = setting(
        None, "Folder of the base; fills vocab_file, bert_config_file and init_checkpoint.")
    do_lower_case: bool = setting(True, "Lower-case the text; false for cased bases.")
    max_seq_length: int = setting(128, "The most word pieces of an example; the rest is cut.")
    tuning: str = setting(
        "adapters", "What trains: adapters, adapters_drop, adapters_only, adapters_pooler, "
                    "adapters_norms_pooler, full, top_layers=K, layer_norm, bias or head.")
    adapter_method: str = setting(
        "houlsby", "A published method, which stands for --tuning and adapter flags that are not "
                   f"given: {', '.join(METHODS)}.")
    adapter_fn: str = setting(
        "feedforward_adapter", f"The kind of adapter: {', '.join(ADAPTERS)}.")
    adapter_size: int = setting(64, "Width of the bottleneck, rank of a LoRA, keys of a prefix.")
    adapter_placement: str = setting("both", "both, attention or feed_forward.")
    adapter_layers: str = setting("all", "Layers with adapters: all, or numbers as in 0,1,5.")
    adapter_activation: str = setting("gelu", "Activation in the adapters; gelu is the tanh form.")
    adapter_init_stddev: float = setting(1e-3, "Standard deviation of the adapters' first weights.")
    adapter_original_ln_before: bool = setting(
        False, "Adapters read what their LayerNorm gives (Pfeiffer's place; with feed_forward).")
    adapter_residual_before_ln: bool = setting(
        True, "With the former: the residual of an adapter is what LayerNorm was given.")
    adapter_scale: float = setting(
        1.0, "Factor of what a parallel adapter (its s) or a LoRA (alpha / r) adds.")
    precision: str = setting(
        "auto", "Type of the products: float32, bfloat16, or auto for what this CPU is faster in.")
    kernels: str = setting(
        "auto", "Between the products: plain formulas, fused kernels compiled here, or auto.")


@dataclasses.dataclass(frozen=True)
class TrainingSettings(ModelSettings):
    """What every training run is told; the first parts are BERT's flags, with its defaults.

    A command's own class adds what its task needs, and names in REQUIRED what must be given. What
    the names of its scores begin with is SCORES.
    """

    REQUIRED: ClassVar[tuple[str, ...]] = ("output_dir",)
    SCORES: ClassVar[str] = "eval_"

    output_dir: str | None = setting(None, "Folder for checkpoints and results.")
    do_train: bool = setting(False, "Train.")
    do_eval: bool = setting(False, "Evaluate on the dev set.")
    train_batch_size: int = setting(32, "Examples a training step.")
    eval_batch_size: int = setting(8, "Examples a batch of evaluation.")
    learning_rate: float = setting(5e-5, "Peak learning rate; adapters want 1e-4 to 3e-3.")
    save_checkpoints_steps: int = setting(1000, "Steps between checkpoints.")
    iterations_per_loop: int = setting(1000, "Steps between two looks of the host (TPU).")
    use_tpu: bool = setting(False, "Run on a TPU.")
    tpu_name: str | None = setting(None, "Name or grpc:// address of the Cloud TPU.")
    tpu_zone: str | None = setting(None, "Zone of the Cloud TPU.")
    gcp_project: str | None = setting(None, "Project of the Cloud TPU.")
    master: str | None = setting(None, "TensorFlow master address.")
    num_tpu_cores: int = setting(8, "TPU cores.")

    bias_correction: bool = setting(
        False, "Adam's bias correction, which BERT leaves out; small tasks want it near 1e-3.")
    seed: int = setting(0, "Fixes first weights, dropout and the order of the data.")
    eval_steps: int = setting(
        0, "Evaluate every so many training steps; 0: at the end, or with keep_best or "
           "early_stopping_patience after each epoch.")
    keep_best: bool = setting(
        False, "Keep the checkpoint that is best on dev by the task's first metric, and use it.")
    early_stopping_patience: int = setting(
        0, "Stop after so many evaluations without a better score; 0: never.")
    pack: str | None = setting(
        None, "A pack to start from, a folder or .zip, with the base that --bert_dir names.")
    init_pack: str | None = setting(
        None, "A pack of another task, on the base that --bert_dir names: training starts from its "
              "adapters and LayerNorms and from a new head.")
    pack_dir: str | None = setting(
        None, "Where training leaves its pack, a folder or a file that ends in .zip; "
              "OUTPUT_DIR/pack unless given.")
    pack_precision: str = setting("float32", "Type of the pack's weights: float32 or bfloat16.")
    pack_license: str = setting("", "License of the pack, as SPDX writes it.")
    pack_description: str = setting("", "A sentence on the pack for those who look for one.")

    log_steps: int = setting(
        100, "Steps between two lines of OUTPUT_DIR/metrics.jsonl, fewer in runs that would "
             "write less than 20 lines; 0: none.")
    profile_steps: str | None = setting(
        None, "FIRST,LAST: write a TensorFlow profile of these training steps for TensorBoard.")
    distribution: str = setting(
        "none", "Training in several processes that share each batch: mirrored (of this machine), "
                "multi_worker or parameter_server (of the cluster in TF_CONFIG).")
    num_replicas: int = setting(
        0, "Processes of --distribution=mirrored; 0: one a GPU.")
    distribution_timeout: int = setting(
        300, "Seconds after which a worker that waits for the others in a step gives up.")

    @property
    def evaluates_in_training(self):
        """Whether dev scores are wanted while the training goes on."""
        return bool(self.do_train and (
            self.eval_steps or self.keep_best or self.early_stopping_patience))


@dataclasses.dataclass(frozen=True)
class RunSettings(TrainingSettings):
    """What a run is told that learns a task from files of examples."""

    recipe: str = setting(
        "auto", "auto: choose learning rate, epochs, warm-up, bias correction, initial weights and "
                "whether the pooler trains, where no flag gives them. reference: the defaults of "
                "the reference adapter-bert.")
    guard: str = setting(
        "on", "on: restart a run that learns nothing, at most twice (another seed, then half the "
              "learning rate too). off: let it be.")
    train_pooler: bool = setting(
        False, "Train the pooler as well. The recipe auto does where the base's was never trained.")
    head_bias_init: str = setting(
        "zeros", "Initial bias of a classification or token head: zeros, or labels for the "
                 "log-frequencies of the labels. A regression starts at the mean score.")
    do_predict: bool = setting(False, "Predict the test set.")
    predict_batch_size: int = setting(8, "Examples a batch of prediction.")
    num_train_epochs: float = setting(3.0, "Passes over the training set.")
    warmup_proportion: float = setting(0.1, "Share of the steps with a rising learning rate.")
    train_batch_tokens: int = setting(
        0, "Fill a training batch with examples of like length to about so many word pieces, in "
           "the place of --train_batch_size examples; 0: off.")
    max_train_examples: int = setting(0, "Train on so many examples drawn at random; 0: all.")


@dataclasses.dataclass(frozen=True)
class Settings(RunSettings):
    """The flags of run_classifier.py."""

    REQUIRED = ("output_dir",)

    data_dir: str | None = setting(
        None, "Folder of the task's files: train, dev and test as .tsv, .csv, .jsonl, .json or "
              ".parquet; of GLUE .tsv; of NER .txt, .conll or .conllu.")
    data_file: str | None = setting(
        None, "Task custom: one file instead of --data_dir, which is split into train and dev.")
    dev_fraction: float = setting(
        0.1, "With --data_file: share of the examples for dev, stratified by label; the split does "
             "not depend on --seed.")
    test_fraction: float = setting(
        0.0, "With --data_file: share of the examples for test, for an unbiased score when dev "
             "chooses settings or checkpoints.")
    bad_rows: str = setting(
        "refuse", "Rows that cannot be used: refuse the file and list them, or skip them.")
    task_name: str | None = setting(
        None, "A GLUE task, NER (words and tags in columns), or custom for files of your own.")
    text_column: str | None = setting(
        None, "Task custom: column of the text, name or number; of the words, a number. Obvious "
              "names are recognised.")
    text_b_column: str | None = setting(None, "Task custom: column of a second text, if any.")
    label_column: str | None = setting(None, "Task custom: column of the label.")
    header: bool = setting(True, "Task custom: the first line names the columns.")
    label_type: str = setting(
        "classes", "Task custom: classes, number, or tokens (a label a word, as CoNLL's files).")


@dataclasses.dataclass(frozen=True)
class SquadSettings(RunSettings):
    """The flags of run_squad.py."""

    max_seq_length: int = setting(384, "The most word pieces of a window: question and context.")
    do_eval: bool = setting(False, "Score the answers to --predict_file.")
    do_predict: bool = setting(
        False, "Write the answers to --predict_file, and score them where it has answers.")

    train_file: str | None = setting(None, "JSON file to train on, as SQuAD's train-v1.1.json.")
    predict_file: str | None = setting(None, "JSON file to answer, as SQuAD's dev-v1.1.json.")
    doc_stride: int = setting(
        128, "How many word pieces of a long context a window begins after the one before it.")
    max_query_length: int = setting(64, "The most word pieces of a question; the rest is cut.")
    n_best_size: int = setting(
        20, "Starts and ends of a window that are combined, and answers in nbest_predictions.json.")
    max_answer_length: int = setting(30, "The most word pieces of an answer.")
    version_2_with_negative: bool = setting(
        False, "Questions may have no answer, as in SQuAD 2.0.")
    null_score_diff_threshold: float = setting(
        0.0, "With the former: no answer where it scores so much better than the best one.")
    verbose_logging: bool = setting(False, "Accepted, since BERT has it; changes nothing.")
    bad_answers: str = setting(
        "refuse", "Answers that are not at their offset: refuse the file, or skip them.")


PATHS = ("data_dir", "data_file", "train_file", "predict_file", "bert_config_file", "vocab_file",
         "output_dir", "init_checkpoint", "bert_dir", "pack", "init_pack", "pack_dir")
LEAST = {
    **dict.fromkeys(("max_seq_length", "train_batch_size", "eval_batch_size", "predict_batch_size",
                     "save_checkpoints_steps", "iterations_per_loop", "num_tpu_cores",
                     "doc_stride", "n_best_size", "max_answer_length",
                     "max_predictions_per_seq", "num_train_steps", "max_eval_steps",
                     "distribution_timeout"), 1),
    **dict.fromkeys(("seed", "eval_steps", "log_steps", "early_stopping_patience",
                     "max_train_examples", "train_batch_tokens", "learning_rate",
                     "warmup_proportion", "num_warmup_steps", "max_query_length",
                     "num_replicas", "dev_fraction", "test_fraction"), 0)}

MOST = {"seed": 2**31 - 1, "adapter_size": checks.MOST_ADAPTER_SIZE,
        "n_best_size": checks.MOST_N_BEST, **dict.fromkeys(
            ("doc_stride", "max_query_length", "max_answer_length"), checks.MOST_POSITIONS)}
ABOVE, BELOW = {"num_train_epochs": 0}, {"warmup_proportion": 1, "dev_fraction": 1,
                                         "test_fraction": 1}


def check(settings):
    """Refuses settings that no run can have, before anything is read or written.

    Raises:
      InputError: with the flag and what it may be.
    """
    for name in settings.REQUIRED:
        if not getattr(settings, name):
            raise InputError(f"--{name} is missing")
    flags = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    jobs = [name for name in ("do_train", "do_eval", "do_predict") if name in flags]
    if not any(map(flags.get, jobs)):
        raise InputError(f"nothing to do: give {' or '.join(f'--{name}' for name in jobs)}")
    for name, value in flags.items():
        check_value(name, value)
    for name, known in CHOICES.items():
        if hasattr(settings, name) and getattr(settings, name) not in known:
            raise InputError(f"--{name}={getattr(settings, name)}: not one of {', '.join(known)}")
    if 0 < settings.train_batch_tokens < settings.max_seq_length:
        raise InputError(f"--train_batch_tokens={settings.train_batch_tokens}: must hold an "
                         f"example of --max_seq_length={settings.max_seq_length}")
    profile_span(settings.profile_steps)
    check_data(settings)
    check_pack(settings)
    check_tpu(settings)
    check_distribution(settings)


def profile_span(text):
    """(first, last) of --profile_steps; None where it is not given; InputError if it is no span."""
    if text is None:
        return None
    first, _, last = text.partition(",")
    if not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
        raise InputError(f"--profile_steps={text}: give the first and the last step, as in 20,30")
    return int(first), int(last)


def check_data(settings):
    """InputError where not exactly one of --data_dir and --data_file names the data of a task."""
    if not hasattr(settings, "data_file"):
        return
    if not settings.task_name and not settings.data_file:
        raise InputError("--task_name is missing")
    if bool(settings.data_dir) == bool(settings.data_file):
        raise InputError("--data_dir and --data_file: name one of them" if settings.data_dir
                         else "--data_dir is missing; or name one file with --data_file")
    if settings.dev_fraction + settings.test_fraction >= 1:
        raise InputError(f"--dev_fraction={settings.dev_fraction:g} and --test_fraction="
                         f"{settings.test_fraction:g} leave nothing to train on")


def check_pack(settings):
    """InputError where --pack or --init_pack lacks its base or meets another start."""
    given = {name: getattr(settings, name) for name in ("pack", "init_pack")
             if getattr(settings, name)}
    for name, path in given.items():
        if len(given) == 2 or settings.init_checkpoint or not settings.bert_dir:
            raise InputError(f"--{name}={path}: name the folder of its base with --bert_dir, and "
                             "give no --init_checkpoint and no other pack")
    if settings.init_pack and not settings.do_train:
        raise InputError(f"--init_pack={settings.init_pack}: training starts from it; give "
                         "--do_train, or leave it out")


def check_tpu(settings):
    """InputError where --use_tpu lacks a name or has batches that its cores cannot share."""
    if settings.use_tpu and not (settings.tpu_name or settings.master):
        raise InputError("--use_tpu: say where it is, by --tpu_name or --master")
    if settings.use_tpu and any(getattr(settings, name) % settings.num_tpu_cores for name in (
            "train_batch_size", "eval_batch_size", "predict_batch_size")):
        raise InputError("--use_tpu: batch sizes must be multiples of --num_tpu_cores="
                         f"{settings.num_tpu_cores}")
    if settings.use_tpu and settings.train_batch_tokens:
        raise InputError("--train_batch_tokens: a TPU wants batches of one shape; "
                         "give --train_batch_size")
    if settings.use_tpu and settings.profile_steps:
        raise InputError("--profile_steps: a TPU is profiled from TensorBoard, see docs/tpu.md; "
                         "leave it out")


def check_distribution(settings):
    """InputError where --distribution meets what is not distributed."""
    if settings.distribution == "none":
        return
    if settings.use_tpu or settings.master:
        raise InputError(f"--distribution={settings.distribution}: is for CPUs and GPUs; a TPU "
                         "shares batches by itself, so leave --use_tpu and --master out")
    if not settings.do_train:
        raise InputError(f"--distribution={settings.distribution}: distributes training; give "
                         "--do_train, or leave it out")


def check_value(name, value):
    """InputError where a flag's value alone is wrong."""
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"--{name}={value}: must be a finite number")
    if name in PATHS and value:
        check_path(name, value)
    if name in LEAST and value < LEAST[name]:
        raise InputError(f"--{name}={value}: must be at least {LEAST[name]}")
    if name in MOST and value > MOST[name]:
        raise InputError(f"--{name}={value}: must be at most {MOST[name]}")
    if name in ABOVE and not value > ABOVE[name]:
        raise InputError(f"--{name}={value}: must be above {ABOVE[name]}")
    if name in BELOW and not value < BELOW[name]:
        raise InputError(f"--{name}={value}: must be below {BELOW[name]}")


def check_path(name, value):
    """InputError where TensorFlow could not use a path."""
    if paths.is_remote(value):
        check_remote(name, value)
    if value.startswith("~"):
        raise InputError(f"--{name}={value}: the shell left the ~ as it is; write $HOME")
    if not value.isprintable() or "\ufffd" in value.encode("utf-8", "replace").decode():
        raise InputError(f"--{name}={value!r}: name a path of printable UTF-8 characters")
    if name in ("output_dir", "results", "bert_dir", "init_checkpoint"):
        try:
            paths.refuse_patterns(paths.absolute(value))
        except InputError as error:
            raise InputError(f"--{name}={error}") from error


def check_remote(name, value):
    """InputError where a path of another file system is not one that can be used."""
    if not paths.is_known(value):
        raise InputError(f"--{name}={value}: TensorFlow knows no such file system here; name a "
                         "path of this machine, or gs://BUCKET/PATH")
    if name in ("pack", "init_pack"):
        raise InputError(f"--{name}={value}: packs are read from this machine; copy it here first")


def adapter_config(settings):
    """The AdapterConfig of the adapter flags; None in a tuning mode without adapters.

    Raises:
      InputError: a flag that no adapter can have.
    """
    from adapter_bert.bert import adapters, tuning_modes
    if not tuning_modes.uses_adapters(settings.tuning):
        return None
    try:
        return adapters.AdapterConfig(
            size=settings.adapter_size, placement=settings.adapter_placement,
            layers=_layers(settings.adapter_layers), activation=settings.adapter_activation,
            init_stddev=settings.adapter_init_stddev, adapter_fn=settings.adapter_fn,
            original_ln_before=settings.adapter_original_ln_before,
            residual_before_ln=settings.adapter_residual_before_ln,
            scale=settings.adapter_scale)
    except ValueError as error:
        raise InputError(str(error)) from error


def with_method(settings, given):
    """The settings with what --adapter_method stands for, and the names now given.

    Args:
      settings: ModelSettings or a class made of it, checked.
      given: names of the settings that a person gave, which a method does not change.

    Raises:
      InputError: the tuning mode that was given has no adapters.
    """
    if "adapter_method" not in given:
        return settings, given
    from adapter_bert.bert import adapters, tuning_modes
    if "tuning" in given and not tuning_modes.uses_adapters(settings.tuning):
        raise InputError(f"--adapter_method={settings.adapter_method}: --tuning={settings.tuning} "
                         "has no adapters; give one of the two")
    flags = {name if name in ("tuning", "adapter_fn") else f"adapter_{name}": value
             for name, value in adapters.METHODS[settings.adapter_method].items()}
    flags = {name: value for name, value in flags.items() if name not in given}
    return dataclasses.replace(settings, **flags), frozenset(given) | flags.keys() - CHOSEN


# What a method stands for and a recipe may choose otherwise.
CHOSEN = {"tuning", "adapter_init_stddev"}


def adapter_flags(config):
    """{flag: value} that `adapter_config` makes an AdapterConfig of."""
    flags = {f"adapter_{name.removeprefix('adapter_')}": value
             for name, value in dataclasses.asdict(config).items()}
    layers = "all" if config.layers is None else ",".join(map(str, config.layers))
    return {**flags, "adapter_layers": layers}


def _layers(text):
    if text == "all":
        return None
    try:
        return tuple(sorted({int(layer) for layer in text.split(",")}))
    except ValueError as error:
        raise InputError(f"--adapter_layers={text}: give all, or numbers as in 0,1,5") from error
