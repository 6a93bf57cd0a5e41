"""Where meta-learning and fine-tuning start: a plain base, or what meta-training left."""
import dataclasses
import os

from adapter_bert import compute
from adapter_bert.bert import checkpoint_io, modeling, tokenization
from adapter_bert.errors import InputError
from adapter_bert.kinds import generic_task, heads
from adapter_bert.network import Model, read_config
from adapter_bert.packs import store
from adapter_bert.research.meta.domains import Dataset, check_labels
from adapter_bert.research.meta.learner import Learner
from adapter_bert.train import initial_values, resolve
from adapter_bert.train.run_packs import unpack
from adapter_bert.train.settings import ModelSettings, adapter_config, with_method

ROWS = 32   # of a task in one run of the graph


@dataclasses.dataclass(frozen=True)
class Opened:
    """A start, checked.

    settings: with what the start fixes filled in.
    trained: prefix of the checkpoint that was learned before; None for a plain base.
    """

    settings: ModelSettings
    bert_config: modeling.BertConfig
    tokenizer: tokenization.FullTokenizer
    trained: str | None
    start: initial_values.Start
    engine: compute.Engine
    dataset: Dataset

    @property
    def model(self):
        """The network.Model of the settings and of the data's labels."""
        width = heads.width("classification", self.dataset.labels)
        return Model(self.bert_config, "classification", width, self.settings.tuning,
                     adapter_config(self.settings), self.settings.precision)

    @property
    def has_head(self):
        """Whether the start knows the labels; a plain base guesses."""
        return any(map(initial_values.has_head, self.start.prefixes))

    def learner(self, inner, tasks, seed):
        """A Learner of `tasks` tasks from here; the seed fixes the first weights of what is new."""
        return Learner(self.model, self.start, self.engine, inner, tasks, seed)


def open_start(settings, given, dataset):
    """The Opened of settings and data.

    Args:
      settings: with the fields of ModelSettings, bert_model, pack and output_dir.
      given: names of the settings that a person gave.
      dataset: domains.Dataset.

    Raises:
      InputError: a flag, file or folder that does not fit; other labels than those of the start.
    """
    settings, given = with_method(settings, given)
    settings = dataclasses.replace(settings, precision=compute.choose_precision(
        settings.precision, use_tpu=False))
    if settings.bert_model and os.path.isdir(settings.bert_model):
        settings = dataclasses.replace(settings, bert_dir=settings.bert_model, bert_model=None)
    trained = _trained(settings)
    located = checkpoint_io.locate(settings.bert_dir) if settings.bert_dir else None
    recorded = checkpoint_io.recorded_run(trained)
    task = generic_task("text", None, "label")
    if recorded:
        settings, _ = resolve.with_recorded(
            settings, given, dataclasses.replace(task, name=recorded["flags"]["task_name"]),
            recorded)
    if located:
        settings = resolve.fill(settings, given, dataclasses.asdict(located))
    resolve.check_base_files(settings, task)
    config = read_config(settings.bert_config_file)
    resolve.check_model(settings, config)
    if recorded:
        resolve.refuse_other_base(settings, config, recorded)
    start = initial_values.find_start(trained or settings.init_checkpoint, config.to_dict(),
                                   located and located.init_checkpoint)
    _check_head(start, dataset)
    return Opened(settings, config, resolve.open_tokenizer(settings, config), trained, start,
                  compute.choose_engine(settings.kernels, False, ROWS), dataset)


def _trained(settings):
    """Prefix of the checkpoint that --bert_model or --pack stands for; None for neither."""
    if settings.pack:
        pack = store.read(settings.pack)
        return unpack(pack, os.path.join(settings.output_dir, "from_pack",
                                         pack.manifest.weights.sha256[:16]))
    prefix = settings.bert_model and settings.bert_model.removesuffix(".index")
    if prefix and not os.path.exists(f"{prefix}.index"):
        raise InputError(f"--bert_model={prefix}: neither the folder of a base nor the prefix of a "
                         "checkpoint, as OUTPUT_DIR/ckpt/meta.epoch-1.step-10")
    return prefix


def _check_head(start, dataset):
    """InputError where a start's head, if it has one, is of other labels or nobody knows which."""
    if prefix := next(filter(initial_values.has_head, start.prefixes), None):
        recorded = checkpoint_io.recorded_run(prefix)
        if not recorded:
            raise InputError(
                f"{prefix}: has a head, but no {checkpoint_io.RUN_FILE} beside it says which "
                "labels it answers with; copy that file along with it"
            )
        check_labels(dataset, recorded["labels"] or (), prefix)
