"""BERT's optimizer under the name that BERT users import; the code is in adapter_bert.bert."""
from adapter_bert.bert.optimization import *  # noqa: F403
