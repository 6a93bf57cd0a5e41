"""The paper's figure 6: a trained model's score without the adapters of a span of layers.

Nothing is trained again. An adapter whose second weights and biases are zero adds nothing, so one
graph and one session do for all spans.

Letters: L layers.
"""
import itertools
import re

import numpy as np

from adapter_bert.packs import store
from adapter_bert.packs.predictor import Predictor
from adapter_bert.research.report import paper_scores
from adapter_bert.train import labelling

_LAST_WEIGHTS = re.compile(r"/layer_(\d+)/.*/adapters/(?:weights2|biases2)$")


def removed_spans(run, pack_path, targets, metric):
    """The dev score with every span of layers' adapters removed.

    Args:
      run: train.resolve.Run of a task of texts with adapters.
      pack_path: path of the pack that it left.
      targets: list with what is right for each dev example.
      metric: name of the metric.

    Returns:
      List of [first layer, last layer, points], L (L + 1) / 2 of them, both layers included.
    """
    texts = [one.text_a if one.text_b is None else (one.text_a, one.text_b)
             for one in labelling.read(run, "dev")]
    pack, index, found = store.read(pack_path), run.task.label_index, []
    with Predictor(run.settings.bert_dir, pack, run.settings.precision,
                   run.settings.kernels) as predictor:
        for first, last in spans_of(run.bert_config.num_hidden_layers):
            predictor.use(without(pack, first, last))
            answers = predictor.predict(texts)
            predicted = [index[answer.label] if index else answer for answer in answers]
            points = paper_scores.scorer(run.task.kind, metric, targets, predicted)
            found.append([first, last, float(points(np.ones([1, len(targets)]))[0])])
    return found


def spans_of(num_layers):
    """Every (first, last) with 0 <= first <= last < L."""
    return list(itertools.combinations_with_replacement(range(num_layers), 2))


def without(pack, first, last):
    """A store.Pack whose adapters of the layers from first to last add nothing."""
    def is_removed(name):
        match = _LAST_WEIGHTS.search(name)
        return bool(match) and first <= int(match[1]) <= last
    return pack._replace(weights={name: np.zeros_like(value) if is_removed(name) else value
                                  for name, value in pack.weights.items()})
