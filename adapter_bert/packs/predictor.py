"""Predictions from a base and a pack alone, in one session that takes other packs as well.

Letters: B batch, T tokens.
"""
import functools

import tensorflow.compat.v1 as tf

import tokenization
from adapter_bert import base, engine, network
from adapter_bert.errors import InputError
from adapter_bert.packs import store
from adapter_bert.packs.answers import ANSWERS, check_head
from adapter_bert.packs.bases import base_of, check_base
from adapter_bert.pipeline import arrays

BATCH_SIZE = 32


class Predictor:
    """A base with a task's pack, for as long as it lives.

    Args:
      bert_dir: folder of the base, in Google's form.
      pack: path of a pack, or a store.Pack.
      precision: "auto", "float32" or "bfloat16", as the flag of run_classifier.py.
      kernels: "auto", "plain" or "fused", likewise.

    Attributes:
      manifest: manifest.Manifest of the pack.

    Raises:
      InputError: the pack is not sound, or was made on another base.
    """

    def __init__(self, bert_dir, pack, precision="auto", kernels="auto"):
        pack = store.opened(pack)
        check_head(pack.manifest)
        store.warn(pack.manifest, pack.manifest.task)
        located, self.manifest = base.locate(bert_dir), pack.manifest
        check_base(base_of(bert_dir), pack.manifest)
        self._tokenizer_of = functools.lru_cache(
            functools.partial(tokenization.FullTokenizer, located.vocab_file))
        self._precision = engine.choose_precision(precision, use_tpu=False)
        chosen = engine.choose_engine(kernels, use_tpu=False, rows=BATCH_SIZE)
        with tf.Graph().as_default():
            self._build(located.init_checkpoint, chosen)
        self._put(pack)

    def _build(self, checkpoint, chosen):
        """The graph, and a session in which all but the pack's own weights have their values."""
        tf.train.get_or_create_global_step()
        model = self.manifest.model(self._precision)
        self._inputs = {name: tf.placeholder(tf.int32, [None, None], name)
                        for name in ("input_ids", "input_mask", "segment_ids")}
        output, variables = network.towers(model, self._inputs, chosen.towers, False,
                                           chosen.formulas(trains=False))
        self._outputs = output.predictions
        own = {name: variables[name] for name in self.manifest.shapes()}
        network.start_from(checkpoint, {name: variable for name, variable in variables.items()
                                        if name not in own})
        self._values = {name: tf.placeholder(tf.float32, variable.shape)
                        for name, variable in own.items()}
        self._assign = tf.group([variable.assign(self._values[name])
                                 for name, variable in own.items()])
        self._session = tf.Session(config=chosen.session_config())
        self._session.run([tf.global_variables_initializer(), tf.local_variables_initializer()])

    def use(self, pack):
        """Puts another task's pack in the place of the present one.

        Args:
          pack: path of a pack, or a store.Pack, of the same base, adapters and kind of head.

        Raises:
          InputError: the pack is not sound, or of another form.
        """
        pack = store.opened(pack)
        now, then = pack.manifest, self.manifest
        if now.base != then.base or now.model() != then.model():
            raise InputError(f"the pack of {now.task} has another base, adapters or head than that "
                             f"of {then.task}; load it with adapter_bert.load")
        self._put(pack)

    def _put(self, pack):
        self._session.run(self._assign, {self._values[name]: value
                                         for name, value in pack.weights.items()})
        self.manifest = pack.manifest

    def predict(self, texts):
        """What the pack's task says of texts.

        Args:
          texts: list of str; of pairs (str, str) for a task of pairs, and (question, context) for
            one of spans; of tokens also of lists of words, which are not parted any further. A
            long one is cut to the task's max_seq_length, but for a context, which is read whole.

        Returns:
          A list with an answer for each: an answers.Prediction, the score of a regression as a
          float, of tokens the list of answers.Entity, or of spans an answers.Answer.

        Raises:
          InputError: an entry that is none of these.
        """
        if isinstance(texts, str) or not hasattr(texts, "__iter__"):
            raise InputError("predict takes a list of texts; write predict([text])")
        kind = ANSWERS[self.manifest.head]
        tokenizer = self._tokenizer_of(self.manifest.do_lower_case)
        found = []
        for rows, asked in kind.rows(self.manifest, tokenizer, list(texts)):
            found += kind.answers(self.manifest, asked, self._run(rows))
        return found

    def _run(self, rows):
        """The head's predictions for each pair (input_ids, segment_ids): {name: array}."""
        found = [None] * len(rows)
        for places in arrays.by_length([len(ids) for ids, _ in rows], BATCH_SIZE):
            batch = arrays.padded([rows[place] for place in places])
            outputs = self._session.run(self._outputs, {
                self._inputs[name]: value for name, value in batch.items()})
            for number, place in enumerate(places):
                found[place] = {name: values[number] for name, values in outputs.items()}
        return found

    def close(self):
        """Ends the session and frees its memory."""
        self._session.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
