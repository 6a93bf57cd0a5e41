"""BERT (Devlin et al., 2018) as short functions over weights that the caller may inject.

Letters: B batch, T tokens, D hidden, N heads, H head width (D = N * H), F feed-forward,
P keys of a prefix, V vocabulary.

    tokens          [CLS]  a  pack ##et  of  tea  [SEP]  tea  ?  [SEP]  [PAD]
    input_ids         101 ..                       102   ..      102      0     [B, T]
    token_type_ids      0  0    0    0    0   0     0     1   1    1      0     [B, T]
    input_mask          1  1    1    1    1   1     1     1   1    1      0     [B, T]

Every weight is asked for with `tf.get_variable` under its name in Google's checkpoints, so a
`custom_getter` of the surrounding `tf.variable_scope` decides what arrives: a trainable variable, a
frozen one, a cast copy, any tensor. Where a weight has the shape W, a tensor [B] + W is taken too:
then each row of the batch has its own weight (embedding tables excepted).

Methods (adapters and their kin) attach at named sites, see `Site`. Without one this is plain BERT.

What is computed is a set of `Formulas`, plain ones unless faster ones are handed in. Activations
have the type that is asked for, float32 or bfloat16.
"""
import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import tensorflow.compat.v1 as tf


def gelu(x):
    """0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), the form of Google's BERT."""
    return 0.5 * x * (1.0 + tf.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))


def gelu_erf(x):
    """0.5 x (1 + erf(x / sqrt(2))), GELU as Hendrycks & Gimpel (2016) define it."""
    return 0.5 * x * (1.0 + tf.math.erf(x / math.sqrt(2.0)))


ACTIVATIONS: dict[str, Callable] = {
    "gelu": gelu,
    "gelu_erf": gelu_erf,
    "relu": tf.nn.relu,
    "swish": tf.nn.swish,
    "tanh": tf.tanh,
    "linear": tf.identity,
}

# Keys that some of Google's bert_config.json files hold and that no graph reads.
UNUSED_CONFIG_KEYS = frozenset({
    "directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers",
    "pooler_size_per_head", "pooler_type"})

SITES = ("query", "key", "value", "prefix", "attention_output", "intermediate", "output")
LAYER_NORM_EPSILON = 1e-12
MASKED = -10000.0


@dataclasses.dataclass(frozen=True)
class BertConfig:
    """Sizes and rates of a BERT, with the keys of Google's `bert_config.json`.

    `hidden_act` "gelu" is the tanh form of GELU, "gelu_erf" the exact one (which Hugging Face
    configs call "gelu").
    """

    vocab_size: int
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 16
    initializer_range: float = 0.02

    def __post_init__(self):
        for field in dataclasses.fields(self):
            check_config_value(field.name, field.type, getattr(self, field.name))
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not a multiple of "
                             f"num_attention_heads {self.num_attention_heads}")
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act {self.hidden_act!r} is not one of {sorted(ACTIVATIONS)}")

    @classmethod
    def from_dict(cls, values):
        """The config of a dict; ValueError for a key that no BERT config has."""
        known = {field.name for field in dataclasses.fields(cls)}
        unknown = sorted(set(values) - known - UNUSED_CONFIG_KEYS)
        if unknown or "vocab_size" not in values:
            raise ValueError(f"unknown keys {unknown}" if unknown else "no key vocab_size")
        return cls(**{key: value for key, value in values.items() if key in known})

    @classmethod
    def from_json_file(cls, json_file):
        """The config of a `bert_config.json`; ValueError where it is not one."""
        with tf.io.gfile.GFile(json_file) as file:
            return cls.from_dict(json.loads(file.read()))

    def to_dict(self):
        """The config as a dict of JSON values."""
        return dataclasses.asdict(self)

    def to_json_string(self):
        """The config as the text of a `bert_config.json`."""
        return json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"


def check_config_value(key, kind, value):
    """ValueError where a value of a BertConfig is not of its type, or out of its range."""
    if kind is int and (type(value) is not int or value < 1):
        raise ValueError(f"{key} is {value!r}, not a positive whole number")
    if kind is float and (type(value) not in (int, float) or not 0 <= value < 1):
        raise ValueError(f"{key} is {value!r}, not a number from 0 to below 1")
    if kind is str and not isinstance(value, str):
        raise ValueError(f"{key} is {value!r}, not a name")


class Site(NamedTuple):
    """A place in a layer where a method may put its own tensor in the place of `output`.

    | name             | input                  | output                           | residual  |
    |------------------|------------------------|----------------------------------|-----------|
    | query key value  | of the layer [B, T, D] | projection [B, T, D]             | None      |
    | prefix           | of the layer [B, T, D] | None                             | None      |
    | attention_output | context [B, T, D]      | projection, dropped [B, T, D]    | [B, T, D] |
    | intermediate     | attended [B, T, D]     | projection, activated [B, T, F]  | None      |
    | output           | intermediate [B, T, F] | projection, dropped [B, T, D]    | [B, T, D] |

    T is 1 in the last layer of a model of which only the pooled output is computed, but for the
    inputs and outputs of key and value and the input of prefix.
    The residual is what is added to the result before LayerNorm, and `normalized` a function
    without arguments that gives what stands there without a method: LayerNorm(output + residual).
    At the prefix stands what every token attends to besides the tokens: keys and values, a pair of
    [P, D], or [B, P, D] with those of each row; None for nothing.
    The variable scope is that of the site: in `output`, `tf.get_variable("x")` is
    `bert/encoder/layer_0/output/x`. The formulas are those of the model.
    """

    name: str
    layer: int
    input: tf.Tensor
    output: tf.Tensor | None
    residual: tf.Tensor | None
    formulas: "Formulas"
    normalized: Callable | None = None


Method = Callable[[Site], tf.Tensor]


class Formulas(NamedTuple):
    """What a layer is computed with; see the plain functions of these names.

    dropout is a function (x, rate) -> x.
    """

    linear: Callable
    dropout: Callable
    add_norm: Callable
    attend: Callable


def plain_formulas(dropout=None):
    """The formulas as they are written in this file.

    Args:
      dropout: function (x, rate) -> x; `random_dropout` where None.
    """
    dropout = dropout or random_dropout
    return Formulas(functools.partial(linear, dropout), dropout, add_norm,
                    functools.partial(attend, dropout))


class Layer(NamedTuple):
    """What the functions of one layer share."""

    config: BertConfig
    number: int
    methods: Mapping[str, Method]
    formulas: Formulas

    def at(self, site, source, output, residual=None):
        """`output`, or what the method at `site` makes of it."""
        if site not in self.methods:
            return output
        place = Site(site, self.number, source, output, residual, self.formulas)
        if residual is not None:
            place = place._replace(normalized=functools.partial(normalize, self, output, residual))
        return self.methods[site](place)


class BertModel:
    """The encoder and its pooler, for one batch.

    Args:
      config: BertConfig.
      is_training: bool; False turns dropout off.
      input_ids: int32 or int64 [B, T].
      input_mask: int [B, T], 1 for a token and 0 for padding; all 1 where None.
      token_type_ids: int [B, T]; all 0 where None.
      use_one_hot_embeddings: look word pieces up as a product with one-hot rows (faster on TPU).
      scope: the name under which the variables lie.
      methods: {site name: Method}, see `Site`.
      formulas: Formulas; the plain ones where None.
      dtype: tf.float32 or tf.bfloat16, the type of activations and products.
      only_pooled: compute of the last layer the first token alone, which is all that the pooled
        output is made of.

    Attributes:
      config: BertConfig, without dropout where nothing trains.

    Raises:
      ValueError: a method is given for a site that does not exist.
    """

    def __init__(self, config, is_training, input_ids, input_mask=None, token_type_ids=None,
                 use_one_hot_embeddings=False, scope="bert", methods=None, formulas=None,
                 dtype=tf.float32, only_pooled=False):
        methods = methods or {}
        if set(methods) - set(SITES):
            raise ValueError(f"no such site: {sorted(set(methods) - set(SITES))}; sites: {SITES}")
        self.config = config = config if is_training else without_dropout(config)
        formulas = formulas or plain_formulas()
        if token_type_ids is None:
            token_type_ids = tf.zeros_like(input_ids)
        if input_mask is None:
            input_mask = tf.ones_like(input_ids)
        with tf.variable_scope(scope or "bert"):
            self._embedding_table, self._embedding_output = embeddings(
                config, input_ids, token_type_ids, use_one_hot_embeddings, formulas, dtype)
            layers = encoder(config, self._embedding_output, input_mask, methods, formulas,
                             only_pooled)
            self._pooled_output = pooler(config, layers[-1], formulas)
        self._layers = [tf.cast(layer, tf.float32) for layer in layers]

    def get_pooled_output(self):
        """Float [B, D]: tanh of a projection of the first token."""
        return self._pooled_output

    def get_sequence_output(self):
        """Float [B, T, D]: the last layer's output; with only_pooled [B, 1, D]."""
        return self._layers[-1]

    def get_all_encoder_layers(self):
        """List of float [B, T, D], the first layer's output first; the last as above."""
        return self._layers

    def get_embedding_output(self):
        """Float [B, T, D]: the sum of the embeddings after LayerNorm and dropout."""
        return self._embedding_output

    def get_embedding_table(self):
        """Float [V, D]: the word-piece embeddings."""
        return self._embedding_table


def without_dropout(config):
    """The config with every rate of dropout at 0."""
    return dataclasses.replace(config, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def embeddings(config, input_ids, token_type_ids, one_hot, formulas, dtype):
    """LayerNorm(word + token type + position).  int [B, T] -> table [V, D], float [B, T, D]."""
    width, initializer = config.hidden_size, weight_initializer(config)
    with tf.variable_scope("embeddings"):
        words = tf.get_variable("word_embeddings", [config.vocab_size, width],
                                initializer=initializer)
        types = tf.get_variable("token_type_embeddings", [config.type_vocab_size, width],
                                initializer=initializer)
        positions = tf.get_variable("position_embeddings", [config.max_position_embeddings, width],
                                    initializer=initializer)
        place = look_up(types, token_type_ids, one_hot=True)           # [B, T, D]
        place += positions[:shape_list(input_ids)[1]]                  # [T, D] for every row
        x = formulas.add_norm(look_up(words, input_ids, one_hot), place, *norm_weights(width))
        return words, formulas.dropout(tf.cast(x, dtype), config.hidden_dropout_prob)


def look_up(table, ids, one_hot):
    """Rows of `table` [V, D] for `ids` [B, T], by gather or by a product: [B, T, D]."""
    if not one_hot:
        return tf.gather(table, ids)
    rows = tf.one_hot(tf.reshape(ids, [-1]), table.shape[0], dtype=table.dtype)
    return tf.reshape(tf.matmul(rows, table), shape_list(ids) + [table.shape[1]])


def encoder(config, x, input_mask, methods, formulas, only_first):
    """The Transformer stack.  [B, T, D] -> list of [B, T, D], one a layer.

    With `only_first` the last one is [B, 1, D], of the first token.
    """
    bias = attention_bias(input_mask)
    outputs = []
    with tf.variable_scope("encoder"):
        for index in range(config.num_hidden_layers):
            is_cut = only_first and index == config.num_hidden_layers - 1
            with tf.variable_scope(f"layer_{index}"):
                x = transformer_layer(Layer(config, index, methods, formulas), x, bias, is_cut)
                outputs.append(x)
    return outputs


def attention_bias(input_mask):
    """0 where a token may be seen and -10000 where not.  int [B, T] -> float32 [B, T]."""
    return (1.0 - tf.cast(input_mask, tf.float32)) * MASKED


def transformer_layer(layer, x, bias, only_first):
    """Attention, then feed-forward, each with its residual and LayerNorm.

    Args:
      layer: Layer.
      x: float [B, T, D].
      bias: float32 [B, T], see `attend`.
      only_first: bool, whether of the result nothing but the first token is wanted.

    Returns:
      Float [B, T, D], or [B, 1, D].
    """
    wanted = x[:, :1] if only_first else x
    with tf.variable_scope("attention"):
        with tf.variable_scope("self"):
            context = self_attention(layer, wanted, x, bias)
        with tf.variable_scope("output"):
            x = sublayer_output(layer, "attention_output", context, wanted)
    with tf.variable_scope("intermediate"):
        hidden = dense(layer, x, layer.config.intermediate_size,
                       activation=layer.config.hidden_act)             # [B, T, F]
        hidden = layer.at("intermediate", x, hidden)
    with tf.variable_scope("output"):
        return sublayer_output(layer, "output", hidden, x)


def self_attention(layer, wanted, x, bias):
    """Attention of some tokens, which are among the others, to all.

    Where there are as many keys as queries the layer's formula computes it, else the plain one.

    Args:
      layer: Layer.
      wanted: float [B, Q, D], those of which the result is wanted.
      x: float [B, T, D].
      bias: float32 [B, T].

    Returns:
      Float [B, Q, D].
    """
    query = project(layer, wanted, "query")
    key, value = (project(layer, x, site) for site in ("key", "value"))
    prefix = layer.at("prefix", x, None)
    if prefix is not None:
        key, value, bias = behind(prefix, key, value, bias)            # [B, P + T, D], [B, P + T]
    is_square = prefix is None and wanted is x
    formula = layer.formulas.attend if is_square else functools.partial(
        attend, layer.formulas.dropout)
    return formula(query, key, value, bias, layer.config.num_attention_heads,
                   layer.config.attention_probs_dropout_prob)


def project(layer, x, site):
    """The query, key or value of each token.  [B, T, D] -> [B, T, D]."""
    projection = dense(layer, x, layer.config.hidden_size, name=site)
    with tf.variable_scope(site):
        return layer.at(site, x, projection)


def behind(prefix, key, value, bias):
    """Keys, values and bias of the tokens behind those of a prefix, which every token sees.

    Args:
      prefix: keys and values, each float [P, D], or [B, P, D] with those of each row.
      key, value: float [B, T, D].
      bias: float32 [B, T].

    Returns:
      Float [B, P + T, D] twice, float32 [B, P + T].
    """
    batch, _, width = shape_list(key)
    keys, values = (tf.broadcast_to(tf.cast(one, key.dtype), [batch, one.shape[-2], width])
                    for one in prefix)
    seen = tf.zeros([batch, keys.shape[1]], bias.dtype)
    return (tf.concat([keys, key], axis=1), tf.concat([values, value], axis=1),
            tf.concat([seen, bias], axis=1))


def attend(dropout, query, key, value, bias, heads, rate):
    """softmax(Q K^T / sqrt(H) + bias) V for each head, the softmax dropped at `rate`.

    Args:
      dropout: function (x, rate) -> x.
      query: float [B, Q, D].
      key, value: float [B, K, D]; K is T, or P + T behind a prefix.
      bias: float32 [B, K], added to the scores of a row's keys.
      heads: N.
      rate: float.

    Returns:
      Float [B, Q, D].
    """
    query, key, value = (split_heads(x, heads) for x in (query, key, value))  # [B, N, Q, H]
    scores = tf.matmul(query, key, transpose_b=True) / math.sqrt(query.shape[-1])
    weights = tf.nn.softmax(tf.cast(scores, tf.float32) + bias[:, None, None, :])  # [B, N, Q, K]
    weights = dropout(tf.cast(weights, value.dtype), rate)
    return merge_heads(tf.matmul(weights, value))


def split_heads(x, heads):
    """[B, T, D] -> [B, N, T, H]."""
    batch, tokens, width = shape_list(x)
    return tf.transpose(tf.reshape(x, [batch, tokens, heads, width // heads]), [0, 2, 1, 3])


def merge_heads(x):
    """[B, N, T, H] -> [B, T, D]."""
    batch, heads, tokens, head_width = shape_list(x)
    return tf.reshape(tf.transpose(x, [0, 2, 1, 3]), [batch, tokens, heads * head_width])


def sublayer_output(layer, site, x, residual):
    """LayerNorm(method(dropout(x W + b)) + residual).  [B, T, any], [B, T, D] -> [B, T, D]."""
    output = dense(layer, x, layer.config.hidden_size, rate=layer.config.hidden_dropout_prob)
    return normalize(layer, layer.at(site, x, output, residual), residual)


def normalize(layer, x, residual):
    """LayerNorm(x + residual) with the one LayerNorm of this scope.  [B, T, D] -> [B, T, D]."""
    with tf.variable_scope(tf.get_variable_scope(), reuse=tf.AUTO_REUSE):
        return layer.formulas.add_norm(x, residual, *norm_weights(layer.config.hidden_size))


def pooler(config, x, formulas):
    """tanh of a projection of the first token.  [B, T, D] -> float32 [B, D]."""
    with tf.variable_scope("pooler"):
        first = dense(Layer(config, -1, {}, formulas), x[:, :1], config.hidden_size)
        return tf.tanh(tf.cast(first, tf.float32))[:, 0]


def dense(layer, x, width, name="dense", activation="linear", rate=0.0):
    """dropout(f(x W + b), rate) of `name/kernel` and `name/bias`.  [B, T, I] -> [B, T, width]."""
    with tf.variable_scope(name):
        kernel = tf.get_variable("kernel", [x.shape[-1], width],
                                 initializer=weight_initializer(layer.config))
        bias = tf.get_variable("bias", [width], initializer=tf.zeros_initializer())
    return layer.formulas.linear(x, kernel, bias, activation, rate)


def linear(dropout, x, kernel, bias, activation="linear", rate=0.0, residual=None):
    """dropout(f(x W + b), rate) + residual.

    Args:
      dropout: function (x, rate) -> x.
      x: float [B, T, I].
      kernel: float [I, O], or [B, I, O] with one a row.
      bias: float32 [O], or [B, O] with one a row.
      activation: key of ACTIVATIONS, the function f, which is computed in float32.
      rate: float.
      residual: float [B, T, O]; None for nothing to add.

    Returns:
      Float [B, T, O], of the type of x.
    """
    y = dropout(activate(product(x, kernel), bias, activation), rate)
    return y if residual is None else y + residual


def product(x, kernel):
    """x W, in the type of x.

    Args:
      x: float [B, T, I].
      kernel: float [I, O], or [B, I, O] with one a row.

    Returns:
      Float [B, T, O].
    """
    kernel = tf.cast(kernel, x.dtype)
    if kernel.shape.rank == 3:
        return tf.matmul(x, kernel)
    batch, tokens, width = shape_list(x)
    rows = tf.matmul(tf.reshape(x, [batch * tokens, width]), kernel)
    return tf.reshape(rows, [batch, tokens, kernel.shape[1]])


def activate(x, bias, name):
    """f(x + b) with the activation f of that name, in float32.  [B, T, O], see `linear` -> same."""
    return tf.cast(ACTIVATIONS[name](tf.cast(x, tf.float32) + over_tokens(bias)), x.dtype)


def norm_weights(width):
    """gamma [D] and beta [D] of the LayerNorm of this scope."""
    with tf.variable_scope("LayerNorm"):
        beta = tf.get_variable("beta", [width], initializer=tf.zeros_initializer())
        gamma = tf.get_variable("gamma", [width], initializer=tf.ones_initializer())
    return gamma, beta


def add_norm(x, residual, gamma, beta):
    """LayerNorm of s = x + residual: gamma (s - mean) / sqrt(variance + 1e-12) + beta.

    Mean and variance are those of the last axis (Ba et al., 2016), computed in float32.

    Args:
      x, residual: float [B, T, D].
      gamma, beta: float [D], or [B, D] with one a row.

    Returns:
      Float [B, T, D].
    """
    total = tf.cast(x, tf.float32) + tf.cast(residual, tf.float32)
    mean, variance = tf.nn.moments(total, axes=[-1], keepdims=True)
    scale = tf.math.rsqrt(variance + LAYER_NORM_EPSILON) * over_tokens(gamma)
    return tf.cast((total - mean) * scale + over_tokens(beta), x.dtype)


def over_tokens(vector):
    """A vector for every token: [O] as it is; one a row, [B, O], as [B, 1, O]."""
    return vector[:, None, :] if vector.shape.rank == 2 else vector


def weight_initializer(config):
    """BERT's initial weights: a normal distribution cut at two standard deviations."""
    return tf.truncated_normal_initializer(stddev=config.initializer_range)


def random_dropout(x, rate):
    """Zero with probability `rate`, else x / (1 - rate)."""
    return tf.nn.dropout(x, rate=rate) if rate else x


def shape_list(x):
    """The shape of `x` as a list: an int where it is known now, a scalar tensor where not."""
    dynamic = tf.shape(x)
    return [dynamic[axis] if size is None else size for axis, size in enumerate(x.shape.as_list())]
