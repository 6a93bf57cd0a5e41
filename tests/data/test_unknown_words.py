"""When a person is warned of [UNK]."""
import pytest

from adapter_bert import kinds
from adapter_bert.bert import tokenization
from adapter_bert.data import unknown_words


@pytest.fixture(name="tokenizer")
def fixture_tokenizer(tiny_dir):
    return tokenization.FullTokenizer(f"{tiny_dir}/vocab.txt")


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.parametrize("make", [
    str, lambda text: kinds.Example(text, None, "a"), lambda text: kinds.Example("good", text, "a"),
    lambda text: kinds.Sentence(tuple(text.split()), None),
    lambda text: kinds.SquadExample("1", text, "good film", (), False)])
def test_examples_of_all_kinds(tokenizer, caplog, make):
    unknown_words.warn_of_unknown_words(tokenizer, [make("good film")] * 3000, "train")
    assert not warnings(caplog)
    unknown_words.warn_of_unknown_words(tokenizer, [make("Guter Film , good")] * 3000, "train")
    (warning,) = warnings(caplog)
    assert warning.startswith("train: ") and "word pieces are [UNK]" in warning


def test_the_share(tokenizer, caplog):
    unknown_words.warn_of_share(5, 100, "x")
    unknown_words.warn_of_share(0, 0, "x")
    assert not warnings(caplog)
    unknown_words.warn_of_share(6, 100, "x")
    assert warnings(caplog)[0].startswith("x: 6 % of the word pieces are [UNK]")
