"""What --bert_dir may be: folders of both forms, names on a Hub that is served here, the demo."""
import contextlib
import hashlib
import http.server
import json
import os
import threading

import huggingface_hub.constants
import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from safetensors.numpy import save_file

from adapter_bert.bert import checkpoint_io, source
from adapter_bert.data import casing
from adapter_bert.errors import InputError

COMMIT = "1" * 40
CONFIG = {"vocab_size": 9, "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2,
          "intermediate_size": 6, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
          "attention_probs_dropout_prob": 0.1, "max_position_embeddings": 5,
          "type_vocab_size": 2, "initializer_range": 0.02}
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##a", "##b"]


def write_model(folder, **config):
    """A tiny BERT in Hugging Face's form, with random weights; returns the folder's path."""
    os.makedirs(folder)
    random = np.random.default_rng(0)
    from adapter_bert.bert import formats
    save_file(
        {
            f"bert.{formats.hugging_face_name(name)}": np.ascontiguousarray(
                random.normal(size=shape[::-1] if name.endswith("/kernel") else shape), np.float32
            )
            for name, shape in checkpoint_io.variable_shapes(CONFIG).items()
        },
        f"{folder}/model.safetensors",
    )
    with open(f"{folder}/config.json", "w", encoding="utf-8") as file:
        json.dump({**CONFIG, **config}, file)
    with open(f"{folder}/vocab.txt", "w", encoding="utf-8") as file:
        file.write("".join(f"{token}\n" for token in VOCABULARY))
    return str(folder)


class Hub(http.server.BaseHTTPRequestHandler):
    """Serves server.models / OWNER/NAME as the Hugging Face Hub does."""

    def do_HEAD(self):
        self._serve(False)

    def do_GET(self):
        self._serve(True)

    def log_message(self, *args):
        """Logs nothing."""

    def _serve(self, with_body):
        repository, _, rest = self.path.strip("/").partition("/resolve/")
        file = rest.partition("/")[2]
        self.server.requested.append(file)
        folder = os.path.join(self.server.models, repository)
        if repository in self.server.gated:
            return self._send(403, b"", {"X-Error-Code": "GatedRepo"}, with_body)
        if not os.path.isdir(folder):
            return self._send(404, b"", {"X-Error-Code": "RepoNotFound"}, with_body)
        if not os.path.isfile(os.path.join(folder, file)):
            return self._send(404, b"", {"X-Error-Code": "EntryNotFound"}, with_body)
        with open(os.path.join(folder, file), "rb") as opened:
            content = opened.read()
        return self._send(200, content, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"',
                                         "X-Repo-Commit": COMMIT}, with_body)

    def _send(self, status, content, headers, with_body):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(content)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of its own for each test."""
    monkeypatch.setenv("ADAPTER_BERT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.chdir(tmp_path)


def point_to(monkeypatch, endpoint):
    """As the environment variable HF_ENDPOINT before huggingface_hub is imported."""
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE",
                        endpoint + "/{repo_id}/resolve/{revision}/{filename}")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A server of tmp_path/models; its `requested` are the files that were asked for."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.models, server.gated, server.requested = str(tmp_path / "models"), set(), []
    point_to(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def refused(bert_dir):
    """The one line with which a value of --bert_dir is refused."""
    with pytest.raises(InputError) as caught:
        checkpoint_io.locate(bert_dir)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["bert-base-uncased", "google-bert/tiny"])
def test_a_name_is_downloaded_once_and_then_needs_no_network(hub, tmp_path, name):
    write_model(f"{hub.models}/{name}")
    with open(f"{hub.models}/{name}/tf_model.h5", "w", encoding="utf-8"):
        pass
    located = checkpoint_io.locate(name)
    assert checkpoint_io.fingerprint(located.init_checkpoint)
    assert checkpoint_io.name_of(located.init_checkpoint) == name.rpartition("/")[2]
    assert {"config.json", "model.safetensors", "vocab.txt"} <= set(hub.requested)
    assert "tf_model.h5" not in hub.requested and "pytorch_model.bin" not in hub.requested
    hub.requested.clear()
    assert checkpoint_io.locate(name) == located
    assert not hub.requested
    assert checkpoint_io.pooler_is_trained(located.init_checkpoint) is True


@pytest.mark.parametrize("name, prepare, words", [
    ("no-such-model", lambda hub: None, "is not on the Hugging Face Hub"),
    ("some/gated", lambda hub: hub.gated.add("some/gated"), "hf auth login"),
    ("roberta-base", lambda hub: write_model(f"{hub.models}/roberta-base", model_type="roberta"),
     "is a roberta, not a BERT"),
    ("a/relative", lambda hub: write_model(f"{hub.models}/a/relative",
                                           position_embedding_type="relative_key"),
     "cannot be converted")])
def test_a_model_that_cannot_be_used_is_refused_in_one_line(hub, tmp_path, name, prepare, words):
    prepare(hub)
    assert words in (line := refused(name))
    assert "folder" in line or "config.json" in line
    assert "model.safetensors" not in hub.requested or name == "a/relative"
    assert not os.path.exists(tmp_path / "cache" / "hub" / "-" / name)


def test_without_network_one_line_names_the_alternative(monkeypatch):
    point_to(monkeypatch, "http://127.0.0.1:9")
    line = refused("bert-base-uncased")
    assert "not reachable" in line and "give the folder of a BERT on this machine" in line


def test_without_network_the_librarys_own_cache_is_used(hub, monkeypatch):
    write_model(f"{hub.models}/a/b")
    for file in ("config.json", "model.safetensors", "vocab.txt"):
        huggingface_hub.hf_hub_download("a/b", file)
    point_to(monkeypatch, "http://127.0.0.1:9")
    assert checkpoint_io.locate("a/b")


@pytest.mark.parametrize("path", ["/no/such/folder", "./nothing", "a/b/c", "nothing/"])
def test_a_path_is_no_name(hub, path):
    assert "no such folder" in refused(path)
    assert not hub.requested


def test_a_local_hugging_face_folder_is_converted_once_and_again_after_a_change(tmp_path):
    folder = write_model(tmp_path / "mine")
    located = checkpoint_io.locate(folder)
    assert located.init_checkpoint.startswith(os.environ["ADAPTER_BERT_CACHE"])
    assert checkpoint_io.locate(f"{folder}/") == checkpoint_io.locate("mine") == located
    (tmp_path / "mine" / "tokenizer_config.json").write_text('{"do_lower_case": false}')
    changed = checkpoint_io.locate(folder)
    assert changed != located
    assert casing.recorded_casing(changed.vocab_file) is False
    assert (
        os.listdir(tmp_path / "mine") and checkpoint_io.name_of(changed.init_checkpoint) == "mine"
    )


def test_a_googles_folder_is_used_as_it_is_even_if_it_is_called_demo(tiny_dir, tmp_path):
    os.symlink(tiny_dir, tmp_path / "demo")
    assert checkpoint_io.locate("demo").vocab_file == os.path.join("demo", "vocab.txt")


def test_demo_is_the_demos_base_beside_a_folder_of_that_name(tmp_path, monkeypatch, tiny_dir):
    from adapter_bert.bert import demo_base
    (tmp_path / "demo").mkdir()   # as in a checkout of this project
    monkeypatch.setattr(demo_base, "folder", lambda report: tiny_dir)
    assert checkpoint_io.locate("demo").vocab_file == os.path.join(tiny_dir, "vocab.txt")


def test_a_second_process_waits_for_the_first(tmp_path):
    folder, made = str(tmp_path / "cache" / "x"), []

    def make():
        os.mkdir(folder)
        made.append(True)
    with source.locked(folder):
        waiting = threading.Thread(target=source.made_once, args=(folder, make))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive() and not made
    waiting.join()
    source.made_once(folder, make)
    assert made == [True]


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    folder = write_model(tmp_path / "mine")
    (tmp_path / "file").touch()
    monkeypatch.setenv("ADAPTER_BERT_CACHE", str(tmp_path / "file"))
    assert "ADAPTER_BERT_CACHE" in refused(folder)


def test_an_interrupted_conversion_leaves_nothing(tmp_path, monkeypatch):
    folder = write_model(tmp_path / "mine")
    with monkeypatch.context() as broken, contextlib.suppress(OSError):
        broken.setattr(
            checkpoint_io, "write_checkpoint", lambda *_: (_ for _ in ()).throw(OSError())
        )
        refused(folder)
    assert checkpoint_io.locate(folder)


def write_v1(prefix, variables):
    """A checkpoint in TensorFlow's old format of a single file."""
    with tf.Graph().as_default(), tf.Session() as session:
        session.run(tf.raw_ops.Save(filename=prefix, tensor_names=list(variables), data=[
            tf.constant(value) for value in variables.values()]))


def test_a_checkpoint_of_a_single_file_is_written_again_once(tmp_path, tiny_dir):
    weights = dict(checkpoint_io.Checkpoint(f"{tiny_dir}/bert_model.ckpt"))
    for name in ("vocab.txt", "bert_config.json"):
        os.makedirs(tmp_path / "old", exist_ok=True)
        os.symlink(f"{tiny_dir}/{name}", tmp_path / "old" / name)
    write_v1(str(tmp_path / "old" / "bert_model.ckpt"), weights)
    located = checkpoint_io.locate(str(tmp_path / "old"))
    assert os.path.exists(f"{located.init_checkpoint}.index")
    assert checkpoint_io.fingerprint(located.init_checkpoint) == checkpoint_io.fingerprint_of(
        weights
    )
    assert checkpoint_io.name_of(located.init_checkpoint) == "old"
    assert checkpoint_io.locate(str(tmp_path / "old")) == located
    assert source.second_format(f"{tiny_dir}/bert_model.ckpt") == f"{tiny_dir}/bert_model.ckpt"
    assert source.second_format("nothing") == "nothing"
