"""What the recipe chooses, from numbers that can be worked out by hand."""
import dataclasses
import math

import numpy as np
import pytest

from adapter_bert.train import prior, recipe, resolve
from adapter_bert.train.settings import Settings, with_method

FACTS = recipe.Facts(examples=3668, examples_per_step=32, hidden_size=384, reads_pooler=True,
                     pooler_is_trained=True)


def chosen(explicit=(), facts=FACTS, **flags):
    settings, _ = with_method(Settings(**flags), frozenset(flags))
    return {one.flag: one.value for one in recipe.choose(settings, explicit, facts)}


def test_adapters_on_a_small_set():
    assert chosen() == {
        "learning_rate": 1e-3, "num_train_epochs": 6.0, "warmup_proportion": 0.1,   # 600 steps
        "bias_correction": True, "head_bias_init": "labels", "adapter_init_stddev": 0.0227}


def test_explicit_flags_are_left_alone():
    explicit = {"learning_rate", "num_train_epochs", "bias_correction"}
    assert not explicit & chosen(explicit).keys()


@pytest.mark.parametrize("examples, epochs", [
    (60, 30.0),         # 320 epochs would make 600 steps; 30 is the most
    (1000, 20.0),       # 31.25 steps each
    (8551, 5.0), (20_000, 5.0),
    (20_001, 3.0), (393_000, 3.0)])
def test_small_sets_train_for_more_epochs(examples, epochs):
    assert chosen(facts=FACTS._replace(examples=examples))["num_train_epochs"] == epochs


@pytest.mark.parametrize("hidden, rate", [(128, 1e-3), (384, 1e-3), (768, 5e-4), (1024, 3.8e-4)])
def test_wide_models_take_smaller_rates(hidden, rate):
    assert chosen(facts=FACTS._replace(hidden_size=hidden))["learning_rate"] == rate


@pytest.mark.parametrize("tuning", ["full", "top_layers=3", "layer_norm", "bias", "head"])
def test_modes_without_adapters_have_rates_and_no_initial_weights(tuning):
    found = chosen(tuning=tuning)
    assert found["learning_rate"] == recipe.MODE_RATES[tuning.partition("=")[0]]
    assert "adapter_init_stddev" not in found


UNTRAINED = FACTS._replace(pooler_is_trained=False)


@pytest.mark.parametrize("tuning, wanted", [
    ("adapters", "adapters_norms_pooler"), ("adapters_only", "adapters_pooler"),
    ("adapters_drop", "adapters_drop_pooler"), ("head", "head_pooler")])
def test_a_pooler_that_was_never_trained_trains(tuning, wanted):
    assert chosen(facts=UNTRAINED, tuning=tuning)["tuning"] == wanted
    assert "tuning" not in chosen(tuning=tuning)
    assert "tuning" not in chosen({"train_pooler"}, UNTRAINED, tuning=tuning)
    assert "tuning" not in chosen(facts=UNTRAINED._replace(reads_pooler=False), tuning=tuning)


def test_full_tuning_trains_the_pooler_anyway():
    assert "tuning" not in chosen(facts=UNTRAINED, tuning="full")


def test_a_pooler_is_measured_only_where_the_recipe_decides():
    assert recipe.may_train_pooler(Settings(), (), True)
    for settings, explicit, reads_pooler in (
            (Settings(recipe="reference"), (), True), (Settings(tuning="full"), (), True),
            (Settings(train_pooler=True), {"train_pooler"}, True), (Settings(), (), False)):
        assert not recipe.may_train_pooler(settings, explicit, reads_pooler)


def test_reference_changes_nothing():
    settings = Settings(recipe="reference")
    assert recipe.apply(settings, (), UNTRAINED, {}) == (settings, [])


def test_train_pooler_works_with_the_reference_too():
    settings, _ = recipe.apply(Settings(recipe="reference", train_pooler=True),
                               {"train_pooler"}, FACTS, {})
    assert settings.tuning == "adapters_norms_pooler"


def test_a_resumed_run_keeps_what_it_started_with():
    settings, choices = recipe.apply(Settings(), (), FACTS, {"learning_rate": 2e-4})
    assert settings.learning_rate == 2e-4
    assert next(one for one in choices if one.flag == "learning_rate").reason == (
        "as this run was started")


def test_a_run_of_an_earlier_version_keeps_the_bias_of_its_head(monkeypatch):
    monkeypatch.setattr(resolve.initial_values, "all_of", lambda folder: ["model.ckpt-3"])
    monkeypatch.setattr(resolve.checkpoint_io, "recorded_run",
                        lambda prefix: {"flags": {"seed": 0}})
    settings, _ = recipe.apply(Settings(), (), FACTS, resolve.recorded_flags("out"))
    assert settings.head_bias_init == "zeros"


def test_the_block_says_each_flag():
    settings = Settings()
    lines = "\n".join(recipe.lines(recipe.choose(settings, (), UNTRAINED), "auto"))
    for flag in ("--learning_rate=0.001", "--num_train_epochs=6", "--bias_correction",
                 "--tuning=adapters_norms_pooler", "--notrain_pooler"):
        assert flag in lines
    assert dataclasses.asdict(settings).keys() >= set(recipe.FLAGS)


def test_prior_of_classes():
    found = prior.of_classes(np.array([0, 0, 0, 1]), 3)
    assert found.bias == pytest.approx([math.log(4 / 7), math.log(2 / 7), math.log(1 / 7)])
    assert found.loss == pytest.approx(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25)))


def test_prior_of_scores():
    assert prior.of_scores(np.array([1.0, 3.0])) == ((2.0,), 1.0)


def test_prior_of_positions():
    assert prior.of_positions(np.array([8, 8])).loss == pytest.approx(math.log(8))
