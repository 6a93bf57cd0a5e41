"""The server: TensorFlow Serving's forms, what is refused, batches, packs that come and go."""
import base64
import concurrent.futures
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import hubs
import numpy as np
import pytest
from banks import TOKEN, Client, FakeBank, expected, serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packs import tiny_pack

import adapter_bert
from adapter_bert import files
from adapter_bert.__main__ import main
from adapter_bert.errors import InputError
from adapter_bert.packs import hub, store
from adapter_bert.packs.bases import base_of
from adapter_bert.packs.manifest import Base, Spans
from adapter_bert.serve import bearer_tokens, requests, requests_log, server
from adapter_bert.serve.server_settings import Settings

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LABELS = ("negative", "positive")
IN_JSON = {"Content-Type": "application/json"}
KINDS = {"film": {"labels": LABELS}, "either": {"labels": ("a", "b", "c"), "pair": None},
         "score": {"head": "regression", "labels": (), "pair": True, "task": "STS-B"},
         "names": {"head": "tokens", "labels": ("O", "B-PER", "I-PER"), "pair": None},
         "question": {"head": "spans", "labels": (), "pair": True,
                      "spans": Spans(5, 3, 20, 6, None)}}


@pytest.fixture(name="on", scope="module")
def fixture_on(tiny_dir):
    """The manifest.Base of the tiny BERT."""
    return base_of(tiny_dir)


@pytest.fixture(name="packs", scope="module")
def fixture_packs(on):
    """{name: store.Pack}."""
    return {name: tiny_pack(seed, on, **values)
            for seed, (name, values) in enumerate(KINDS.items())}


@pytest.fixture(name="folder", scope="module")
def fixture_folder(packs, tmp_path_factory):
    """A hub of these packs."""
    folder = str(tmp_path_factory.mktemp("hub"))
    for name, pack in packs.items():
        push(folder, name, pack)
    return folder


@pytest.fixture(name="client", scope="module")
def fixture_client(tiny_dir, folder):
    """A Client of a server of that hub, with low bounds."""
    with serving(FakeBank(tiny_dir), hub=folder, max_rows=8, max_characters=100,
                 max_body_bytes=20_000) as client:
        yield client


def push(folder, name, pack):
    path = os.path.join(folder, "made", f"{name}.zip")
    store.write(path, pack)
    hub.push(path, folder, name, overwrite=True)


def content_of(folder, name):
    return hubs.content_of(folder, f"{name}.zip")


def said(pack, text_a, text_b=None):
    """The probabilities or the score that FakeBank gives."""
    return expected(pack, text_a if text_b is None else (text_a, text_b)).tolist()


def ask(client, name, *texts, verb="predict"):
    return client.json("POST", f"/v1/models/{name}:{verb}", {"instances": list(texts)})


# --- TensorFlow Serving's forms

def test_status_and_metadata(client):
    for address in ("film", "film/versions/1", "adapter-bert"):
        status, value = client.json("GET", f"/v1/models/{address}")
        assert status == 200 and value == {"model_version_status": [{
            "version": "1", "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""}}]}
    status, value = client.json("GET", "/v1/models/film/metadata")
    assert status == 200 and value["model_spec"] == {
        "name": "film", "signature_name": "", "version": "1"}
    signature = value["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"].keys() == {"text_a"}
    assert signature["outputs"].keys() == {"label", "probabilities"}
    assert signature["outputs"]["probabilities"]["tensor_shape"]["dim"][1]["size"] == "2"
    assert value["metadata"]["pack"]["labels"] == list(LABELS)
    _, value = client.json("GET", "/v1/models/adapter-bert/metadata")
    signature = value["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"].keys() == {"text_a", "text_b", "task"}


@pytest.mark.parametrize("instance", [
    "a film", {"text_a": "a film"}, {"b64": base64.b64encode(b"a film").decode()},
    {"text_a": {"b64": "YSBmaWxt"}}, {"text_a": "a film", "text_b": None},
    {"text_a": "a film", "task": "film"}])
def test_predict_in_rows(client, packs, instance):
    wanted = said(packs["film"], "a film")
    body = {"instances": [instance, "é 你好"], "signature_name": "serving_default"}
    status, value = client.json("POST", "/v1/models/film/versions/1:predict", body)
    assert status == 200 and value["predictions"][0] == {
        "label": LABELS[int(np.argmax(wanted))], "probabilities": wanted}
    assert value["predictions"][1]["probabilities"] == said(packs["film"], "é 你好")


def test_predict_in_columns(client, packs):
    wanted = [said(packs["either"], "x"), said(packs["either"], "y", "z")]
    status, value = client.json("POST", "/v1/models/either:predict", {
        "inputs": {"text_a": ["x", "y"], "text_b": [None, "z"]}})
    assert status == 200 and value["outputs"] == {
        "label": ["abc"[int(np.argmax(one))] for one in wanted], "probabilities": wanted}
    _, value = client.json("POST", "/v1/models/film:predict", {"inputs": ["x"]})
    assert value["outputs"]["probabilities"] == [said(packs["film"], "x")]


def test_a_single_output_goes_without_its_name(client, packs):
    wanted = said(packs["score"], "x", "y")
    _, value = ask(client, "score", {"text_a": "x", "text_b": "y"})
    assert value == {"predictions": wanted}
    _, value = client.json("POST", "/v1/models/score:predict",
                           {"inputs": {"text_a": ["x"], "text_b": ["y"]}})
    assert value == {"outputs": wanted}


def test_classify_and_regress(client, packs):
    status, value = client.json("POST", "/v1/models/either:classify", {
        "examples": [{"text_a": "x"}, {"text_a": ["y"]}], "context": {"text_b": "z"}})
    assert status == 200 and value == {"results": [
        [list(one) for one in zip("abc", said(packs["either"], text, "z"), strict=True)]
        for text in "xy"]}
    status, value = client.json("POST", "/v1/models/score:regress", {
        "examples": [{"text_a": "x", "text_b": "z"}], "signature_name": "regress"})
    assert status == 200 and value == {"results": said(packs["score"], "x", "z")}


def test_all_tasks_under_one_name(client, packs):
    rows = [("score", "x", "y"), ("film", "x", None), ("either", "x", None), ("film", "y", None)]
    instances = [{"task": name, "text_a": a, "text_b": b} for name, a, b in rows]
    status, value = client.json("POST", "/v1/models/adapter-bert:predict",
                                {"instances": instances})
    assert status == 200
    for (name, *texts), row in zip(rows, value["predictions"], strict=True):
        assert row["task"] == name
        wanted = said(packs[name], *texts)
        assert wanted == ([row["score"]] if name == "score" else row["probabilities"])
    columns = {key: [one[key] for one in instances] for key in ("task", "text_a", "text_b")}
    _, value = client.json("POST", "/v1/models/adapter-bert:predict", {"inputs": columns})
    assert value["outputs"]["task"] == [name for name, *_ in rows]
    assert value["outputs"]["label"][0] is None and value["outputs"]["score"][1] is None
    _, value = client.json("POST", "/v1/models/adapter-bert:classify", {
        "examples": [{"text_a": "x"}], "context": {"task": "film"}})
    assert value["results"][0][1] == ["positive", said(packs["film"], "x")[1]]


# --- names in texts, answers to questions

CONTEXT = "the film was good . a fine story \U0001f642 it was"


def test_names_and_answers(client):
    body = {"instances": ["the film was g\u00f3od", "", "\u00ad"]}
    status, value = client.json("POST", "/v1/models/names:predict", body)
    first, *others = (row["entities"] for row in value["predictions"])
    assert status == 200 and others == [[], []] and first
    for one in first:
        assert list(one) == ["text", "label", "start", "end", "probability"]
        assert one["text"] == body["instances"][0][one["start"]:one["end"]]
    _, value = client.json("POST", "/v1/models/names:predict", {"inputs": body["instances"]})
    assert value == {"outputs": {"entities": [first, [], []]}}
    pair = {"text_a": "film", "text_b": CONTEXT}
    status, value = ask(client, "question", pair, {**pair, "text_a": "a story"})
    assert status == 200
    for one in value["predictions"]:
        assert list(one) == ["answer", "start", "end", "probability"] and one["answer"]
        assert one["answer"] == CONTEXT[one["start"]:one["end"]] and 0 < one["probability"] <= 1
    _, columns = client.json("POST", "/v1/models/question:predict", {
        "inputs": {"text_a": ["film", "a story"], "text_b": [CONTEXT] * 2}})
    assert columns["outputs"] == {name: [row[name] for row in value["predictions"]]
                                  for name in value["predictions"][0]}
    status, value = ask(client, "adapter-bert", {"task": "names", "text_a": "a film"},
                        {"task": "question", **pair}, {"task": "film", "text_a": "a"})
    assert status == 200 and [sorted(row) for row in value["predictions"]] == [
        ["entities", "task"], ["answer", "end", "probability", "start", "task"],
        ["label", "probabilities", "task"]]


def test_metadata_of_names_and_answers(client):
    for name, inputs, outputs in (
            ("names", {"text_a"}, {"entities"}),
            ("question", {"text_a", "text_b"}, {"answer", "start", "end", "probability"})):
        _, value = client.json("GET", f"/v1/models/{name}/metadata")
        signature = value["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert signature["inputs"].keys() == inputs and signature["outputs"].keys() == outputs


def test_the_windows_of_a_context_count(tiny_dir, folder):
    """A row each: of a request no more than max_rows, and all of them have room in the queue."""
    bank = FakeBank(tiny_dir)
    with serving(bank, hub=folder, max_rows=8, queue_rows=8, batch_rows=3) as client:
        pair = {"text_a": "film", "text_b": "a " * 25}    # 6 windows
        assert ask(client, "question", pair)[0] == 200
        assert [len(batch) for batch in bank.batches] == [3, 3]
        status, value = ask(client, "question", pair, pair)
        assert status == 400 and "room for 2; send fewer" in value["error"]
        bank.batches.clear()
        first = held(bank, client)
        waits = flood(client, [("/v1/models/question:predict", {"instances": [pair]})])[0]
        client.wait("adapter_bert_queue_rows", 6)
        status, value = ask(client, "question", pair)
        assert status == 503 and "too many texts wait already" in value["error"]
        assert client.count("adapter_bert_queue_rows") == 6
        bank.wall.set()
        assert first.result()[0] == waits.result()[0] == 200
        assert client.count("adapter_bert_queue_rows") == 0


# --- what is refused

@pytest.mark.parametrize("body,words", [
    (b"", "not JSON"), (b"{", "not JSON"), (b"\xff{}", "UTF-8"), (b"\xef\xbb\xbf{}", "BOM"),
    (b"[]", "a list, not an object"), (b"3", "a number"), (b"null", "null"), (b"{}", "nothing"),
    (b'{"instances": [NaN]}', "NaN"), (b'{"instances": [-Infinity]}', "Infinity"),
    (b'{"instances": [1e999]}', "too large"),
    (b'{"instances": [' + b"9" * 5000 + b"]}", "4300 digits"),
    (b'{"instances": [3]}', "text_a is a number"), (b'{"instances": [null]}', "no text_a"),
    (b'{"instances": [true]}', "true or false"), (b'{"instances": [["a"]]}', "a list"),
    (b'{"instances": [{}]}', "no text_a"), (b'{"instances": [{"text": "a"}]}', "'text'"),
    (b'{"instances": []}', "0 rows"), (b'{"instances": "a"}', "a text, not a list"),
    (b'{"instances": {}}', "an object, not a list"),
    (b'{"instances": ["a", "a"], "instances": ["a"]}', "twice"),
    (b'{"instances": [{"text_a": "a", "text_a": "b"}]}', "twice"),
    (b'{"instances": ["a"], "inputs": ["a"]}', "both"),
    (b'{"instances": ["a"], "other": 1}', "'other'"),
    (b'{"instances": ["\\ud800"]}', "surrogate"), (b'{"\\uDFFF": ["a"]}', "surrogate"),
    (b'{"instances": ["a"], "signature_name": "x"}', "signature_name"),
    (b'{"instances": ["a"], "signature_name": 3}', "signature_name"),
    (b'{"instances": [{"b64": "!"}]}', "base64"), (b'{"instances": [{"b64": "/w=="}]}', "UTF-8"),
    (b'{"instances": [{"b64": 3}]}', "an object"),
    (b'{"instances": [{"b64": "YQ==", "x": 1}]}', "an object"),
    (b'{"inputs": "a"}', "a text"), (b'{"inputs": {}}', "0 rows"),
    (b'{"inputs": {"text_a": "a"}}', "not a list"), (b'{"inputs": {"b64": "YQ=="}}', "not a list"),
    (b'{"inputs": {"text_a": ["a"], "text_b": []}}', "0 and 1 entries"),
    (b'{"instances": ["a","a","a","a","a","a","a","a","a"]}', "9 rows"),
    (b'{"instances": ["' + b"a" * 101 + b'"]}', "101 characters"),
    (b'{"instances": [{"text_a": "a", "text_b": "b"}]}', "single texts"),
    (b'{"instances": [{"text_a": "a", "task": "score"}]}', "the task 'score'"),
    (b"[" * 10_000, "too deeply"), (b'{"a":' * 3000, "too deeply"),
    (b'{"instances": ["a"]} x', "not JSON"), (b"\0" * 100, "not JSON")])
def test_bodies_that_are_refused(client, body, words):
    status, value = client.json("POST", "/v1/models/film:predict", body)
    assert status == 400 and value.keys() == {"error"}
    assert words in value["error"] and "\n" not in value["error"] and len(value["error"]) < 300


@pytest.mark.parametrize("address,value,words", [
    ("score:predict", {"instances": ["a"]}, "pairs of texts"),
    ("score:classify", {"examples": [{"text_a": "a", "text_b": "b"}]}, "a task of regression"),
    ("film:regress", {"examples": [{"text_a": "a"}]}, "a task of classification"),
    ("film:classify", {"instances": ["a"]}, "examples"),
    ("film:classify", {"examples": ["a"]}, "not an object"),
    ("film:classify", {"examples": [{"text_a": "a"}], "context": []}, "not an object"),
    ("film:classify", {"examples": [{"text_a": "a"}], "context": {"text_a": "a"}}, "as well"),
    ("film:classify", {"examples": [{"text_a": ["a", "b"]}]}, "a list"),
    ("adapter-bert:predict", {"instances": ["a"]}, "has no task"),
    ("names:classify", {"examples": [{"text_a": "a"}]}, "a task of tokens: ask it to :predict"),
    ("question:regress", {"examples": [{"text_a": "a"}]}, "a task of spans: ask it to :predict"),
    ("names:predict", {"instances": [{"text_a": "a", "text_b": "b"}]}, "single texts"),
    ("question:predict", {"instances": ["a"]}, "takes a question and its context"),
    ("question:predict", {"instances": [{"text_a": "a", "text_b": "a"}, {
        "text_a": "a", "text_b": " "}]}, "row 1: its context has no word"),
    ("question:predict", {"instances": [{"text_a": "a", "text_b": "a " * 50}]}, "room for 8")])
def test_questions_that_are_refused(client, address, value, words):
    status, value = client.json("POST", f"/v1/models/{address}", value)
    assert status == 400 and words in value["error"]


@pytest.mark.parametrize("method,path,wanted", [
    ("POST", "/v1/models/none:predict", 404), ("GET", "/v1/models/none", 404),
    ("GET", "/v1/models/none/metadata", 404), ("POST", "/v1/models/film/versions/2:predict", 404),
    ("GET", "/v1/models/film/versions/2", 404), ("POST", "/v1/models/film:explain", 404),
    ("POST", "/v1/models/film/versions/x:predict", 404), ("GET", "/v1/models/", 404),
    ("POST", "/v1/models/film/labels/stable:predict", 404), ("GET", "/v2", 404),
    ("GET", "/docs", 404), ("GET", "/openapi.json", 404), ("GET", "/v1/models/film/", 404),
    ("GET", "/v1/models/film:predict", 405), ("POST", "/v1/models/film", 405),
    ("PUT", "/v1/models/film:predict", 405), ("DELETE", "/v1/models/film", 405),
    ("POST", "/healthz", 405), ("GET", "/v1/packs/film", 405), ("BREW", "/", 405),
    ("GET", "/v1/models/" + "x" * 5000, 404), ("GET", "/v1/models/%ff%00", 404),
    ("GET", "/v1/packs?limit=x", 400), ("GET", "/v1/packs?offset=-1", 400)])
def test_addresses_that_are_refused(client, method, path, wanted):
    body = {"instances": ["a"]} if method == "POST" else None
    status, value = client.json(method, path, body)
    assert status == wanted and value.keys() == {"error"}
    assert len(value["error"]) < 300


def test_an_unknown_task_in_a_row(client):
    status, value = ask(client, "adapter-bert", {"text_a": "x", "task": "\u2028none"})
    assert status == 404 and "none" in value["error"]


@pytest.mark.parametrize("headers,wanted", [
    ({}, 200), (IN_JSON, 200), ({"Content-Type": "application/json; charset=utf-8"}, 200),
    ({"Content-Type": "application/x-www-form-urlencoded"}, 200),   # as curl -d sends it
    ({"Content-Type": "application/x-protobuf"}, 415), ({"Content-Type": "image/png"}, 415),
    ({"Content-Type": "application/json; charset=latin-1"}, 415),
    ({"Content-Type": "multipart/form-data; boundary=x"}, 415),
    ({"Content-Encoding": "gzip"}, 415)])
def test_kinds_of_content(client, headers, wanted):
    body = b'{"instances": ["a"]}'
    assert client.json("POST", "/v1/models/film:predict", body, headers)[0] == wanted


def test_a_long_body_is_refused_before_it_is_read(client):
    with socket.create_connection(("127.0.0.1", client.port)) as peer:
        peer.sendall(b"POST /v1/models/film:predict HTTP/1.1\r\nHost: localhost\r\n"
                     b"Content-Length: 99999999999\r\n\r\n")
        assert peer.recv(1000).startswith(b"HTTP/1.1 413 ")
    with socket.create_connection(("127.0.0.1", client.port)) as peer:
        peer.sendall(b"POST /v1/models/film:predict HTTP/1.1\r\nHost: localhost\r\n"
                     b"Transfer-Encoding: chunked\r\n\r\n" + b"1000\r\n" + b" " * 4096 + b"\r\n")
        peer.sendall((b"1000\r\n" + b" " * 4096 + b"\r\n") * 5)
        assert peer.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_what_is_no_http(client):
    for text in (b"\0\1\2\r\n\r\n", b"GET /\r\n\r\n",
                 b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", client.port)) as peer:
            peer.sendall(text)
            assert peer.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_a_body_that_breaks_off(client):
    with socket.create_connection(("127.0.0.1", client.port)) as peer:
        peer.sendall(b"POST /v1/models/film:predict HTTP/1.1\r\nHost: localhost\r\n"
                     b"Content-Length: 100\r\n\r\n{")
    assert ask(client, "film", "a")[0] == 200


TEXTS = st.text(max_size=120) | st.sampled_from(["film", "score", "text_a", "b64", "a b", ""])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12)
ROWS = st.lists(JSON_VALUES | st.fixed_dictionaries({"text_a": JSON_VALUES}, optional={
    "text_b": JSON_VALUES, "task": JSON_VALUES, "b64": JSON_VALUES}), max_size=4)
BODIES = st.fixed_dictionaries({}, optional={
    "instances": ROWS | JSON_VALUES, "inputs": JSON_VALUES | st.dictionaries(
        st.sampled_from(["text_a", "text_b", "task"]), ROWS), "examples": ROWS | JSON_VALUES,
    "context": JSON_VALUES | st.dictionaries(st.sampled_from(["text_b", "task"]), TEXTS),
    "signature_name": st.none() | TEXTS}) | JSON_VALUES
ADDRESSES = st.builds("{}:{}".format, st.sampled_from([*KINDS, "adapter-bert"]),
                      st.sampled_from(["predict", "classify", "regress"]))
FUZZ = settings(max_examples=400, deadline=None,
                suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(ADDRESSES, BODIES)
def test_no_value_makes_a_5xx(client, address, value):
    status, answer = client.json("POST", f"/v1/models/{address}", value)
    assert status == 200 or (status in (400, 404) and answer.keys() == {"error"})


@FUZZ
@given(ADDRESSES, st.binary(max_size=200), st.integers(0, 40))
def test_no_bytes_make_a_5xx(client, address, noise, place):
    good = b'{"instances": [{"text_a": "x", "text_b": "y"}]}'
    for body in (noise, good[:place] + noise + good[place:], good[:place] + noise):
        assert client.send("POST", f"/v1/models/{address}", body)[0] in (200, 400, 404)


@FUZZ
@given(st.sampled_from(["GET", "POST", "DELETE", "PUT", "HEAD"]),
       st.lists(st.sampled_from(["v1", "models", "packs", "film", "versions", "1", "labels", ":",
                                 "predict", "metadata", "%2f", "%ff", "..", "", "page", "?q=%00"])
                | st.text("abc/:%?#[]@!$&'()*+,;=~", max_size=8), max_size=6).map("/".join))
def test_no_address_makes_a_5xx(client, method, path):
    body = b"{}" if method in ("POST", "PUT") else None
    assert client.send(method, "/" + path, body)[0] < 500


@FUZZ
@given(st.sampled_from(["Content-Type", "Content-Encoding", "Authorization", "Expect", "Range",
                        "Accept", "Cookie", "X-Forwarded-For"]), st.text(st.characters(
                            min_codepoint=32, max_codepoint=126), max_size=60))
def test_no_header_makes_a_5xx(client, name, value):
    for method, path in (("POST", "/v1/models/film:predict"), ("DELETE", "/v1/packs/none")):
        assert client.send(method, path, b'{"instances": ["x"]}', {name: value})[0] < 500


# --- batches

def flood(client, bodies):
    """Futures of client.json for bodies that are sent at once."""
    pool = concurrent.futures.ThreadPoolExecutor(len(bodies))
    return [pool.submit(client.json, "POST", *one) for one in bodies]


def held(bank, client):
    """Has the worker wait with a batch of one row."""
    bank.wall.clear()
    first = flood(client, [("/v1/models/film:predict", {"instances": ["first"]})])[0]
    while not bank.batches:
        pass
    return first


def test_requests_of_many_tasks_share_batches(tiny_dir, folder, packs):
    bank = FakeBank(tiny_dir)
    with serving(bank, hub=folder, batch_rows=8) as client:
        first = held(bank, client)
        texts = [f"{'word ' * (one * 7 % 30)}{one}" for one in range(30)]
        names = [("film", "either")[one % 2] for one in range(30)]
        asked = flood(client, [(f"/v1/models/{name}:predict", {"instances": [text]})
                               for name, text in zip(names, texts, strict=True)])
        client.wait("adapter_bert_queue_rows", 30)
        bank.wall.set()
        for future, name, text in zip(asked, names, texts, strict=True):
            status, value = future.result()
            assert status == 200
            assert value["predictions"][0]["probabilities"] == said(packs[name], text)
        assert first.result()[0] == 200
        sizes = [len(batch) for batch in bank.batches]   # the last rows may be a moment late
        assert sizes[0] == 1 and sum(sizes) == 31 and max(sizes) == 8 and len(sizes) <= 7
        assert any(len(set(batch)) > 1 for batch in bank.batches)
        assert client.count("adapter_bert_batch_rows_sum") == 31


def test_rows_of_a_batch_have_like_lengths(tiny_dir, folder, monkeypatch):
    bank, lengths = FakeBank(tiny_dir), []
    predict = bank.predict
    monkeypatch.setattr(bank, "predict", lambda rows: lengths.append(
        [row.length for row in rows]) or predict(rows))
    with serving(bank, hub=folder, batch_rows=4) as client:
        ask(client, "film", *["a " * (one * 7 % 16) for one in range(16)])
    assert [len(one) for one in lengths] == [4, 4, 4, 4]
    assert sum(lengths, []) == sorted(sum(lengths, []))


def test_a_batch_that_fails_fails_alone(tiny_dir, folder, caplog):
    bank = FakeBank(tiny_dir)
    with serving(bank, hub=folder, batch_rows=1) as client:
        first = held(bank, client)
        asked = flood(client, [("/v1/models/film:predict", {"instances": [text]})
                               for text in ("one", "BROKEN", "NAN", "two")])
        client.wait("adapter_bert_queue_rows", 4)
        bank.wall.set()
        statuses = [future.result()[0] for future in asked]
        assert statuses == [200, 500, 500, 200] and first.result()[0] == 200
        status, value = ask(client, "film", "three", "BROKEN")
        assert status == 500 and "log" in value["error"]
        assert ask(client, "film", "four")[0] == 200
    assert "a text that the model fails on" in caplog.text


def test_overload_is_refused_at_once_and_the_queue_stays_bounded(tiny_dir, folder, packs):
    bank = FakeBank(tiny_dir)
    with serving(bank, hub=folder, queue_rows=10, max_rows=5, batch_rows=1) as client:
        first = held(bank, client)
        asked = flood(client, [("/v1/models/film:predict", {"instances": [f"{one} {two}" for two in
                                                                          range(5)]})
                               for one in range(20)])
        while sum(future.done() for future in asked) < 18:
            assert client.count("adapter_bert_queue_rows") <= 10
        status, headers, content = client.send("POST", "/v1/models/film:predict",
                                               b'{"instances": ["late"]}')
        assert (status, headers["Retry-After"]) == (503, "1")
        assert "too many texts wait" in json.loads(content)["error"]
        bank.wall.set()
        answers = [future.result() for future in asked]
    assert first.result()[0] == 200
    assert sorted(status for status, _ in answers) == [200] * 2 + [503] * 18
    for one, (status, value) in enumerate(answers):
        if status == 200:
            assert [row["probabilities"] for row in value["predictions"]] == [
                said(packs["film"], f"{one} {two}") for two in range(5)]


def test_no_more_requests_at_once_than_allowed(tiny_dir, folder):
    bank = FakeBank(tiny_dir)
    with serving(bank, hub=folder, max_requests=1) as client:
        first = held(bank, client)
        status, value = ask(client, "film", "second")
        assert status == 503 and "under way" in value["error"]
        assert client.json("GET", "/healthz")[0] == 200
        bank.wall.set()
        assert first.result()[0] == 200 and ask(client, "film", "third")[0] == 200


def test_a_request_waits_only_so_long(tiny_dir, folder):
    bank = FakeBank(tiny_dir)
    with serving(bank, hub=folder, request_timeout=0.2) as client:
        assert held(bank, client).result()[0] == 503
        status, value = ask(client, "film", "second")
        assert status == 503 and "0.2 seconds" in value["error"]
        bank.wall.set()
        assert ask(client, "film", "third")[0] == 200
        assert len(bank.batches) == 2   # the second was not computed


def test_a_body_that_does_not_come(tiny_dir, folder):
    with serving(FakeBank(tiny_dir), hub=folder, request_timeout=0.2) as client, \
            socket.create_connection(("127.0.0.1", client.port)) as peer:
        peer.sendall(b"POST /v1/models/film:predict HTTP/1.1\r\nHost: localhost\r\n"
                     b"Content-Length: 100\r\n\r\n{")
        assert peer.recv(1000).startswith(b"HTTP/1.1 408 ")


# --- packs

def test_packs_come_and_go(tiny_dir, folder, packs, on):
    with serving(FakeBank(tiny_dir), hub=folder, tasks="film") as client:
        assert ask(client, "score", {"text_a": "a", "text_b": "b"})[0] == 404
        status, value = client.admin("POST", "/v1/packs/score", {"from_hub": True}, IN_JSON)
        assert (status, value) == (200, {"name": "score", "version": 1, "task": "STS-B"})
        assert ask(client, "score", {"text_a": "a", "text_b": "b"})[1] == {
            "predictions": said(packs["score"], "a", "b")}
        status, value = client.admin("POST", "/v1/packs/film", content_of(folder, "either"))
        assert (status, value["version"]) == (200, 2)
        assert len(ask(client, "film", "x")[1]["predictions"][0]["probabilities"]) == 3
        assert ask(client, "film/versions/1", "x")[0] == 404
        assert ask(client, "film/versions/2", "x")[0] == 200
        assert client.admin("DELETE", "/v1/packs/film")[0] == 200
        assert ask(client, "film", "x")[0] == 404
        assert client.admin("DELETE", "/v1/packs/film")[0] == 404
        assert client.admin("DELETE", "/v1/packs/score")[0] == 200
        assert client.json("GET", "/readyz")[0] == 503
        assert client.admin("POST", "/v1/packs/film", {"from_hub": True}, IN_JSON)[0] == 200
        assert client.json("GET", "/readyz")[0] == 200


def test_packs_that_are_refused(tiny_dir, folder, on, tmp_path):
    other = tiny_pack(0, Base("other", "3" * 64, on.vocab, on.config))
    store.write(f"{tmp_path}/other.zip", other)
    whole = content_of(folder, "film")
    with serving(FakeBank(tiny_dir), hub=folder, max_pack_bytes=50_000) as client:
        for body, words in ((b"", "neither"), (b"PK\3\4", "not begin with a pack.json"),
                            (whole[:-5], "cut off"), (whole[:-1] + b"x", "damaged"),
                            (hubs.content_of(tmp_path, "other.zip"), "another base")):
            status, value = client.admin("POST", "/v1/packs/new", body)
            assert status == 400 and words in value["error"] and "/tmp" not in value["error"]
        assert client.admin("POST", "/v1/packs/new", bytes(50_001))[0] == 413
        for name in ("..", "%2e%2e", "a%20b", "-x", "x" * 101, "adapter-bert"):
            assert client.admin("POST", f"/v1/packs/{name}", whole)[0] in (400, 404, 405)
        for value in ({"from_hub": False}, {"from_hub": 1}, {}, [], {"from_hub": True, "a": 1}):
            assert client.admin("POST", "/v1/packs/new", value, IN_JSON)[0] == 400
        status, value = client.admin("POST", "/v1/packs/new", {"from_hub": True}, IN_JSON)
        assert status == 400 and "has no pack new" in value["error"]
        assert client.json("GET", "/v1/packs")[1]["loaded"] == len(KINDS)


def test_nobody_changes_packs_without_the_token(tiny_dir, folder):
    whole = content_of(folder, "film")
    with serving(FakeBank(tiny_dir), hub=folder) as client:
        for value in (None, "", "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN,
                      f"Bearer {TOKEN[:-1]}", "Bearer \u00e9"):
            headers = {} if value is None else {"Authorization": value}
            for method, body in (("POST", whole), ("DELETE", None)):
                status, answer, _ = client.send(method, "/v1/packs/film", body, headers)
                assert status == 401 and answer["WWW-Authenticate"] == "Bearer"
        assert client.json("GET", "/v1/packs")[1]["packs"][1]["version"] == 1


def test_without_a_token_packs_stay_as_they_are(tiny_dir, folder, monkeypatch):
    monkeypatch.setattr("banks.TOKEN", None)
    with serving(FakeBank(tiny_dir), hub=folder) as client:
        assert client.admin("POST", "/v1/packs/film", content_of(folder, "film"))[0] == 403
        for value in ("Bearer None", "Bearer "):
            headers = {"Authorization": value}
            assert client.json("DELETE", "/v1/packs/film", None, headers)[0] == 403


def test_with_a_client_token_only_its_bearers_are_served(tiny_dir, folder):
    paths = ("/v1/packs", "/metrics", "/v1/models/film", "/v1/models/film/metadata", "/nowhere")
    with serving(FakeBank(tiny_dir), client_token="c" * 20, hub=folder) as client:
        for path in paths:
            assert client.json("GET", path)[0] == 401
        assert ask(client, "film", "x")[0] == 401
        for path in ("/healthz", "/readyz", "/", "/page/page.js"):
            assert client.send("GET", path)[0] == 200
        for value in ("c" * 20, TOKEN):
            headers = {"Authorization": f"Bearer {value}"}
            assert [client.send("GET", path, None, headers)[0] for path in paths] == [
                200, 200, 200, 200, 404]
        headers = {"Authorization": f"Bearer {'c' * 20}"}
        assert client.json("DELETE", "/v1/packs/film", None, headers)[0] == 401


@pytest.mark.parametrize("mode,warns", [(0o600, False), (0o400, False), (0o640, True),
                                        (0o604, True)])
def test_a_token_that_others_may_read_is_logged(tmp_path, caplog, mode, warns):
    path = tmp_path / "token"
    path.write_text(TOKEN)
    path.chmod(mode)
    assert bearer_tokens.of_file(str(path)) == TOKEN
    assert bool(caplog.records) == warns and ("chmod 600" in caplog.text) == warns


def test_the_client_token_is_not_the_admin_token(tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    assert bearer_tokens.client(None, TOKEN) is None
    assert bearer_tokens.client(str(tmp_path / "token"), "other" * 9) == TOKEN
    with pytest.raises(InputError, match="is the admin token"):
        bearer_tokens.client(str(tmp_path / "token"), TOKEN)


@pytest.mark.parametrize("host,file,warns", [
    ("127.0.0.1", None, False), ("0.0.0.0", None, True), ("0.0.0.0", "token", False)])
def test_an_open_address_without_a_token_is_logged(
        tiny_dir, folder, tmp_path, monkeypatch, caplog, host, file, warns):
    monkeypatch.setattr(server.Server, "run", lambda *_, **__: None)
    if file:
        (tmp_path / file).write_text(TOKEN)
        (tmp_path / file).chmod(0o600)
    before = signal.getsignal(signal.SIGTERM)
    server.serve(Settings(bert_dir=tiny_dir, hub=folder, port=0, host=host,
                          client_token_file=file and str(tmp_path / file)), FakeBank(tiny_dir))
    signal.signal(signal.SIGTERM, before)
    assert ("every machine that reaches it" in caplog.text) == warns


def test_malformed_requests_are_answered_in_json_and_logged_a_few_times(client, caplog):
    with requests_log.limited():
        for _ in range(3 * requests_log.PER_MINUTE):
            with socket.create_connection(("127.0.0.1", client.port), 20) as peer:
                peer.sendall(b"NONSENSE\r\n\r\n")
                answer = b"".join(iter(lambda: peer.recv(1 << 16), b""))
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 Bad Request") and json.loads(body)["error"]
    # A test that runs over the end of a minute sees those of both.
    assert 0 < len(caplog.records) <= 2 * requests_log.PER_MINUTE
    assert "more of these in this minute" in caplog.text


def test_a_connection_that_breaks_its_body_is_dropped_and_logged_a_few_times(client, caplog):
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", client.port), 20) as peer:
            peer.sendall(b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\n"
                         b"Transfer-Encoding: chunked\r\n\r\n")
            assert peer.recv(1 << 16).startswith(b"HTTP/1.1 404")
            peer.sendall(b"zz\r\n")
            with contextlib.suppress(ConnectionError):
                while peer.recv(1 << 16):   # until the server hangs up
                    pass
    assert "Fatal error" not in caplog.text


def test_one_fault_does_not_hide_another(caplog):
    def fail(kind):
        try:
            raise kind("x")
        except Exception:
            requests_log.log.exception("a request failed")
    with requests_log.limited():
        for _ in range(3 * requests_log.PER_MINUTE):
            fail(ValueError)
        fail(MemoryError)
    assert len(caplog.records) <= 2 * requests_log.PER_MINUTE + 1
    assert caplog.records[-1].exc_info[0] is MemoryError


def test_two_lengths_of_a_body_are_refused(client):
    with socket.create_connection(("127.0.0.1", client.port), 20) as peer:
        peer.sendall(b"POST /v1/models/film:predict HTTP/1.1\r\nHost: localhost\r\n"
                     b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
        assert peer.recv(1 << 16).startswith(b"HTTP/1.1 400")


def test_a_pack_replaced_by_one_of_another_kind_meanwhile(tiny_dir, folder, packs, monkeypatch):
    bank = FakeBank(tiny_dir)
    encode = bank.encode

    def slow_encode(name, examples, most=None):
        bank.add(name, packs["score"])
        return encode(name, examples, most)
    with serving(bank, hub=folder) as client:
        monkeypatch.setattr(bank, "encode", slow_encode)
        for name, example, words in (("film", {"text_a": "a"}, "for pairs of texts"),
                                     ("either", {"text_a": "a", "text_b": "b"}, "of regression")):
            status, value = client.json("POST", f"/v1/models/{name}:classify",
                                        {"examples": [example]})
            assert status == 400 and words in value["error"]
        status, value = client.json("POST", "/v1/models/either/versions/1:predict",
                                    {"instances": [{"text_a": "a", "text_b": "b"}]})
        assert status == 404 and "just replaced" in value["error"]
        assert client.count("adapter_bert_queue_rows") == 0


def test_a_reader_that_does_not_read_holds_its_place(tiny_dir, folder):
    """What is under way is counted until its last byte is sent: slow readers take no memory."""
    with serving(FakeBank(tiny_dir), hub=folder, max_requests=2) as client, \
            contextlib.ExitStack() as stack:
        body = json.dumps({"instances": ["a"] * 256}).encode()
        head = ("POST /v1/models/either:predict HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Length: {len(body)}")
        for _ in range(2):
            peer = stack.enter_context(socket.socket())
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            peer.connect(("127.0.0.1", client.port))
            peer.sendall((head.encode() + b"\r\n\r\n" + body) * 200)
        while ask(client, "film", "x")[0] != 503:
            pass
        assert client.json("GET", "/healthz")[0] == 200


def test_every_answer_is_that_of_a_whole_pack_while_packs_change(tiny_dir, folder, packs, on):
    """Eight askers, while `film` is replaced, and `either` removed and added, thirty times."""
    others = [packs["film"], tiny_pack(7, on, labels=LABELS)]
    uploads = [store.to_zip("", pack) for pack in others]
    bank, ends, statuses = FakeBank(tiny_dir, 0.001), threading.Event(), []

    def keep_asking(number):
        count = 0
        while not ends.is_set():
            count += 1
            text = f"{number} {count}"
            status, value = ask(client, "film", text, text + "!")
            found = [row["probabilities"] for row in value["predictions"]]
            assert status == 200 and found in [
                [said(pack, text), said(pack, text + "!")] for pack in others]
            status, value = ask(client, "either", text)
            statuses.append(status)
            assert status == 404 or (status == 200 and value["predictions"][0]["probabilities"]
                                     == said(packs["either"], text))
        return count

    with serving(bank, hub=folder) as client, concurrent.futures.ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(keep_asking, number) for number in range(8)]
        for turn in range(30):
            assert client.admin("POST", "/v1/packs/film", uploads[turn % 2])[0] == 200
            assert client.admin("DELETE", "/v1/packs/either")[0] == 200
            assert client.admin("POST", "/v1/packs/either", {"from_hub": True}, IN_JSON)[0] == 200
        ends.set()
        assert all(future.result() > 5 for future in asking)
        assert client.json("GET", "/v1/models/film/versions/31")[0] == 200
    assert {200, 404} == set(statuses)


def test_the_list_of_packs(tiny_dir, folder, on, tmp_path):
    for name in ("film", "score"):
        push(str(tmp_path), name, store.read(f"{folder}/{name}.zip"))
    push(str(tmp_path), "far", tiny_pack(0, Base("other", "3" * 64, on.vocab, on.config)))
    with serving(FakeBank(tiny_dir), hub=str(tmp_path)) as client:
        _, value = client.json("GET", "/v1/packs")
        assert (value["total"], value["loaded"]) == (3, 2)
        assert value["base"]["fingerprint"] == on.fingerprint
        rows = {row["name"]: row for row in value["packs"]}
        assert rows["film"]["labels"] == list(LABELS) and rows["film"]["pair"] is False
        assert rows["score"]["pair"] is True and rows["score"]["metrics"]["eval_accuracy"] == 0.75
        assert rows["film"]["base"] == on.name and rows["film"]["bytes"] > 1000
        assert (rows["far"]["loaded"], rows["far"]["fits"]) == (False, False)
        _, value = client.json("GET", "/v1/packs?q=sts-B")
        assert [row["name"] for row in value["packs"]] == ["score"]
        _, value = client.json("GET", "/v1/packs?limit=1&offset=1")
        assert [row["name"] for row in value["packs"]] == ["score"] and value["total"] == 3


def test_a_hub_on_the_web(tiny_dir, folder, packs, tmp_path):
    with hubs.serving(folder) as web, serving(
            FakeBank(tiny_dir), hub=web.address, tasks="film", cache_dir=str(tmp_path)) as client:
        assert ask(client, "film", "x")[1]["predictions"][0]["probabilities"] == said(
            packs["film"], "x")
        assert len(os.listdir(tmp_path)) == 1
        assert client.admin("POST", "/v1/packs/score", {"from_hub": True}, IN_JSON)[0] == 200
        web.way = "lying"
        assert client.admin("POST", "/v1/packs/either", {"from_hub": True}, IN_JSON)[0] == 400
        assert ask(client, "either", "x")[0] == 404


# --- health and counts

def test_health(client):
    assert client.json("GET", "/healthz") == (200, {"status": "alive"})
    assert client.json("GET", "/readyz") == (200, {"status": "ready"})
    assert client.send("HEAD", "/healthz")[0] == 200


def test_counts(tiny_dir, folder):
    with serving(FakeBank(tiny_dir), hub=folder) as client:
        ask(client, "film", "x", "y")
        ask(client, "film", 3)
        for number in range(50):
            ask(client, f"none{number}", "x")
            client.json("GET", f"/nowhere{number}")
        name = "adapter_bert_requests_total"
        assert client.count(f'{name}{{code="200",task="film",verb="predict"}}') == 1
        assert client.count(f'{name}{{code="400",task="film",verb="predict"}}') == 1
        assert client.count(f'{name}{{code="404",task="",verb="predict"}}') == 50
        assert client.count('adapter_bert_request_seconds_count{verb="predict"}') == 52
        assert client.count("adapter_bert_batch_rows_sum") == 2
        assert client.count("adapter_bert_packs_loaded") == len(KINDS)
        text = client.send("GET", "/metrics")[2].decode()
        assert "none1" not in text and "nowhere" not in text


# --- start and end

@pytest.fixture(name="process")
def fixture_process(tiny_dir, folder):
    """A server in another process, whose batches take a second, and its Client."""
    with process_of(tiny_dir, folder, "1", "30") as found:
        yield found


@contextlib.contextmanager
def process_of(*words):
    """The process and the Client of a server with these words of tests/banks.py."""
    command = [sys.executable, os.path.join(ROOT, "tests", "banks.py"), *words]
    paths = os.pathsep.join([ROOT, os.path.join(ROOT, "tests")])
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={
            **os.environ, "PYTHONPATH": paths}) as process:
        port = int(process.stdout.readline().split(":")[-1].strip("/\n"))
        yield process, Client(port)
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_finishes_what_was_taken(process, packs, number):
    process, client = process
    idle = http.client.HTTPConnection("127.0.0.1", client.port)
    idle.request("GET", "/readyz")
    assert idle.getresponse().read() == b'{"status": "ready"}'
    asked = flood(client, [("/v1/models/film:predict", {"instances": [f"{one}"]})
                           for one in range(40)])
    client.wait("adapter_bert_queue_rows", 1)
    taken = client.count("adapter_bert_queue_rows")
    process.send_signal(number)
    answers = []
    for one, future in enumerate(asked):
        try:
            status, value = future.result()
        except OSError:   # it came after the signal
            continue
        assert status in (200, 503)
        if status == 200:
            answers.append(value)
            assert value["predictions"][0]["probabilities"] == said(packs["film"], f"{one}")
    assert process.wait() == (0 if number == signal.SIGTERM else 130)
    assert len(answers) >= taken
    with pytest.raises(OSError):
        client.send("GET", "/healthz")


@pytest.mark.slow
def test_the_end_comes_whatever_is_under_way(tiny_dir, folder):
    """A batch of ten minutes, such as a thread that waits for a slow hub, holds nothing up."""
    with process_of(tiny_dir, folder, "600", "1") as (process, client):
        assert ask(client, "film", "x")[0] == 503   # and the batch goes on
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_nothing_is_taken_at_the_end(tiny_dir, folder):
    with serving(FakeBank(tiny_dir), hub=folder) as client:
        client.server.ending.set()
        for status, value in (ask(client, "film", "x"), client.json("GET", "/readyz")):
            assert status == 503 and "shutting down" in value["error"]
        assert client.json("GET", "/healthz")[0] == 200


@pytest.mark.parametrize("options,words", [
    ({"hub": "/nowhere"}, "no index of a hub"), ({"tasks": "film"}, "needs --hub"),
    ({"tasks": "none"}, "has no pack none"), ({"port": 70000}, "--port=70000"),
    ({"client_token_file": ""}, "--client_token_file is empty"),
    ({"batch_rows": 0}, "--batch_rows=0"), ({"queue_rows": 5}, "--queue_rows=5"),
    ({"model_name": "a b"}, "no name"), ({"tasks": "../x"}, "no name"),
    ({"request_timeout": float("nan")}, "--request_timeout=nan"), ({"bert_dir": ""}, "--bert_dir"),
    ({"precision": "int8"}, "--precision=int8"),
    ({"host": "no.such.host.invalid"}, "cannot listen")])
def test_starts_that_are_refused(tiny_dir, folder, options, words):
    options = {"hub": None if words == "needs --hub" else folder, "port": 0, "bert_dir": tiny_dir,
               **options}
    with pytest.raises(InputError, match=words):
        server.serve(Settings(**options), FakeBank(tiny_dir))


def test_answers_are_sent_at_once():
    """Without this every answer takes 40 ms: asyncio looks at the protocol for TCP_NODELAY."""
    with contextlib.closing(server.listen("127.0.0.1", 0)) as listening:
        assert listening.proto == socket.IPPROTO_TCP


def test_a_port_that_is_taken(tiny_dir, folder):
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(
            InputError, match="cannot listen there .Address already in use"):
        server.serve(Settings(bert_dir=tiny_dir, hub=folder, port=other.getsockname()[1]),
                     FakeBank(tiny_dir))


def test_a_hub_without_a_pack_for_the_base(tiny_dir, on, tmp_path, caplog):
    push(str(tmp_path), "far", tiny_pack(0, Base("other", "3" * 64, on.vocab, on.config)))
    push(str(tmp_path), "torn", tiny_pack(0, on))
    (tmp_path / "torn.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match="none of its 2 packs can be loaded on uncased_L-2.* "
                                         "the first: it is for another base, other"):
        server.serve(Settings(bert_dir=tiny_dir, hub=str(tmp_path), port=0), FakeBank(tiny_dir))
    assert "not loaded: far: it is for another base, other" in caplog.text
    assert "not loaded: torn: " in caplog.text


def test_the_index_of_a_hub_is_downloaded_once(tiny_dir, folder, tmp_path):
    for tasks in (None, "film,score"):
        with hubs.serving(folder) as web, serving(
                FakeBank(tiny_dir), hub=web.address, tasks=tasks, cache_dir=str(tmp_path)):
            names = [name for _, name, _ in web.asked]
            assert names.count("index.json") == 1
            assert len(names) == (1 + len(KINDS) if tasks is None else 1)   # then all are cached


def test_a_pack_that_is_replaced_while_the_server_starts(tiny_dir, on, tmp_path):
    """Its file in the cache bears the sha256 of what it contains, and a damaged one is replaced."""
    folder, kept = str(tmp_path / "hub"), tmp_path / "cache"
    push(folder, "film", tiny_pack(0, on, labels=("old", "older")))
    before = hubs.content_of(folder, "index.json")
    push(folder, "film", tiny_pack(1, on, labels=("new", "newer")))
    for damage in (False, True):
        with hubs.serving(folder) as web:
            web.indexes.append(before)
            with serving(FakeBank(tiny_dir), hub=web.address, cache_dir=str(kept)) as client:
                _, value = client.json("GET", "/v1/packs")
                assert value["packs"][0]["labels"] == ["new", "newer"]
                assert [name for _, name, _ in web.asked].count("index.json") == 2
        (path,) = kept.iterdir()
        assert path.read_bytes() == hubs.content_of(folder, "film.zip")
        assert path.name == f"{files.sha256(path)}.zip"
        if not damage:
            path.write_bytes(b"PK")


@pytest.mark.parametrize("chosen", [None, "cache_dir"])
def test_a_cache_that_cannot_be_written(tiny_dir, folder, tmp_path, monkeypatch, caplog, chosen):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ADAPTER_BERT_CACHE", str(tmp_path / "file" / "cache"))
    options = {chosen: str(tmp_path / "file" / "mine")} if chosen else {}
    with hubs.serving(folder) as web:
        if chosen:
            with pytest.raises(InputError, match="file/mine: cannot be written"), serving(
                    FakeBank(tiny_dir), hub=web.address, **options):
                pass
            return
        with serving(FakeBank(tiny_dir), hub=web.address) as client:
            assert ask(client, "film", "x")[0] == 200
    warnings = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert len(warnings) == 1 and "set the environment variable ADAPTER_BERT_CACHE" in warnings[0]


@pytest.mark.parametrize("text,words", [
    ("short", "16 or more"), ("two words in one line", "16 or more"), ("", "16 or more"),
    ("\u00e9" * 20, "16 or more"), (None, "cannot be read")])
def test_tokens_that_are_refused(tmp_path, text, words):
    path = tmp_path / "token"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=words):
        bearer_tokens.admin(str(path))


def test_where_the_token_comes_from(tmp_path, monkeypatch):
    (tmp_path / "token").write_text(TOKEN + "\n")
    monkeypatch.delenv(bearer_tokens.VARIABLE, raising=False)
    assert bearer_tokens.admin(None) is None
    assert bearer_tokens.admin(str(tmp_path / "token")) == TOKEN
    monkeypatch.setenv(bearer_tokens.VARIABLE, "b" * 20)
    assert bearer_tokens.admin(None) == "b" * 20


@pytest.mark.parametrize("arguments", [
    [], ["--bert_dir=/nowhere"], ["--port=x"], ["--unknown=1"]])
def test_the_command_says_in_one_line_what_is_wrong(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["serve", *arguments])
    assert ended.value.code == 1 and capsys.readouterr().err.count("\n") == 1


def test_answers_of_the_real_bank(tiny_dir, folder, packs):
    """Over HTTP, with TensorFlow, what a Predictor says of each pack by itself."""
    from adapter_bert.serve.engine import Bank
    bank = Bank(tiny_dir, slots=2, precision="float32")
    bank.wall = threading.Event()
    texts = ["the film was good", "a dull story ! " * 5, "", "Éa 你好 🙂 very bad"]
    seconds = {"score": [text[::-1] for text in texts],
               "question": [CONTEXT * 9, *texts[:2], "a"]}
    rows = [{"task": name, "text_a": text, "text_b": seconds[name][place]
             if name in seconds else None} for place, text in enumerate(texts) for name in KINDS]
    with serving(bank, hub=folder) as client:
        status, value = ask(client, "adapter-bert", *rows)
    assert status == 200
    for place, name in enumerate(KINDS):
        with adapter_bert.load(tiny_dir, packs[name], precision="float32") as alone:
            wanted = alone.predict([(row["text_a"], row["text_b"]) if name in seconds
                                    else row["text_a"] for row in rows[place::len(KINDS)]])
        for row, one in zip(value["predictions"][place::len(KINDS)], wanted, strict=True):
            assert_answer(row, name, one)


def assert_answer(row, name, wanted):
    """A row of JSON says what a Predictor says."""
    assert row.pop("task") == name
    if name == "score":
        assert row == {"score": pytest.approx(wanted, abs=1e-5)}
    elif name == "names":
        assert row == {"entities": [{**one._asdict(), "probability": pytest.approx(
            one.probability, abs=1e-5)} for one in wanted]}
    elif name == "question":
        assert row == {"answer": wanted.text, "start": wanted.start, "end": wanted.end,
                       "probability": pytest.approx(wanted.probability, abs=1e-5)}
    else:
        assert row == {"label": wanted.label, "probabilities": pytest.approx(
            list(wanted.probabilities.values()), abs=1e-5)}


def test_the_real_bank_while_packs_change(tiny_dir, folder, packs, on):
    """Each answer is what one of the two packs of the name says by itself."""
    from adapter_bert.serve.engine import Bank
    others, texts = [packs["film"], tiny_pack(7, on, labels=LABELS)], ["good film", "a bad ! plot"]
    wanted, bank, ends = [], Bank(tiny_dir, slots=2, precision="float32"), threading.Event()
    bank.wall = threading.Event()
    for pack in others:
        with adapter_bert.load(tiny_dir, pack, precision="float32") as alone:
            wanted.append([list(one.probabilities.values()) for one in alone.predict(texts)])

    def keep_asking():
        seen = []
        while not ends.is_set():
            status, value = ask(client, "film", *texts)
            assert status == 200
            found = [row["probabilities"] for row in value["predictions"]]
            seen.append([np.allclose(found, one, atol=1e-5) for one in wanted].index(True))
        return seen

    with serving(bank, hub=folder) as client, concurrent.futures.ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(keep_asking) for _ in range(4)]
        for turn in range(20):
            upload = store.to_zip("", others[(turn + 1) % 2])
            assert client.admin("POST", "/v1/packs/film", upload)[0] == 200
            assert ask(client, "film", texts[0])[0] == 200
        ends.set()
        assert {0, 1} == set(sum((future.result() for future in asking), []))


@pytest.mark.parametrize("stage", ["take", "answer"])
def test_every_stage_ends_with_the_request_s_time(tiny_dir, folder, monkeypatch, stage):
    """A request whose reading or answering is slow gets 503, and keeps no room in the queue."""
    go_on = threading.Event()
    whole = getattr(requests.Models, stage)

    def slow(self, *args):
        result = whole(self, *args)
        go_on.wait(30)
        return result
    monkeypatch.setattr(requests.Models, stage, slow)
    bank = FakeBank(tiny_dir)
    with serving(bank, hub=folder, request_timeout=0.5) as client:
        status, value = client.json("POST", "/v1/models/film:predict", {"instances": ["a"] * 9})
        assert status == 503 and "no answer in 0.5 seconds" in value["error"]
        assert client.json("GET", "/healthz")[0] == 200
        monkeypatch.setattr(requests.Models, stage, whole)
        go_on.set()
        while "queue_rows 0.0" not in client.send("GET", "/metrics")[2].decode():
            time.sleep(0.05)
        assert client.json("POST", "/v1/models/film:predict", {"instances": ["a"]})[0] == 200
