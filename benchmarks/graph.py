"""A model on a base, ready to run steps: what the benchmarks of ours measure."""
import tensorflow.compat.v1 as tf

from adapter_bert import compute, network
from adapter_bert.bert import adapters, optimization, tuning_modes
from adapter_bert.kinds import heads
from adapter_bert.train import initial_values


def add_options(parser):
    """The options of `build` for an argument parser."""
    parser.add_argument("--bert_dir", required=True)
    parser.add_argument("--tuning", default="adapters")
    parser.add_argument("--adapter_layers", help="numbers as in 3,4,5; all where it is not given")
    parser.add_argument("--kernels", default="auto")
    parser.add_argument("--precision", default="auto")


def build(options, batch, rows, is_training=True):
    """Builds the graph that a run would build for these features.

    Args:
      options: parsed `add_options`.
      batch: {name: tensor}, the features.
      rows: examples a batch.
      is_training: whether the op is a training step or a prediction.

    Returns:
      The session, the op to run, the network.Model and the compute.Engine.
    """
    tf.train.get_or_create_global_step()
    chosen = compute.choose_engine(options.kernels, False, rows)
    model = network.Model(
        network.read_config(f"{options.bert_dir}/bert_config.json"), "classification", 2,
        options.tuning, adapter_of(options),
        compute.choose_precision(options.precision, False))
    output, variables = network.towers(model, batch, chosen.towers, is_training,
                                        chosen.formulas(trains=is_training))
    wanted = output.predictions["probabilities"]
    if is_training:
        wanted = optimization.create_optimizer(
            heads.batch_loss(output), 1e-4, 100_000, 100, bias_correction=True)
    start = initial_values.Start(None, f"{options.bert_dir}/bert_model.ckpt", "")
    initial_values.scaffold(list(variables.values()), start, fresh_allowed=True)
    session = tf.Session(config=chosen.session_config())
    session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
    return session, wanted, model, chosen


def adapter_of(options):
    """The AdapterConfig of parsed `add_options`; None in a tuning mode without adapters."""
    if not tuning_modes.uses_adapters(options.tuning):
        return None
    layers = options.adapter_layers and tuple(map(int, options.adapter_layers.split(",")))
    return adapters.AdapterConfig(layers=layers)
