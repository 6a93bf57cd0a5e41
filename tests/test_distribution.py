"""Several workers train what one process trains: sums, shares, whole runs, deaths of workers."""
import dataclasses
import glob
import json
import random
import re
import socket
import threading

import clusters as running
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from conftest import TINY, TINY_VOCAB
from runs import values, write, write_sst2

from adapter_bert.bert import checkpoint_io, modeling
from adapter_bert.data.batches import share
from adapter_bert.errors import InputError
from adapter_bert.kinds import heads
from adapter_bert.train.distributed import allreduce, clusters, launch
from adapter_bert.train.settings import Settings, check

TWO = ("127.0.0.1:1", "127.0.0.1:2")


def settings(**flags):
    return Settings(**{"data_dir": "d", "task_name": "SST-2", "output_dir": "o", "do_train": True,
                       "distribution": "multi_worker", **flags})


def find(monkeypatch, text, **flags):
    monkeypatch.setenv("TF_CONFIG", text)
    return clusters.find(settings(**flags))


def test_tf_config(monkeypatch):
    cluster = find(monkeypatch, running.config(TWO, (), "worker", 1))
    assert (cluster.workers, cluster.number, cluster.is_chief) == (TWO, 1, False)
    chief = json.dumps({"cluster": {"chief": TWO[:1], "worker": TWO[1:]},
                        "task": {"type": "worker", "index": 0}})
    assert find(monkeypatch, chief) == cluster
    server = find(monkeypatch, running.config(TWO, ("h:3",), "ps", 0),
                  distribution="parameter_server")
    assert server.is_server and not server.is_chief
    assert find(monkeypatch, '{"task": {"type": "worker", "index": 0}}').is_alone


@pytest.mark.parametrize("text,flags,message", [
    ("", {}, "TF_CONFIG is missing; set it to"),
    ("{not JSON", {}, "not of the form"),
    ("[]", {}, "not of the form"),
    (json.dumps({"cluster": {"worker": TWO}}), {}, "not of the form"),
    (running.config(TWO, (), "worker", 2), {}, "not of the form"),
    (running.config(("noport",), (), "worker", 0), {}, "not of the form"),
    (json.dumps({"cluster": {"worker": TWO, "evaluator": ["h:1"]},
                 "task": {"type": "worker", "index": 0}}), {}, "the job evaluator is not known"),
    (running.config(TWO, (), "worker", 0), {"train_batch_size": 9}, "multiple of the 2 workers"),
    (running.config(TWO, (), "worker", 0), {"distribution": "parameter_server"}, "0 tasks of the"),
    (running.config(TWO, ("h:3",), "worker", 0), {}, "1 tasks of the job ps"),
    (running.config(TWO, (), "worker", 0), {"distribution": "none"}, "give --distribution="),
])
def test_bad_clusters_get_one_line(monkeypatch, text, flags, message):
    with pytest.raises(InputError, match=message) as error:
        find(monkeypatch, text, **flags)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("flags,message", [
    ({"distribution": "horovod"}, "not one of none, mirrored"),
    ({"use_tpu": True, "tpu_name": "local"}, "a TPU shares batches by itself"),
    ({"do_train": False, "do_eval": True}, "distributes training"),
    ({"distribution_timeout": 0}, "at least 1"),
])
def test_bad_flags_get_one_line(flags, message):
    with pytest.raises(InputError, match=message):
        check(settings(**flags))


def test_mirrored_wants_gpus_or_a_number():
    with pytest.raises(InputError, match="sees no GPU; give --num_replicas"):
        launch.run(0, 8)
    with pytest.raises(InputError, match="multiple of the 3 processes"):
        launch.run(3, 8)


def test_a_port_in_use_gets_one_line():
    with socket.create_server(("0.0.0.0", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InputError, match=f"no server starts at {address}"):
            allreduce.start_server(clusters.Cluster((address, TWO[0]), timeout=5))


def test_readers_share_each_batch_without_overlap(graph):
    batches = tf.data.Dataset.from_tensors({"index": tf.range(10), "ids": tf.eye(10)}).repeat(2)
    parts = [tf.data.make_one_shot_iterator(share(batches, i, 3)).get_next() for i in range(3)]
    with tf.Session() as session:
        for _ in range(2):
            found = [part["index"] for part in session.run(parts)]
            assert [len(part) for part in found] == [4, 3, 3]
            assert sorted(np.concatenate(found)) == list(range(10))


def test_a_shared_loss_is_the_mean_over_the_whole_batch(graph):
    """Parts of unequal counts: a mean of means would be another number."""
    sums, counts = [tf.constant([6.0]), tf.constant([1.0, 2.0])], [[1.0], [4.0, 4.0]]
    outputs = [heads.Output({}, {"loss": heads.Loss(s, tf.constant(c))})
               for s, c in zip(sums, counts, strict=True)]

    def summed(tensors, name):
        assert name in ("counts", "losses") and len(tensors) == 1
        return [tf.constant([9.0])]
    losses = [heads.shared_loss(output, summed) for output in outputs]
    with tf.Session() as session:
        (first, whole), (second, same) = session.run(losses)
    assert whole == same == 1.0
    assert first + second == pytest.approx(1.0)
    assert np.mean([6 / 1, 3 / 8]) != 1.0


def in_threads(function, count):
    """[function(0), ..., function(count - 1)], run side by side."""
    results = [None] * count

    def call(number):
        try:
            results[number] = function(number)
        except Exception as error:
            results[number] = error
    threads = [threading.Thread(target=call, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.fixture(name="links", scope="module")
def fixture_links():
    """Links of three workers with two parameter servers, all in this process."""
    ports = [f"127.0.0.1:{port}" for port in launch.free_ports(5)]
    cluster = clusters.Cluster(tuple(ports[:3]), tuple(ports[3:]), timeout=30)
    for number in range(2):
        allreduce.start_server(dataclasses.replace(cluster, number=number, is_server=True))
    return [allreduce.open_link(dataclasses.replace(cluster, number=number)) for number in range(3)]


def test_sums_on_two_parameter_servers(links):
    link_of = [dataclasses.replace(link, stretch=7) for link in links]

    def work(number):
        link = link_of[number]
        with tf.Graph().as_default(), tf.device(link.device):
            own = [tf.fill([2, 2], 10.0 ** number), tf.constant(float(number)), tf.zeros([3])]
            summed = allreduce.Sums(link)
            sums = summed(own, "sums")
            with tf.Session(link.target, config=link.session_config()) as session:
                return [session.run([sums, summed.done])[0] for _ in range(5)]
    for steps in in_threads(work, 3):
        for matrix, scalar, zeros in steps:
            assert np.array_equal(matrix, np.full([2, 2], 111.0))
            assert scalar == 3.0 and not zeros.any()


def test_workers_learn_where_the_chief_stands(links):
    met = in_threads(lambda n: allreduce.meet(links[n], 40 + n, 50 - n, "ab" * 32), 3)
    assert [(step, stop) for _, step, stop in met] == [(40, 50)] * 3
    assert len({link.stretch for link, _, _ in met}) == 1
    again = in_threads(lambda n: allreduce.meet(links[n], 50, 50, "ab" * 32), 3)
    assert again[0][0].stretch != met[0][0].stretch


def test_a_worker_with_other_data_is_refused(links):
    met = in_threads(lambda n: allreduce.meet(links[n], 0, 5, ("ab", "ab", "cd")[n] * 32), 3)
    assert all(isinstance(error, InputError) for error in met)
    assert "worker 2 was started with other data" in str(met[0])


def test_a_worker_started_twice_is_noticed():
    rows = np.array([[1, 0, 5, 1, 9], [2, 0, 5, 2, 18]])
    with pytest.raises(InputError, match="started again while the others waited"):
        allreduce.refuse_others(rows)


def test_dropout_of_the_chief_is_that_of_one_process():
    seeds = [clusters.Cluster(TWO, number=number).seed(3) for number in (0, 1, 2)]
    assert seeds[0] == 3 and len(set(seeds)) == 3


@pytest.fixture(name="flags", scope="module")
def fixture_flags(tmp_path_factory):
    """Data, and a base without dropout, for 50 steps of 12 examples."""
    folder = tmp_path_factory.mktemp("undropped")
    config = modeling.without_dropout(TINY)
    bert = folder / "uncased_tiny"
    bert.mkdir()
    (bert / "bert_config.json").write_text(config.to_json_string())
    write(str(bert / "vocab.txt"), TINY_VOCAB + [
        f"word{i}" for i in range(TINY.vocab_size - len(TINY_VOCAB))])
    source = np.random.default_rng(0)
    checkpoint_io.write_checkpoint(str(bert / "bert_model.ckpt"), {
        name: source.normal(float(name.endswith("gamma")), 0.3, shape).astype(np.float32)
        for name, shape in checkpoint_io.variable_shapes(TINY.to_dict()).items()})
    data = write_sst2(str(folder / "SST-2"), train=120)
    return {"bert_dir": str(bert), "data_dir": data, "num_train_epochs": 5.0}


@pytest.fixture(name="alone", scope="module")
def fixture_alone(tmp_path_factory, flags):
    """The output folder of a run of one process, and the loss of its last step."""
    out = str(tmp_path_factory.mktemp("alone"))
    process = running.start(output_dir=out, **flags)
    lines = process.communicate()[0]
    assert process.returncode == 0, lines
    return out, last_loss(lines)


def last_loss(lines):
    return float(re.search(r"step 50 of 50, loss ([0-9.]+)", lines)[1])


def largest_difference(first, second):
    """Of the weights of two runs after 50 steps."""
    first, second = (values(f"{folder}/model.ckpt-50") for folder in (first, second))
    names = [name for name in first if not name.endswith(("/adam_m", "/adam_v"))]
    return max(np.abs(first[name] - second[name]).max() for name in names)


def check_equal_to(alone, workers, servers, flags, out):
    cluster = running.Cluster(workers, servers, output_dir=out, distribution_timeout=120, **flags)
    try:
        lines = cluster.finish()
    finally:
        cluster.end()
    assert last_loss(lines["worker", 0]) == pytest.approx(alone[1], abs=1.01e-4)
    assert largest_difference(out, alone[0]) < 1e-5
    assert not glob.glob(f"{out}/worker-1/model.ckpt-*") and glob.glob(f"{out}/pack/*")


@pytest.mark.slow
def test_two_workers_train_what_one_process_trains(tmp_path, alone, flags):
    check_equal_to(alone, 2, 0, flags, str(tmp_path))


@pytest.mark.long
@pytest.mark.parametrize("workers,servers", [(3, 0), (2, 1), (3, 2)])
def test_workers_and_servers_train_what_one_process_trains(tmp_path, alone, flags, workers,
                                                           servers):
    check_equal_to(alone, workers, servers, flags, str(tmp_path))


@pytest.mark.long
def test_another_seed_is_another_run(tmp_path, alone, flags):
    """What the tests above compare can differ."""
    process = running.start(output_dir=str(tmp_path), seed=1, **flags)
    process.communicate()
    assert largest_difference(str(tmp_path), alone[0]) > 1e-3


@pytest.mark.long
def test_mirrored_trains_what_one_process_trains(tmp_path, alone, flags):
    process = running.start(output_dir=str(tmp_path), distribution="mirrored", num_replicas=2,
                            **flags)
    lines = process.communicate()[0]
    assert process.returncode == 0, lines
    assert largest_difference(str(tmp_path), alone[0]) < 1e-5


def end_after_deaths(alone, flags, out, deaths, seed):
    """Trains with two workers, of which one is killed at a random step so many times."""
    source = random.Random(seed)
    cluster = running.Cluster(2, output_dir=out, save_checkpoints_steps=3, distribution_timeout=300,
                              plan=[("worker", source.randrange(2)) for _ in range(deaths)],
                              steps=source.choices(range(1, 5), k=deaths), **flags)
    try:
        lines = cluster.finish()
    finally:
        cluster.end()
    assert cluster.deaths == deaths
    assert largest_difference(out, alone[0]) < 1e-5
    return lines


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize("deaths", [1, pytest.param(10, marks=pytest.mark.long)])
def test_a_job_whose_workers_die_ends_with_the_same_weights(tmp_path, alone, flags, deaths):
    lines = end_after_deaths(alone, flags, str(tmp_path), deaths, seed=deaths)
    for text in lines.values():
        assert "Traceback" not in text
    assert any("error: another worker" in text for text in lines.values())
