"""Whether a base's pooler was ever trained.

Google's BERTs come with a pooler trained on next-sentence prediction. Sentence encoders (the demo's
base among them) average their tokens instead, so their pooler still has its random initial weights:
its outputs are small and nearly the same for every text. Adapters below a frozen one often learn
nothing; trained together with the adapters it costs 0.6 % of the parameters.
"""
import numpy as np
import tensorflow.compat.v1 as tf

from adapter_bert import network
from adapter_bert.bert import checkpoint_io, modeling
from adapter_bert.data import batches

ROWS = 32
# Mean size of a pooled value (a tanh, so below 1). A fresh pooler gives up to 0.35 (weights of
# standard deviation 0.02 on 768 normalised values), next-sentence prediction drives most values
# towards -1 or 1.
LEAST_SIZE = 0.4


def is_trained(prefix: str | None, bert_config: modeling.BertConfig, split) -> bool:
    """Whether the pooler of a base was trained.

    Args:
      prefix: checkpoint of the base; None where training starts from random weights.
      bert_config: BertConfig of the base.
      split: data.Split whose first rows are read, in case the weights do not tell.
    """
    if prefix is None or not checkpoint_io.pooler_is_trained(prefix):
        return False
    if set(checkpoint_io.Checkpoint(prefix).dtypes.values()) != {tf.float32}:
        return True   # not measured: training refuses other types
    return pooled_size(prefix, bert_config, split) >= LEAST_SIZE


def pooled_size(prefix: str, bert_config: modeling.BertConfig, split) -> float:
    """Mean absolute pooled output of the base for the first rows of a split, from 0 to 1.

    Args:
      prefix, bert_config, split: as for `is_trained`.
    """
    with tf.Graph().as_default(), tf.Session() as session:
        rows = batches.evaluation_batches(split.path, split.spec, min(split.examples, ROWS), ROWS,
                                          bert_config.max_position_embeddings, fixed=False)
        features = tf.data.make_one_shot_iterator(rows).get_next()
        model = modeling.BertModel(
            bert_config, False, features["input_ids"], features["input_mask"],
            features["segment_ids"], formulas=modeling.plain_formulas(), only_pooled=True)
        network.start_from(prefix, {variable.op.name: variable
                                    for variable in tf.global_variables()})
        session.run(tf.global_variables_initializer())
        return float(np.abs(session.run(model.get_pooled_output())).mean())
