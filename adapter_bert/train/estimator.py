"""The TPUEstimator of a run, on whatever device there is."""
import tensorflow.compat.v1 as tf

from adapter_bert.errors import InputError
from adapter_bert.train.distributed import clusters
from adapter_bert.train.model_fn import build_model_fn
from adapter_bert.train.observation import log_interval

SUMMARY_STEPS = 100   # between two entries of a long run in TensorBoard

def build_estimator(run, start, model_dir, predict_batch_size=None, link=None, **options):
    """A TPUEstimator for a run's model.

    Args:
      run: resolve.Run.
      start: initial_values.Start, where first values come from.
      model_dir: folder of the checkpoints it writes and goes on from.
      predict_batch_size: examples a batch of prediction; None where nothing is predicted.
      link: allreduce.Link, with which several workers train; None for one process alone.
      **options: more arguments of model_fn.build_model_fn.
    """
    settings = run.settings
    model_fn = build_model_fn(run.model, start, run.engine, use_tpu=settings.use_tpu, link=link,
                              **options)
    return tf.estimator.tpu.TPUEstimator(
        model_fn, model_dir=model_dir, config=run_config(run, link, options.get("schedule")),
        use_tpu=settings.use_tpu, train_batch_size=settings.train_batch_size,
        eval_batch_size=settings.eval_batch_size,
        predict_batch_size=predict_batch_size or settings.predict_batch_size, export_to_tpu=False)


class CheckpointHook(tf.train.CheckpointSaverHook):
    """Saves checkpoints without copying the graph into TensorBoard's file at every start."""

    def after_create_session(self, session, coord):
        """Saves the first values, those of `model.ckpt-0` in a new run."""
        del coord
        step = session.run(self._global_step_tensor)
        self._save(session, step)
        self._timer.update_last_triggered_step(step)


def checkpoint_hooks(run) -> list[tf.train.SessionRunHook]:
    """The hook that saves checkpoints while a run trains; on a TPU Estimator has its own.

    Args:
      run: resolve.Run.
    """
    settings = run.settings
    if settings.use_tpu or not run.cluster.is_chief:
        return []
    return [CheckpointHook(settings.output_dir, save_steps=settings.save_checkpoints_steps,
                           saver=None, scaffold=None, save_graph_def=False)]


def open_events(run) -> None:
    """Opens TensorBoard's file of a run without the graph, which Estimator writes at every start.

    Writing the graph takes a tenth of a second or more, and no command of ours reads it.

    Args:
      run: resolve.Run.
    """
    if run.cluster.is_chief:
        with tf.Graph().as_default():
            tf.summary.FileWriterCache.get(run.settings.output_dir)


def deployment(params):
    """This host's number, the count of hosts, and how many cores each feeds; 0, 1, 1 off TPU."""
    context = params.get("context")
    if context is None:
        return 0, 1, 1
    _, host, hosts, replicas = context.current_input_fn_deployment()
    return host, hosts, replicas


def run_config(run, link=None, schedule=None):
    """The RunConfig of a run: seed, checkpoints, threads, where a TPU or other workers are found.

    Each worker of a link is to Estimator the one process of a run, of which the chief's saves.
    A training `schedule` sets how often TensorBoard gets a loss.
    """
    settings, cluster = run.settings, None
    if settings.use_tpu and settings.tpu_name:
        try:
            cluster = tf.distribute.cluster_resolver.TPUClusterResolver(
                settings.tpu_name, zone=settings.tpu_zone, project=settings.gcp_project)
        except (ImportError, RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"--tpu_name={settings.tpu_name}: not to be reached ({reason})"
                             ) from error
    session_config = run.engine.session_config()
    saves = run.cluster.is_chief
    summary_steps = log_interval(schedule.num_train_steps, SUMMARY_STEPS) if schedule else None
    with clusters.unseen():
        return tf.estimator.tpu.RunConfig(
            cluster=cluster, master=link.target if link else settings.master,
            tf_random_seed=settings.seed, device_fn=link and link.place,
            save_checkpoints_steps=settings.save_checkpoints_steps if saves else None,
            save_checkpoints_secs=None, save_summary_steps=summary_steps if saves else None,
            session_config=link.session_config(session_config) if link else session_config,
            checkpoint_save_graph_def=False,   # as text it takes seconds, and nothing reads it
            tpu_config=tf.estimator.tpu.TPUConfig(
                iterations_per_loop=settings.iterations_per_loop,
                num_shards=settings.num_tpu_cores,
                per_host_input_for_training=tf.estimator.tpu.InputPipelineConfig.PER_HOST_V2))
