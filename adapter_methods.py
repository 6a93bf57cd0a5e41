"""What else than Houlsby's bottleneck may attach to a frozen BERT, a function each.

A method is a function of a `modeling.Site` and an `adapter_layers.AdapterConfig` that gives what
stands in the place of the site's output. Its variables lie in the scope `adapters` of the site; the
two factors of a product of low rank are `weights1` and `weights2`.

Letters: B batch, T tokens, D hidden, F feed-forward, A the config's size, P = A keys of a prefix.
"""
import tensorflow.compat.v1 as tf

import modeling


def bottleneck_weights(width, size, down, up):
    """W1 [D, A], b1 [A], W2 [A, D] and b2 [D], biases zero at first.

    Args:
      width: D.
      size: A.
      down, up: initializers of W1 and W2.
    """
    zeros = tf.zeros_initializer()
    with tf.variable_scope("adapters"):
        weights1 = tf.get_variable("weights1", [width, size], initializer=down)
        biases1 = tf.get_variable("biases1", [1, size], initializer=zeros)
        weights2 = tf.get_variable("weights2", [size, width], initializer=up)
        biases2 = tf.get_variable("biases2", [1, width], initializer=zeros)
    return weights1, tf.squeeze(biases1, axis=-2), weights2, tf.squeeze(biases2, axis=-2)


def parallel(site, config):
    """h + s (W2 f(W1 x + b1) + b2), where x is what the sublayer reads and h what it gives.

    The scaled parallel adapter of He et al., Towards a Unified View of Parameter-Efficient Transfer
    Learning (ICLR 2022), section 4; s is the config's scale, 4 in their summaries. W2 starts at 0.

    Args:
      site: modeling.Site of attention_output or output.
      config: AdapterConfig.

    Returns:
      Float [B, T, D], at first the site's output exactly.
    """
    weights1, down, weights2, up = bottleneck_weights(
        site.output.shape[-1], config.size, first_values(config), tf.zeros_initializer())
    hidden = site.formulas.linear(site.residual, weights1, down, config.activation)  # [B, T, A]
    return site.formulas.linear(config.scale * hidden, weights2, config.scale * up,
                                residual=site.output)


def lora(site, config):
    """h + s (x A) B, a change of rank r to the projection h = x W + b.

    Hu et al., LoRA: Low-Rank Adaptation of Large Language Models (ICLR 2022), section 4. A is
    `weights1`, B `weights2`, which starts at 0; r is the config's size, and its scale s is what
    they write as alpha / r. There is no dropout of x.

    Args:
      site: modeling.Site of a projection.
      config: AdapterConfig.

    Returns:
      Float [B, T, D], at first the site's output exactly.
    """
    width, size = site.output.shape[-1], config.size
    with tf.variable_scope("adapters"):
        weights1 = tf.get_variable("weights1", [site.input.shape[-1], size],
                                   initializer=first_values(config))
        weights2 = tf.get_variable("weights2", [size, width], initializer=tf.zeros_initializer())
    low = site.formulas.linear(site.input, weights1, tf.zeros([size]))     # [B, T, r]
    return site.formulas.linear(config.scale * low, weights2, tf.zeros([width]),
                                residual=site.output)


def merge_lora(config, weights, base):
    """The kernels of a base with a LoRA's change in them: W + s A B.

    Args:
      config: AdapterConfig of the weights.
      weights: {name: float32 array}, of which those of LoRAs are read.
      base: mapping of the base's variables.

    Returns:
      {name of a kernel: float32 array [D, D]}.
    """
    end = "/adapters/weights1"
    places = [name.removesuffix(end) for name in weights if name.endswith(end)]
    return {f"{place}/kernel": base[f"{place}/kernel"] + config.scale * (
        weights[f"{place}{end}"] @ weights[f"{place}/adapters/weights2"]) for place in places}


def ia3(site, config):
    """(1 + l) h, each feature of the output h times a learned factor.

    (IA)3 of Liu et al., Few-Shot Parameter-Efficient Fine-Tuning is Better and Cheaper than
    In-Context Learning (NeurIPS 2022), section 3.3. Their vector is 1 + l here, so that what starts
    at 0 and is pulled there by weight decay is the base.

    Args:
      site: modeling.Site.
      config: AdapterConfig, of which nothing is read.

    Returns:
      Float, as the site's output, and at first that exactly.
    """
    del config
    with tf.variable_scope("adapters"):
        change = tf.get_variable("scale", [site.output.shape[-1]],
                                 initializer=tf.zeros_initializer())
    return site.output * tf.cast(1.0 + modeling.over_tokens(change), site.output.dtype)


def prefix(site, config):
    """P keys and values of each layer that every token attends to, besides the tokens.

    Li & Liang, Prefix-Tuning (ACL 2021), with the prefixes as they are when trained, not as the
    product of a network that is thrown away; He et al. (2022), section 2.2, write it so. A prefix
    has its share of the attention from the first step on, so that the model does not start as the
    base: the values are 0 at first, which makes the context smaller and leaves its direction.

    Args:
      site: modeling.Site of the prefix.
      config: AdapterConfig; its size is P.

    Returns:
      Keys and values, float32 [P, D] each.
    """
    shape = [config.size, site.input.shape[-1]]
    with tf.variable_scope("adapters"):
        return (tf.get_variable("keys", shape, initializer=first_values(config)),
                tf.get_variable("values", shape, initializer=tf.zeros_initializer()))


def first_values(config):
    """The initializer of weights that do not start at 0."""
    return tf.truncated_normal_initializer(stddev=config.init_stddev)
