"""Casings that a base contradicts."""
import pytest

from adapter_bert.data import casing
from adapter_bert.errors import InputError

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "<S>", "<T>"]

@pytest.mark.parametrize("tokens,lower", [
    (["anna", "##s", "\u00df", "."], True), (["anna", "Anna"], False),
    (["\u4e2d", "1", "."], False),
    (["\u0430\u043d\u043d\u0430"], True), (["\u0430\u043d\u043d\u0430", "\u0410"], False)])
def test_the_case_of_a_vocabulary_is_measured(tmp_path, tokens, lower):
    assert casing.is_lower_case([*SPECIAL, *tokens]) == lower
    path = str(tmp_path / "vocab.txt")
    casing.check_casing(True, path, [*SPECIAL, *tokens])
    if lower:
        with pytest.raises(InputError, match="no token of .*vocab.txt has a capital.*=true"):
            casing.check_casing(False, path, [*SPECIAL, *tokens])
    else:
        casing.check_casing(False, path, [*SPECIAL, *tokens])


@pytest.mark.parametrize("says,other", [(True, False), (False, True)])
def test_the_case_that_a_tokenizer_says(tmp_path, says, other):
    (tmp_path / "tokenizer_config.json").write_text(f'{{"do_lower_case": {str(says).lower()}}}')
    path = str(tmp_path / "vocab.txt")
    casing.check_casing(says, path, ["A", "a"])
    with pytest.raises(InputError, match=f"says {says}; give --do_lower_case={str(says).lower()}"):
        casing.check_casing(other, path, ["A", "a"])
