"""BERT's model under the name that BERT users import; the code is in adapter_bert.bert."""
from adapter_bert.bert.modeling import *  # noqa: F403
