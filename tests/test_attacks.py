"""The real server under hostile requests: what each costs, and who else has to wait."""
import itertools
import threading
import time

import attacks
import pytest

MOST_CPU, MOST_MEMORY = 2.0, 64 << 20   # seconds, and bytes per MiB of body
MOST_HEALTH, MINUTES, MOST_GROWTH = 0.2, 10, 1.2
# The texts that cost most; ten minutes have all.
QUICK_TEXTS = ("words", "marks", "combining characters", "Chinese", "code points")


@pytest.fixture(name="target", scope="module")
def fixture_target(tmp_path_factory):
    """A server of the packs of attacks.PACKS with default flags."""
    folder = tmp_path_factory.mktemp("attacked")
    with attacks.attacked(*attacks.write_hub(folder), str(folder / "log")) as target:
        yield target


def quick():
    """An attack of each sort, of texts in one form for each verb."""
    texts = {name: attacks.TEXTS[name] for name in QUICK_TEXTS}
    chosen = {}
    for attack in attacks.text_attacks(texts, ["names", "question", "film"]):
        text, rows = attack.name.split(":")[0], attack.name.split(", ")[-1]
        chosen.setdefault((attack.path, text, rows), attack)
    return [*attacks.addresses(), *itertools.islice(attacks.structures(), 26), *chosen.values()]


def ask(target):
    """An ordinary request of another client."""
    return target.json("POST", "/v1/models/film:predict", {"instances": ["why not"]})


def test_an_attack_costs_little(target, record_property):
    assert ask(target)[0] == 200
    worst = dict.fromkeys(("CPU s", "MiB per MiB"), 0.0)
    for attack in quick():
        cost = target.cost(attack)
        size = max(1.0, len(attack.body) / attacks.LIMIT)
        assert cost.cpu <= MOST_CPU and cost.memory <= MOST_MEMORY * size, (attack.name, cost)
        assert cost.status != 500, (attack.name, cost)
        worst = {"CPU s": max(worst["CPU s"], cost.cpu),
                 "MiB per MiB": max(worst["MiB per MiB"], cost.memory / size / (1 << 20))}
    assert ask(target)[0] == 200
    for name, value in worst.items():
        record_property(name, round(value, 2))


@pytest.mark.long
def test_ten_minutes_of_attacks(target, record_property):
    """All attacks in turn: what each costs, and that the others and the memory bear it."""
    every = [*attacks.addresses(), *attacks.structures(),
             *attacks.text_attacks(attacks.TEXTS, list(attacks.PACKS))]
    statuses, over = [], threading.Event()

    def others():
        while not over.wait(0.5):
            statuses.append(ask(target)[0])

    for attack in every[::7]:   # what is kept for good is there before
        target.cost(attack)
    before, costs, end = target.memory(), [], time.monotonic() + 60 * MINUTES
    client = threading.Thread(target=others)
    client.start()
    for attack in itertools.cycle(every):
        if time.monotonic() > end:
            break
        costs.append((attack, target.cost(attack)))
    over.set()
    client.join()
    growth = target.memory() / before
    record_property("attacks", len(costs))
    record_property("growth", round(growth, 3))
    record_property("CPU s", max(cost.cpu for _, cost in costs))
    record_property("health s", round(max(cost.health for _, cost in costs), 3))
    record_property("MiB per MiB", round(max(
        cost.memory / max(1.0, len(attack.body) / attacks.LIMIT) for attack, cost in costs
    ) / (1 << 20), 1))
    record_property("requests of others refused", sum(status != 200 for status in statuses))
    over_bounds = [(attack.name, cost) for attack, cost in costs
                   if cost.cpu > MOST_CPU or cost.health > MOST_HEALTH or cost.status == 500
                   or cost.memory > MOST_MEMORY * max(1.0, len(attack.body) / attacks.LIMIT)]
    assert not over_bounds, over_bounds[:20]
    assert set(statuses) == {200} and growth <= MOST_GROWTH
