"""BERT's optimizer: Adam with decoupled weight decay, warm-up and linear decay."""
import functools
import itertools
import re

import tensorflow.compat.v1 as tf


def learning_rate_schedule(step, init_lr, num_train_steps, num_warmup_steps):
    """init_lr * step / warmup, then init_lr * (1 - step / num_train_steps); 0 at the end.

    The decay counts from step 0, so the rate has a small drop where the warm-up ends.

    Args:
      step: int scalar tensor, steps done so far.
      init_lr: float, the peak rate.
      num_train_steps, num_warmup_steps: int.

    Returns:
      Float32 scalar tensor.
    """
    done = tf.cast(step, tf.float32)
    decayed = init_lr * tf.maximum(1.0 - done / num_train_steps, 0.0)
    if not num_warmup_steps:
        return decayed
    return tf.where(done < num_warmup_steps, init_lr * done / num_warmup_steps, decayed)


def create_optimizer(loss, init_lr, num_train_steps, num_warmup_steps, use_tpu=False,
                     variables=None, bias_correction=False, summed=None):
    """One step of training, as BERT and the reference adapter-bert take it.

    Gradients are clipped to the global norm 1 before Adam. Embedding gradients are made dense
    first, so that the norm counts a repeated row once (the reference counts its parts).

    Args:
      loss: float scalar tensor.
      init_lr: float, the peak learning rate.
      num_train_steps, num_warmup_steps: int.
      use_tpu: sum gradients over the TPU's cores.
      variables: what to train; every trainable variable where None.
      bias_correction: correct Adam's moments for their start at zero, which BERT leaves out.
        Without it early steps are about three times as long, and small tasks fail at high rates
        (Zhang et al., Revisiting Few-sample BERT Fine-tuning, 2021).
      summed: function (list of tensors, name) -> their sums over all workers, of which the loss of
        each is a part; None for one worker.

    Returns:
      An op that updates the variables and then the global step.
    """
    global_step = tf.train.get_or_create_global_step()
    learning_rate = learning_rate_schedule(global_step, init_lr, num_train_steps, num_warmup_steps)
    optimizer = AdamWeightDecayOptimizer(
        learning_rate, steps_done=global_step if bias_correction else None)
    if use_tpu:
        optimizer = tf.tpu.CrossShardOptimizer(optimizer)
    variables = tf.trainable_variables() if variables is None else variables
    gradients = [g if g is None else tf.convert_to_tensor(g)
                 for g in tf.gradients(loss, variables)]
    if summed:
        pairs = [(tf.ensure_shape(g, v.shape), v)
                 for g, v in zip(gradients, variables, strict=True) if g is not None]
        variables = [v for _, v in pairs]
        gradients = summed([g for g, _ in pairs], "gradients")
    clipped, _ = tf.clip_by_global_norm(gradients, clip_norm=1.0)
    return optimizer.apply_gradients(zip(clipped, variables, strict=True), global_step=global_step)


class AdamWeightDecayOptimizer(tf.train.Optimizer):
    """Adam with weight decay beside the gradient (Loshchilov & Hutter, 2019), as BERT has it.

        m <- beta_1 m + (1 - beta_1) g        v <- beta_2 v + (1 - beta_2) g^2
        w <- w - learning_rate (m / (sqrt(v) + epsilon) + weight_decay w)

    With bias correction, m / (1 - beta_1^t) and v / (1 - beta_2^t) stand in the place of m and v.

    Slots are named `<variable>/adam_m` and `<variable>/adam_v`, as in Google's BERT.

    Args:
      learning_rate: float or scalar tensor.
      weight_decay_rate: float.
      beta_1, beta_2, epsilon: floats of Adam; epsilon is added to the root.
      exclude_from_weight_decay: patterns of variable names that do not decay. `bias` covers the
        adapters' `biases1` too.
      steps_done: int scalar tensor, t - 1; None for no bias correction.
    """

    def __init__(self, learning_rate, weight_decay_rate=0.01, beta_1=0.9, beta_2=0.999,
                 epsilon=1e-6, exclude_from_weight_decay=("LayerNorm", "layer_norm", "bias"),
                 steps_done=None, name="AdamWeightDecayOptimizer"):
        super().__init__(use_locking=False, name=name)
        self._learning_rate = learning_rate
        self._weight_decay_rate = weight_decay_rate
        self._betas = beta_1, beta_2
        self._epsilon = epsilon
        self._exclude = exclude_from_weight_decay
        self._steps_done = steps_done

    def _prepare(self):
        # m / c1 / (sqrt(v / c2) + epsilon) = sqrt(c2) / c1 * m / (sqrt(v) + sqrt(c2) epsilon)
        root, first = 1.0, 1.0
        if self._steps_done is not None:
            t = tf.cast(self._steps_done + 1, tf.float32)
            first, second = (1.0 - tf.pow(beta, t) for beta in self._betas)
            root = tf.sqrt(second)
        self._step_size = self._learning_rate * root / first
        self._step_epsilon = tf.convert_to_tensor(self._epsilon * root)
        self._decay = self._learning_rate * self._weight_decay_rate
        self._zero = tf.constant(0.0)   # tensors, so that all updates share them
        self._beta_1, self._beta_2 = map(tf.constant, self._betas)

    def _create_slots(self, var_list):
        """Makes the slots with one tensor of zeros a shape: half the time of `_zeros_slot`."""
        zeros = functools.cache(tf.zeros)
        with tf.name_scope(None):
            for variable, slot in itertools.product(var_list, ("m", "v")):
                name = variable.op.name
                self._slot_dict(slot)[variable.graph, name] = tf.Variable(
                    functools.partial(zeros, tuple(variable.shape.as_list())), trainable=False,
                    use_resource=True, name=f"{name}/adam_{slot}")

    def _resource_apply_dense(self, grad, handle):
        ready = [grad.op]   # the gradient was computed with the weights as they were
        if self._decays(handle.op.name):
            with tf.control_dependencies(ready):
                ready = [handle.assign_sub(self._decay * handle, read_value=False)]
        m, v = self.get_slot(handle, "m"), self.get_slot(handle, "v")
        with tf.control_dependencies(ready):
            return tf.raw_ops.ResourceApplyAdam(
                var=handle.handle, m=m.handle, v=v.handle, beta1_power=self._zero,
                beta2_power=self._zero, lr=self._step_size, beta1=self._beta_1,
                beta2=self._beta_2, epsilon=self._step_epsilon, grad=grad)

    def _decays(self, name):
        return self._weight_decay_rate and not any(re.search(p, name) for p in self._exclude)
