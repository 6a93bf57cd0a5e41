"""The page, in a browser: what a person sees and does."""
import time

import numpy as np
import pytest
from banks import FakeBank, serving
from browser import browser
from packs import tiny_pack

from adapter_bert.packs import hub, store
from adapter_bert.packs.bases import base_of
from adapter_bert.packs.manifest import Base, Spans

ENTER, TAB, SPACE, CONTROL = "\ue007", "\ue004", " ", "\ue009"
MARKUP = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>"
PACKS = {
    "film-reviews": {"labels": ("negative", "positive"), "task": "SST-2",
                     "description": "Whether a sentence of a film review is positive."},
    "paraphrase": {"labels": ("different", "the same"), "task": "MRPC", "pair": True,
                   "description": "Whether two sentences say the same."},
    "similarity": {"head": "regression", "labels": (), "task": "STS-B", "pair": True,
                   "metrics": {"eval_pearson": 0.8712, "eval_spearmanr": 0.8695}},
    "topics": {"labels": tuple(f"topic {number}" for number in range(40)), "task": "topics",
               "description": "One of forty topics."},
    "names": {"head": "tokens", "labels": ("O", "B-PER", "I-PER", "B-LOC", MARKUP[:20]),
              "task": "NER", "pair": None},
    "people": {"head": "tokens", "labels": ("O", "B-PER", "I-PER", "B-LOC", "B-DATE", "B-ORG"),
               "task": "NER", "pair": None, "max_seq_length": 24,
               "description": "Names of people, places and organisations in a text."},
    "questions": {"head": "spans", "labels": (), "task": "SQuAD", "pair": True,
                  "spans": Spans(5, 3, 20, 6, None),
                  "description": "Finds the answer to a question in a text."},
    "perhaps": {"head": "spans", "labels": (), "task": "SQuAD 2", "pair": True,
                "spans": Spans(5, 3, 20, 6, -90.0)},
    "untrusted": {"labels": (MARKUP, "b"), "task": MARKUP, "description": MARKUP},
}


@pytest.fixture(name="client", scope="module")
def fixture_client(tiny_dir, tmp_path_factory):
    """A Client of a server with these packs and with one that is for another base."""
    folder, on = tmp_path_factory.mktemp("page"), base_of(tiny_dir)
    other = Base("bert-large", "3" * 64, on.vocab, on.config)
    made = {name: tiny_pack(seed, on, **values)
            for seed, (name, values) in enumerate(PACKS.items())}
    for name, pack in {**made, "elsewhere": tiny_pack(9, other)}.items():
        store.write(f"{folder}/{name}.zip", pack)
        hub.push(f"{folder}/{name}.zip", f"{folder}/hub", name)
    with serving(FakeBank(tiny_dir), hub=f"{folder}/hub") as client:
        yield client


@pytest.fixture(name="window", scope="module")
def fixture_window():
    """A Browser for all tests here."""
    with browser() as found:
        yield found


@pytest.fixture(name="page")
def fixture_page(client, window):
    """The page, loaded anew."""
    window.look(1280)
    window.do("url", url=f"http://127.0.0.1:{client.port}/")
    window.wait("document.querySelectorAll('#packs > li').length && "
                "document.querySelectorAll('#chosen > li').length")
    window.complaints()
    yield window
    assert window.complaints() == []


def answers(page):
    """[[name, what it says], ...] of the cards."""
    return page.run("return [...document.querySelectorAll('.card')].map((card) => "
                    "[card.querySelector('h3').textContent, card.lastChild.className, "
                    "card.querySelector('.says, .wrong').textContent])")


def asked(page, *names, a="", b=""):
    """Asks these tasks alone about a text, or two."""
    page.click(f"[aria-label='Try {names[0]} alone']")
    for name in names[1:]:
        page.click(f"#pack-{name}")
    page.type("#text-a", a)
    if b:
        page.type("#text-b", b)
    page.click("#ask")
    page.wait(f"document.querySelectorAll('.card').length === {len(names)}")


def overflow(page):
    return page.run("return document.documentElement.scrollWidth - window.innerWidth")


def test_a_text_and_its_probabilities(page, client, tmp_path):
    page.type("#text-a", "a good film")
    page.click("#ask")
    page.wait("document.querySelector('.card')")
    _, value = client.json("POST", "/v1/models/film-reviews:classify",
                           {"examples": [{"text_a": "a good film"}]})
    wanted = [[label, f"{100 * share:.1f} %"] for label, share in value["results"][0]]
    assert wanted == page.run(
        "return [...document.querySelectorAll('.bars li')].map((li) => "
        "[...li.querySelectorAll('span')].map((one) => one.textContent))")
    widths = page.wait("(() => { const found = [...document.querySelectorAll('.track')].map((one) "
                       "=> one.firstChild.style.width); return found.every(Boolean) && found })()")
    assert np.allclose([float(width.rstrip("%")) / 100 for width in widths],
                       [share for _, share in value["results"][0]], atol=1e-4)
    page.shoot(tmp_path / "light.png")


def test_several_tasks_side_by_side(page, tmp_path):
    for name in ("paraphrase", "similarity", "topics"):
        page.click(f"#pack-{name}")
    page.type("#text-a", "the plot was dull")
    page.type("#text-b", "it was not a good story")
    page.click("#ask")
    page.wait("document.querySelectorAll('.card').length === 4")
    names = [name for name, *_ in answers(page)]
    assert names == ["film-reviews", "paraphrase", "similarity", "topics"]
    assert page.run("return new Set([...document.querySelectorAll('.card')].map((card) => "
                    "card.getBoundingClientRect().left)).size") >= 2
    page.click(".card:last-child button")
    page.wait("document.querySelectorAll('.card:last-child .bars li').length === 40")
    page.look(1280, dark=True)
    page.shoot(tmp_path / "dark.png")


def test_the_keyboard_alone(page):
    page.press(TAB)
    assert page.run("return document.activeElement.className") == "skip"
    page.press(TAB)
    assert page.run("return document.activeElement.id") == "text-a"
    page.press(*"a fine film")
    page.do("actions", actions=[{"type": "key", "id": "keys", "actions": [
        {"type": "keyDown", "value": CONTROL}, {"type": "keyDown", "value": ENTER},
        {"type": "keyUp", "value": ENTER}, {"type": "keyUp", "value": CONTROL}]}])
    page.wait("document.querySelector('.card')")
    page.run("document.getElementById('pack-topics').focus()")
    page.press(SPACE)
    page.wait("document.querySelectorAll('.card').length === 2")
    outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


def test_what_is_missing_is_said(page):
    page.click("#ask")
    assert page.wait("document.getElementById('status').textContent") == "Type a text first."
    page.click("[aria-label='Try paraphrase alone']")
    page.type("#text-a", "one text")
    page.click("#ask")
    page.wait("document.querySelector('.card')")
    assert answers(page) == [["paraphrase", "wrong",
                              "This task takes a pair: type a second text."]]


@pytest.mark.parametrize("width,dark", [(375, False), (375, True), (320, False)])
def test_on_a_phone(page, tmp_path, width, dark):
    page.look(width, 812, dark=dark, mobile=True)
    assert overflow(page) <= 0
    for name in ("untrusted", "topics", "paraphrase"):
        page.click(f"#pack-{name}")
    page.type("#text-a", "word" * 100)
    page.type("#text-b", "a b")
    page.click("#ask")
    page.wait("document.querySelectorAll('.card').length === 4")
    page.shoot(tmp_path / f"phone-{width}-{dark}.png")
    assert overflow(page) <= 0


NAMES = ("Angela \U0001f642 Merkel met\nthe mayor of Paris, and caf\u00e9s were closed on Monday "
         "\u4f60\u597d.")
CONTEXT = ("Warsaw lies on the Vistula. \U0001f642 It has 1.8 million people, and its old town was "
           "rebuilt after the war. ") * 8


def test_names_in_a_text(page, client, tmp_path):
    """Each is marked where it is and labelled in words, and stands in a list with its share."""
    asked(page, "people", "film-reviews", a=NAMES)
    _, value = client.json("POST", "/v1/models/people:predict", {"instances": [NAMES]})
    names = value["predictions"][0]["entities"]
    assert len(names) > 6 and len({one["label"] for one in names}) > 2
    assert page.run("return document.querySelector('.text').textContent") == marked(NAMES, names)
    assert page.run("return [...document.querySelectorAll('mark')].map((one) => "
                    "[one.firstChild.textContent, one.querySelector('.tag').textContent])") == [
        [one["text"], one["label"]] for one in names]
    listed = ("[...document.querySelectorAll('.names li')].map((li) => "
              "[...li.children].map((one) => one.textContent))")
    assert len(page.run(f"return {listed}")) == 6
    page.look(1280, dark=True)
    page.shoot(tmp_path / "names.png")
    page.click(".card .quiet")
    assert page.run(f"return {listed}") == [
        [one["label"], one["text"], f"{100 * one['probability']:.1f} %"] for one in names]
    colours = page.run("return new Set([...document.querySelectorAll('mark')].map((one) => "
                       "getComputedStyle(one).backgroundColor)).size")
    assert colours == len({one["label"] for one in names})


def marked(text, names):
    """The text with each label behind its name."""
    for one in reversed(names):
        text = text[:one["end"]] + one["label"] + text[one["end"]:]
    return text


def test_an_answer_in_its_context(page, client, tmp_path):
    asked(page, "questions", "perhaps", a="Where is it?", b=CONTEXT)
    found = [client.json("POST", f"/v1/models/{name}:predict", {"instances": [
        {"text_a": "Where is it?", "text_b": CONTEXT}]})[1]["predictions"][0]
             for name in ("questions", "perhaps")]
    answer = found[0]["answer"]
    assert answer and found[0]["start"] > 50 and found[1]["answer"] == ""
    assert answers(page) == [["questions", "text", answer],
                             ["perhaps", "share", "No answer in this context."]]
    before, marked_text, all_text = page.run(
        "const mark = document.querySelector('mark'); return [mark.previousSibling.textContent, "
        "mark.textContent, document.querySelector('.text').textContent]")
    assert [before, marked_text, all_text] == [CONTEXT[:found[0]["start"]], answer, CONTEXT]
    shares = page.run("return [...document.querySelectorAll('.share')].map((one) => "
                      "one.textContent)")
    assert shares == [f"{100 * one['probability']:.1f} %" for one in found]
    assert page.run("return document.querySelector('.text').tabIndex") == 0   # for the keyboard
    assert page.run(
        "const [text, mark] = ['.text', 'mark'].map((one) => document.querySelector(one)"
        ".getBoundingClientRect()); return text.height < document.querySelector('.text')"
        ".scrollHeight && text.top <= mark.top && mark.bottom <= text.bottom")
    page.shoot(tmp_path / "answer.png")


def test_fields_are_named_for_what_is_asked(page):
    named = ("['text-a', 'text-b'].map((id) => "
             "document.getElementById(id).labels[0].innerText.trim())")
    asked(page, "questions", a="Where?")
    assert answers(page)[0][2] == "This task looks for the answer in a text: type the context."
    assert page.run(f"return {named}") == ["Question", "Context"]
    page.click("#pack-people")
    assert page.run(f"return {named}") == [
        "Text or question", "Second text or context (for tasks of two texts)"]
    page.click("[aria-label='Try people alone']")
    assert page.run("return document.getElementById('second').hidden")
    assert page.run("return document.getElementById('text-a').labels[0].innerText") == "Text"
    listed = page.run("return document.querySelector('#packs').innerText")
    assert "NER: PER, LOC, DATE, ORG" in listed
    assert "SQuAD: answers a question from its context" in listed


def test_a_text_without_names(page):
    asked(page, "people", a="\u00ad")
    assert answers(page)[0][2] == "No names in this text."


@pytest.mark.parametrize("width,dark", [(375, False), (375, True), (320, False)])
def test_marks_on_a_phone(page, tmp_path, width, dark):
    page.look(width, 812, dark=dark, mobile=True)
    asked(page, "people", "questions", a=NAMES + " word" * 3 + "word" * 100, b=CONTEXT)
    page.shoot(tmp_path / f"marks-{width}-{dark}.png")
    assert overflow(page) <= 0
    assert page.run("return document.querySelectorAll('mark').length") > 6
    assert page.run("return [...document.querySelectorAll('.text')].map((one) => one.tabIndex)"
                    ) == [0, 0]


def test_words_of_a_pack_are_text(page):
    asked(page, "untrusted", "names", a="a text <b>of</b> words <img src=x>")
    assert page.run("return [document.title, document.querySelectorAll('img, b').length]") == [
        "adapter-bert", 0]
    assert MARKUP in page.run("return document.body.textContent")


def test_search(page):
    page.type("#search", "FORTY")
    page.wait("document.querySelectorAll('#packs > li').length === 1")
    assert "topics" in page.run("return document.getElementById('packs').textContent")
    page.type("#search", "zzz")
    page.wait("document.getElementById('count').textContent === '0 found'")


def test_a_pack_that_is_not_loaded_cannot_be_asked(page):
    assert page.run("return document.getElementById('pack-elsewhere').disabled")
    assert page.run("return document.querySelector(\"[aria-label='Try elsewhere alone']\").hidden")


def test_every_field_has_a_label(page):
    assert page.run(
        "return [...document.querySelectorAll('input, textarea')].filter((one) => "
        "!one.labels.length || !one.labels[0].textContent.trim()).map((one) => one.id)") == []
    assert page.run("return [...document.querySelectorAll('button')].filter((one) => "
                    "!one.textContent.trim()).length") == 0


def test_nothing_from_elsewhere(client):
    _, headers, content = client.send("GET", "/")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert b"://" not in content and b"style=" not in content
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'") and "unsafe" not in policy
    for path, kind in (("page.css", "text/css"), ("page.js", "text/javascript"),
                       ("icon.svg", "image/svg+xml")):
        status, headers, _ = client.send("GET", f"/page/{path}")
        assert status == 200 and headers["Content-Type"].startswith(kind)
    assert client.json("GET", "/page/..%2fapp.py")[0] == 404


def test_a_server_with_a_token_is_asked_for_it(window, tiny_dir, tmp_path):
    token = "c" * 20
    pack = tiny_pack(0, base_of(tiny_dir), **PACKS["film-reviews"])
    store.write(str(tmp_path / "film.zip"), pack)
    hub.push(str(tmp_path / "film.zip"), str(tmp_path / "hub"), "film")
    with serving(FakeBank(tiny_dir), client_token=token, hub=str(tmp_path / "hub")) as client:
        window.look(1280)
        window.do("url", url=f"http://127.0.0.1:{client.port}/")
        while True:
            try:
                window.do("alert/text", text=token)
                break
            except AssertionError:   # it has not asked yet
                time.sleep(0.02)
        window.do("alert/accept")
        window.wait("document.querySelectorAll('#packs > li').length")
        asked(window, "film", a="a good film")
        assert answers(window)[0][0] == "film"
        assert window.complaints()   # of the request without the token
