"""Adapters for BERT: a task trains a few per cent of the model and is carried away as one file."""

__version__ = "0.1.0"


def load(bert_dir, pack, **options):
    """A task ready to predict, from a base and a pack.

    Args:
      bert_dir: folder of the base, in Google's form.
      pack: path of the pack, a folder or a .zip.
      **options: further arguments of packs.predictor.Predictor.

    Returns:
      packs.predictor.Predictor: `load(bert_dir, pack).predict(["a text", "another"])`.

    Raises:
      errors.InputError: the pack is not sound, or was made on another base.
    """
    from adapter_bert.packs.predictor import Predictor  # imports TensorFlow
    return Predictor(bert_dir, pack, **options)
