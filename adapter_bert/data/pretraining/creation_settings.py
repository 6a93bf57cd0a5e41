"""What create_pretraining_data.py is told, each with its default and its flag's help text."""
import dataclasses

from adapter_bert.errors import InputError
from adapter_bert.fields import setting


@dataclasses.dataclass(frozen=True)
class PretrainingSettings:
    """The flags of create_pretraining_data.py, BERT's with BERT's defaults."""

    input_file: str | None = setting(
        None, "Text files, globs with commas between them: a sentence a line, a blank line between "
              "documents.")
    output_file: str | None = setting(None, "TFRecord files to write, commas between them.")
    vocab_file: str | None = setting(None, "vocab.txt of the base.")
    do_lower_case: bool = setting(True, "Lower-case the text; false for cased bases.")
    do_whole_word_mask: bool = setting(False, "Mask all pieces of a word or none.")
    max_seq_length: int = setting(128, "Word pieces of an instance, [CLS] and [SEP] among them.")
    max_predictions_per_seq: int = setting(20, "The most masked pieces of an instance.")
    random_seed: int = setting(12345, "The same seed and files give the same instances.")
    dupe_factor: int = setting(10, "Times that the text is gone through, each masked anew.")
    masked_lm_prob: float = setting(0.15, "Share of an instance's pieces that is masked.")
    short_seq_prob: float = setting(
        0.1, "Share of the documents of which instances are shorter than max_seq_length.")


_LEAST = {"max_seq_length": 5, "max_predictions_per_seq": 1, "random_seed": 0, "dupe_factor": 1}
_MOST = {"max_seq_length": 2**16, "random_seed": 2**63 - 1}
_PROBABILITIES = ("masked_lm_prob", "short_seq_prob")


def check(settings):
    """Refuses settings that cannot be, before anything is read or written.

    Raises:
      InputError: with the flag and what it may be.
    """
    for name in ("input_file", "output_file", "vocab_file"):
        if not getattr(settings, name):
            raise InputError(f"--{name} is missing")
    for name, least in _LEAST.items():
        if getattr(settings, name) < least:
            raise InputError(f"--{name}={getattr(settings, name)}: must be at least {least}")
    for name, most in _MOST.items():
        if getattr(settings, name) > most:
            raise InputError(f"--{name}={getattr(settings, name)}: must be at most {most}")
    for name in _PROBABILITIES:
        if not 0 <= getattr(settings, name) <= 1:
            raise InputError(f"--{name}={getattr(settings, name)}: must be from 0 to 1")
    if settings.max_predictions_per_seq > settings.max_seq_length - 3:
        raise InputError(f"--max_predictions_per_seq={settings.max_predictions_per_seq}: an "
                         f"instance of --max_seq_length={settings.max_seq_length} has "
                         f"{settings.max_seq_length - 3} pieces besides [CLS] and [SEP]")
