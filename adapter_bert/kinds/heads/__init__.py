"""What stands on top of BERT: logits, losses and predictions, one function a kind of head."""
from collections.abc import Callable
from typing import NamedTuple

from adapter_bert.kinds.heads import masked_lm
from adapter_bert.kinds.heads.labels import classification, regression
from adapter_bert.kinds.heads.output import Loss, Output, batch_loss, shared_loss, variable_shapes
from adapter_bert.kinds.heads.spans import spans
from adapter_bert.kinds.heads.tokens import best_classes, token_logits, tokens

__all__ = ["HEADS", "Head", "Loss", "Output", "batch_loss", "best_classes", "shared_loss",
           "token_logits", "width"]


class Head(NamedTuple):
    """A kind of head.

    build: function (bert, features, width, dropout) -> Output: of a modeling.BertModel, the
      features of a batch, with labels or without, the count of outputs and a function (x, rate).
    width: the count of outputs; None where each label has one.
    variable_shapes: function (BertConfig, width) -> {name: shape tuple} of what `build` makes.
    is_berts: whether it is BERT's own, which a base may come with.
    only_pooled: whether it reads nothing but the pooled output, see modeling.BertModel.
    """

    build: Callable
    width: int | None = None
    variable_shapes: Callable = variable_shapes
    is_berts: bool = False
    only_pooled: bool = False


HEADS = {
    "classification": Head(classification, only_pooled=True),
    "masked_lm": Head(masked_lm.masked_lm, masked_lm.WIDTH, masked_lm.variable_shapes,
                      is_berts=True),
    "regression": Head(regression, width=1, only_pooled=True),
    "spans": Head(spans, width=2),
    "tokens": Head(tokens),
}


def width(kind, labels):
    """The count of outputs of a kind of head for these labels."""
    return HEADS[kind].width or len(labels)
