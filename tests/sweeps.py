"""Experiments on the tiny BERT, and made results of experiments that nobody ran."""
import numpy as np
from runs import write_sst2

from adapter_bert import files
from adapter_bert.research.sweep import experiment_config, grid, result_files

SMALL = {"max_seq_length": 16, "train_batch_size": 8, "bias_correction": True,
         "precision": "float32"}


def full(**changes):
    return {"name": "full", "tuning": "full", "learning_rates": [1e-3], "epochs": [1], **changes}


def adapters(**changes):
    return {"name": "adapters", "tuning": "adapters", "learning_rates": [1e-2], "epochs": [1],
            "sizes": [4], **changes}


def write_config(folder, tiny_dir, modes, **changes):
    """Path of an experiment's file with one task of made sentences, or what `changes` say."""
    data = write_sst2(folder / "data", train=32, dev=12)
    path = str(folder / "experiment.json")
    files.write_json(path, {"base": tiny_dir, "seeds": 1, "settings": SMALL, "modes": modes,
                            "tasks": [{"name": "films", "task": "SST-2", "data_dir": data}],
                            **changes})
    return path


def made_results(folder, path, rate, count=200):
    """Leaves a result of every run of an experiment, without running one.

    Args:
      folder: results folder.
      path: of the experiment's file.
      rate: function of a grid.Planned -> share of the dev examples that it has right.
      count: of dev examples, of two classes.

    Returns:
      The experiment_config.Experiment.
    """
    experiment, random = experiment_config.read(path), np.random.default_rng(0)
    result_files.bind(folder, {"base": {"name": "made", "fingerprint": "0" * 64}, "data": {}})
    for run in grid.plan(experiment):
        labels = np.random.default_rng(5).integers(0, 2, count)
        wrong = random.random(count) >= rate(run)
        size = run.point["size"] or 1000
        result_files.write(folder, run.name, {
            "task": run.task.name, "mode": run.mode.name, "flags": run.flags, "point": run.point,
            "seed": run.seed, "metrics": {}, "trained_parameters": 100 * size,
            "encoder_parameters": 100_000, "seconds": 1.0, "versions": {"tensorflow": "2.15.1"},
            "commit": "0", **({"spans": [[0, 0, 60.0], [0, 1, 50.0], [1, 1, 55.5]]}
                              if run.mode.spans else {}),
            "predictions": {"dev": np.where(wrong, 1 - labels, labels).tolist()}},
            {"kind": "classification", "dev": labels.tolist()})
    return experiment
