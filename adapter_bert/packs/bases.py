"""Which base a pack stands on, and whether a folder holds that one."""
from adapter_bert import files, network
from adapter_bert.bert import checkpoint_io
from adapter_bert.errors import InputError
from adapter_bert.packs import manifest as manifests


def base_of(bert_dir):
    """The manifest.Base of a BERT folder in Google's form.

    Raises:
      InputError: there is none.
    """
    located = checkpoint_io.locate(bert_dir)
    return manifests.Base(
        checkpoint_io.name_of(located.init_checkpoint),
        checkpoint_io.fingerprint(located.init_checkpoint),
        files.sha256(located.vocab_file),
        network.read_config(located.bert_config_file),
    )


def check_base(found, manifest):
    """InputError where a base is not the one that a pack was made on; its name does not count.

    Args:
      found: manifest.Base of the base that is there.
      manifest: manifest.Manifest of the pack.
    """
    wanted = manifest.base
    differing = [words for name, words in (
        ("fingerprint", "weights"), ("vocab", "vocabulary"), ("config", "config"))
        if getattr(wanted, name) != getattr(found, name)]
    if differing:
        raise InputError(
            f"the pack of {manifest.task} was made on {wanted.name} (fingerprint "
            f"{wanted.fingerprint}), and this base is {found.name} (fingerprint "
            f"{found.fingerprint}), with another {' and '.join(differing)}; give the base that it "
            "was made on")
