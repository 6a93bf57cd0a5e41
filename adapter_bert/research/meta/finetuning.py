"""How well a start learns: from whole domains, or from a few examples of a new one."""
import contextlib
import dataclasses
import os

import numpy as np
from absl import logging

from adapter_bert import files
from adapter_bert.errors import InputError
from adapter_bert.research.meta import adaptation, domains, meta_figures, start_comparison
from adapter_bert.research.meta.adaptation import Steps
from adapter_bert.research.meta.finetuning_settings import check, tasks_at_once, with_rates
from adapter_bert.research.meta.initial_state import open_start
from adapter_bert.research.meta.learner import Inner
from adapter_bert.train import results
from adapter_bert.train.run import plain_errors


def run(settings, given):
    """Learns and asks as the settings say, and leaves results.json, results.md and a figure.

    Args:
      settings: finetuning_settings.FinetuningSettings.
      given: names of the settings that a person gave.

    Returns:
      The points of results.json, see comparison.point.

    Raises:
      InputError: flags, files or folders that do not fit.
    """
    check(settings, given)
    dataset, split = read_domains(settings)
    chosen = {seed: training_domains(settings, given, split, seed) for seed in settings.seed_list}
    for names in chosen.values():
        domains.check(dataset, names, 1, 0)
    with files.locked(settings.output_dir), plain_errors():
        opened = open_start(settings, given, dataset)
        opened = dataclasses.replace(opened, settings=with_rates(opened.settings))
        refuse_idle_seeds(opened)
        say_what_is_done(opened, split)
        rows = encode(opened, split.train + split.test)
        points = measure(opened, split, rows, chosen)
        write(opened, split, chosen, points)
    return points


def read_domains(settings):
    """The Dataset and the Split of the settings, which tasks of their size can be drawn from."""
    dataset, split = read_split(settings)
    most, num_query = (max(settings.shots_list), settings.num_query) if settings.shots else (0, 1)
    domains.check(dataset, split.test, most, num_query)
    return dataset, split


def read_split(settings):
    """The Dataset and the Split of --data and of the lists of domains; says what was left out."""
    dataset = domains.read_dataset(settings.data)
    if removed := domains.removed_line(dataset):
        logging.info(removed)
    if settings.num_labels not in (None, len(dataset.labels)):
        raise InputError(f"--num_labels={settings.num_labels}: {settings.data} has "
                         f"{len(dataset.labels)} labels; leave the flag out")
    return dataset, domains.split(dataset, settings.validation_domains, settings.test_domains)


def training_domains(settings, given, split, seed):
    """Names of the domains to learn from first, drawn by the seed; () for none."""
    if settings.zero_shot or (settings.shots and "num_domain" not in given):
        return ()
    return domains.choose(split.train, settings.num_domain, np.random.default_rng([seed, 0]))


def refuse_idle_seeds(opened):
    """InputError where seeds would repeat one answer, which would pass for several."""
    if opened.settings.zero_shot and opened.has_head and len(opened.settings.seed_list) > 1:
        raise InputError(f"--seeds={opened.settings.seeds}: with --zero_shot a start that has a "
                         "head says the same for every seed; give one")


def say_what_is_done(opened, split):
    """Lines on the start, the domains and what an accuracy without learning means."""
    settings = opened.settings
    logging.info(opened.engine.line(settings.precision))
    logging.info("start: %s, %s; tested on %s", opened.trained or opened.start.base,
                 settings.tuning, ", ".join(split.test))
    if not opened.has_head:
        logging.info("the start has no head: what has learned nothing guesses")


def encode(opened, names):
    """{domain: {kinds.Example: Row}} of domains."""
    dataset, settings = opened.dataset, opened.settings
    return {name: adaptation.encode(dataset.domains[name], opened.tokenizer,
                                    settings.max_seq_length, dataset.labels) for name in names}


def measure(opened, split, rows, chosen):
    """The points of all seeds.

    Args:
      opened: start.Opened.
      split: domains.Split.
      rows: what `encode` returns.
      chosen: {seed: names of the domains to learn from first}.

    Returns:
      list of comparison.point.
    """
    settings = opened.settings
    draws = {count: [] for count in settings.shots_list or [None]}
    with contextlib.ExitStack() as until_the_end:
        tester = None
        for seed, names in chosen.items():
            with contextlib.closing(learned(opened, rows, names, seed)) as learner:
                if not settings.shots:
                    draws[None] += ask_all(learner, opened, split, rows, seed)
                    say(None, seed, draws[None])
                    continue
                values = learner.values
            if tester is None:
                inner = Inner(settings.inner_optimizer, settings.inner_update_lr)
                tester = opened.learner(inner, tasks_at_once(settings), seed=0)
                until_the_end.callback(tester.close)
            tester.load(values)
            for count, found in draws.items():
                found += ask_draws(tester, opened, split, rows, seed, count)
                say(count, seed, found)
    return [start_comparison.point(count, found) for count, found in draws.items()]


def learned(opened, rows, names, seed):
    """A Learner of one task whose values are those with which the test domains are met.

    They are those of the start, new ones by the seed, after learning from the domains `names`.
    """
    settings = opened.settings
    learner = opened.learner(Inner(settings.inner_optimizer, settings.learning_rate), 1, seed)
    examples = [row for name in names for row in rows[name].values()]
    steps = Steps(settings.epochs, settings.batch_size)
    batches = adaptation.shuffled_batches(examples, steps, np.random.default_rng([seed, 1]))
    if batches:
        logging.info("seed %d: %d steps on %d examples of %s", seed, len(batches), len(examples),
                     ", ".join(names))
        learner.reset(now=seed)
        learner.adapt([[batch] for batch in batches])
        learner.load(learner.adapted(0))
    return learner


def ask_all(learner, opened, split, rows, seed):
    """Draws of all examples of each test domain, one a domain, as comparison.point takes them.

    Each also has the share of every label in the examples and in the answers: where these differ,
    so many answers at least are wrong for the sake of the label and not of the text.
    """
    draws = []
    for name in split.test:
        asked = list(rows[name].values())
        probabilities, = learner.predict([asked])
        draws.append({"seed": seed, "domain": name, "draw": 0,
                      "accuracy": adaptation.accuracy(asked, probabilities),
                      "labels": shares(opened.dataset.labels, [row.label for row in asked]),
                      "answers": shares(opened.dataset.labels, probabilities.argmax(axis=1))})
    return draws


def shares(labels, found):
    """{label: its share} of indexes of labels."""
    counts = np.bincount(found, minlength=len(labels))
    return dict(zip(labels, (counts / counts.sum()).tolist(), strict=True))


def ask_draws(learner, opened, split, rows, seed, shots):
    """Draws of every test domain after learning from so many shots, as comparison.point takes them.

    A draw's query depends on seed, domain and number of the draw alone, so that the same ones are
    asked whatever the start and the number of shots.
    """
    settings, dataset = opened.settings, opened.dataset
    keys = [(name, draw) for name in split.test for draw in range(settings.num_test_task)]
    seeds = [[seed, list(dataset.domains).index(name), draw] for name, draw in keys]
    drawn = [domains.draw_test(dataset, name, shots, settings.num_query,
                               np.random.default_rng(own))
             for (name, _), own in zip(keys, seeds, strict=True)]
    episodes = [tuple([rows[one.domain][example] for example in part]
                      for part in (one.support, one.query)) for one in drawn]
    steps = Steps(settings.inner_update_step_eval, settings.inner_batch_size)
    found = adaptation.query_accuracies(learner, tasks_at_once(settings), episodes, steps,
                                        [[*own, 1] for own in seeds])
    return [{"seed": seed, "domain": name, "draw": draw, "accuracy": accuracy}
            for (name, draw), accuracy in zip(keys, found, strict=True)]


def say(shots, seed, draws):
    """A line on the draws of a point so far."""
    mean = start_comparison.mean_of(draws)
    logging.info("seed %d, %s: accuracy so far %s %% (n = %d)", seed,
                 start_comparison.asked_after(shots), mean.percent(), mean.size)


def write(opened, split, chosen, points):
    """Leaves hyparams.txt, results.json, results.md and few_shot.png."""
    settings, folder = opened.settings, opened.settings.output_dir
    lines = list(start_comparison.table(points))
    files.write_json(os.path.join(folder, "hyparams.txt"), dataclasses.asdict(settings))
    files.write_text(os.path.join(folder, "results.md"), "\n".join(lines) + "\n")
    if settings.shots:
        meta_figures.few_shot_curves(
            os.path.join(folder, "few_shot.png"),
            {
                settings.tuning: [
                    (one["shots"], start_comparison.mean_of(one["draws"])) for one in points
                ]
            },
            split.test,
        )
    files.write_json(os.path.join(folder, results.RESULTS_FILE), {
        "data": files.sha256(opened.dataset.path), "labels": opened.dataset.labels,
        "test_domains": split.test, "train_domains": chosen,
        "draws_of": {"seeds": settings.seed_list, **({
            "num_test_task": settings.num_test_task, "num_query": settings.num_query,
        } if settings.shots else {})},
        "points": points, "settings": dataclasses.asdict(settings),
        "versions": results.versions()})
    for line in lines:
        logging.info(line)
