"""BERT's tokenizer under the name that BERT users import; the code is in adapter_bert.bert."""
from adapter_bert.bert.tokenization import *  # noqa: F403
