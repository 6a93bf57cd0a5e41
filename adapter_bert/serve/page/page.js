// The page of adapter-bert serve. Whatever a pack says of itself is shown as text, never as markup.
"use strict";

const PAGE_ROWS = 50;      // packs that are listed at once
const MOST_CHOSEN = 24;    // tasks that are asked side by side
const MOST_BARS = 6;       // labels, or names, that are shown before "all"
const TONES = 6;           // colours of labels in a text, see page.css
const FEW_LABELS = 8;      // labels that a task is listed with
const SEARCH_PAUSE = 200;  // milliseconds after the last key

const state = { packs: new Map(), shown: [], total: 0, chosen: [], asked: false, turn: 0, search: 0, token: "" };
const at = (id) => document.getElementById(id);

// An element with a class, and texts or elements in it.
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

async function fetchJson(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, withToken(options));
    if (answer.status === 401 && askForToken()) answer = await fetch(path, withToken(options));
    if (answer.status === 401) state.token = "";
  } catch {
    throw new Error("The server cannot be reached.");
  }
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(value.error || `The server answered with ${answer.status}.`);
  return value;
}

function withToken(options) {
  if (!state.token) return options;
  return { ...options, headers: { ...options.headers, Authorization: `Bearer ${state.token}` } };
}

// Whether the user gave a token that a header can hold; it is kept until the page is closed.
function askForToken() {
  const given = window.prompt("This server asks for a token:")?.trim() || "";
  state.token = /^[!-~]+$/.test(given) ? given : "";
  return Boolean(state.token);
}

// --- the tasks

async function list(more) {
  const turn = ++state.search;
  const query = new URLSearchParams({
    q: at("search").value, limit: PAGE_ROWS, offset: more ? state.shown.length : 0 });
  try {
    const found = await fetchJson(`/v1/packs?${query}`);
    if (turn !== state.search) return;
    for (const pack of found.packs) state.packs.set(pack.name, pack);
    state.shown = [...(more ? state.shown : []), ...found.packs];
    state.total = found.total;
    showBase(found);
    showPacks(more ? found.packs : null);
  } catch (error) {
    at("count").textContent = error.message;
  }
}

function showBase(found) {
  const tasks = found.loaded === 1 ? "1 task" : `${found.loaded} tasks`;
  at("about").textContent = `${tasks} on one ${found.base.name}`;
}

function showPacks(added) {
  const rows = (added || state.shown).map((pack) => packRow(pack));
  if (added) at("packs").append(...rows);
  else at("packs").replaceChildren(...rows);
  if (added && rows.length) rows[0].querySelector("button, input").focus();
  const all = state.shown.length === state.total;
  at("count").textContent = all ? `${state.total} found` : `${state.shown.length} of ${state.total}`;
  at("more").hidden = all;
}

function packRow(pack) {
  const box = make("input");
  box.type = "checkbox";
  box.id = `pack-${pack.name}`;
  box.checked = state.chosen.includes(pack.name);
  box.disabled = !pack.loaded;
  box.addEventListener("change", () => choose(pack.name, box.checked));
  const label = make("label", "", pack.name);
  label.htmlFor = box.id;
  const only = make("button", "quiet", "Try");
  only.type = "button";
  only.hidden = !pack.loaded;
  only.setAttribute("aria-label", `Try ${pack.name} alone`);
  only.addEventListener("click", () => tryAlone(pack.name));
  const row = make("div", "pack", box, label, only, packFacts(pack));
  return make("li", pack.loaded ? "" : "away", row);
}

function packFacts(pack) {
  const all = make("div", "facts");
  if (pack.description) all.append(make("p", "described", pack.description.slice(0, 400)));
  const pairs = pack.pair && pack.head !== "spans" ? ", pairs" : "";
  all.append(make("p", "answers", `${pack.task}${pairs}: ${saysOf(pack)}`));
  const facts = [scoresOf(pack.metrics), sizeOf(pack.bytes), pack.license];
  all.append(make("p", "", facts.filter(Boolean).join(" \u00b7 ")), make("p", "", `Base: ${pack.base}`));
  if (!pack.loaded) all.append(make("p", "", pack.fits ? "In the hub, not loaded." : "In the hub, for another base."));
  return all;
}

function saysOf(pack) {
  if (pack.head === "regression") return "a number";
  if (pack.head === "spans") return "answers a question from its context";
  const labels = pack.head === "tokens" ? typesOf(pack) : pack.labels;
  const count = pack.head === "tokens" ? labels.length : pack.label_count;
  const others = count - FEW_LABELS;
  return labels.slice(0, FEW_LABELS).join(", ") + (others > 0 ? ` and ${others} more` : "");
}

// What names can be called: PER of the tags B-PER and I-PER, or the tags where not all are so.
function typesOf(pack) {
  const tags = pack.labels.filter((tag) => tag !== "O");
  const prefixed = tags.every((tag) => /^[BIESLU](-|$)/.test(tag));
  return [...new Set(tags.map((tag) => prefixed ? tag.slice(2) || "_" : tag))];
}

const NO_SCORES = ["eval_loss", "global_step", "loss"];   // of the run, and not of the task
const scoresOf = (metrics) => Object.entries(metrics)
  .filter(([name]) => !NO_SCORES.includes(name)).slice(0, 4)
  .map(([name, value]) => `${name.replace(/^eval_/, "")} ${Number(value.toPrecision(4))}`).join(", ");

const sizeOf = (bytes) => bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;

// --- which are asked

function choose(name, wanted) {
  state.chosen = state.chosen.filter((other) => other !== name);
  if (wanted) state.chosen = [...state.chosen, name].slice(-MOST_CHOSEN);
  showChosen();
  if (state.asked) ask();
}

function tryAlone(name) {
  state.chosen = [name];
  showChosen();
  if (state.asked) ask();
  at("text-a").focus();
  at("bench").scrollIntoView({ block: "start" });
}

function showChosen() {
  at("chosen").replaceChildren(...state.chosen.map(chip));
  if (!state.chosen.length) at("chosen").append(make("li", "hint", "No task yet: choose from the list."));
  for (const box of at("packs").querySelectorAll("input")) {
    box.checked = state.chosen.includes(box.id.slice("pack-".length));
  }
  nameFields(state.chosen.map((name) => state.packs.get(name)));
  at("ask").disabled = !state.chosen.length;
}

// What a task is asked about: one text, two, or a question and its context.
function nameFields(packs) {
  const asked = packs.filter((pack) => pack.head === "spans").length;
  const named = (text, question) => !asked ? text : asked === packs.length ? question : `${text} or ${question.toLowerCase()}`;
  at("text-a-name").textContent = named("Text", "Question");
  at("text-b-name").textContent = named("Second text", "Context");
  at("text-a").rows = asked === packs.length && asked ? 2 : 4;
  at("text-b").rows = asked ? 8 : 3;
  const pairs = packs.map(pairOf);
  at("second").hidden = pairs.every((pair) => pair === false);
  at("second-hint").textContent = secondHint(pairs);
}

// Whether a task takes two texts; null where nobody knows.
const pairOf = (pack) => ({ spans: true, tokens: false })[pack.head] ?? pack.pair;

function secondHint(pairs) {
  if (pairs.every((pair) => pair === true)) return "";
  return pairs.includes(true) ? "(for tasks of two texts)" : "(if the task takes pairs)";
}

function chip(name) {
  const mark = make("span", "", "\u00d7");
  mark.setAttribute("aria-hidden", "true");
  const button = make("button", "", name, mark);
  button.type = "button";
  button.setAttribute("aria-label", `Do not ask ${name}`);
  button.addEventListener("click", () => {
    choose(name, false);
    (at("chosen").querySelector("button") || at("search")).focus();
  });
  return make("li", "", button);
}

// --- asking

async function ask() {
  const turn = ++state.turn;
  const texts = { a: at("text-a").value, b: at("text-b").value };
  if (!texts.a.trim()) return say("Type a text first.", true);
  say("Asking\u2026");
  const start = performance.now();
  const cards = await Promise.all(state.chosen.map((name) => askOne(state.packs.get(name), texts)));
  if (turn !== state.turn) return;
  state.asked = true;
  at("results").replaceChildren(...cards);
  at("results").querySelectorAll(".text").forEach(showFirst);
  say(`${cards.length === 1 ? "1 answer" : `${cards.length} answers`} in ${Math.round(performance.now() - start)} ms`);
}

function say(text, wrong = false) {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", wrong);
}

// A card with what one task says; one with the reason where it says nothing.
async function askOne(pack, texts) {
  const card = make("article", "card", make("h3", "", pack.name), make("p", "task", pack.task));
  try {
    card.append(...ANSWERS[pack.head](pack, await result(pack, texts), texts));
  } catch (error) {
    card.append(make("p", "wrong", error.message));
  }
  return card;
}

const VERBS = { classification: "classify", regression: "regress", spans: "predict", tokens: "predict" };

async function result(pack, texts) {
  const example = { text_a: texts.a };
  const [pair, second, verb] = [pairOf(pack), texts.b.trim(), VERBS[pack.head]];
  if (pair === true && !second) throw new Error(pack.head === "spans"
    ? "This task looks for the answer in a text: type the context."
    : "This task takes a pair: type a second text.");
  if (pair !== false && second) example.text_b = texts.b;
  const answer = await fetchJson(`/v1/models/${encodeURIComponent(pack.name)}:${verb}`, {
    method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ [verb === "predict" ? "instances" : "examples"]: [example] }) });
  return (answer.predictions || answer.results)[0];
}

const ANSWERS = { classification: classOf, regression: scoreOf, spans: partOf, tokens: namesOf };

function scoreOf(pack, value) {
  return [make("p", "says", String(Number(value.toPrecision(4))))];
}

function classOf(pack, value) {
  const best = value.reduce((one, other) => other[1] > one[1] ? other : one);
  const sorted = value.length > MOST_BARS ? [...value].sort((one, other) => other[1] - one[1]) : value;
  return [make("p", "says", best[0]),
    ...shortList("bars", sorted.map((one) => () => bar(one, one === best)), "more labels")];
}

// The text with its names marked, and a list of these.
function namesOf(pack, { entities }, texts) {
  if (!entities.length) return [make("p", "says none", "No names in this text.")];
  const types = typesOf(pack);
  const tone = (label) => `tone-${Math.max(0, types.indexOf(label)) % TONES}`;
  const text = marked(texts.a, entities, ({ label }) => [tone(label), make("span", "tag", label)]);
  return [text, ...shortList("names", entities.map((one) => () => make("li", "",
    make("span", `tag ${tone(one.label)}`, one.label), make("span", "", one.text),
    make("span", "share", percent(one.probability)))), "more names")];
}

// The answer, and where it stands in the context.
function partOf(pack, answer, texts) {
  const found = answer.answer !== "";
  const says = make("p", found ? "says" : "says none", found ? answer.answer : "No answer in this context.");
  const share = make("p", "share", percent(answer.probability));
  return found ? [says, share, marked(texts.b, [answer], () => ["answer"])] : [says, share];
}

// A text with parts of it marked; `dress` gives the class of a part and what stands behind it.
// Their places count characters, of which JavaScript takes some for two.
function marked(text, parts, dress) {
  const characters = Array.from(text);
  const box = make("p", "text");
  let done = 0;
  for (const part of parts) {
    const [className, ...behind] = dress(part);
    box.append(characters.slice(done, part.start).join(""),
      make("mark", className, characters.slice(part.start, part.end).join(""), ...behind));
    done = part.end;
  }
  box.append(characters.slice(done).join(""));
  return box;
}

// A long text scrolls, also by keyboard, and begins where something is marked.
function showFirst(box) {
  if (box.scrollHeight <= box.clientHeight) return;
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", "The text");
  box.scrollTop = box.querySelector("mark").offsetTop - box.clientHeight / 3;
}

const percent = (share) => `${(100 * share).toFixed(1)} %`;

// A list of the first of many; each is made by a function when it is shown.
function shortList(className, makers, more) {
  const show = (some) => some.map((one) => one());
  const list = make("ul", className, ...show(makers.slice(0, MOST_BARS)));
  const others = makers.slice(MOST_BARS);
  if (!others.length) return [list];
  const button = make("button", "quiet", `${others.length} ${more}`);
  button.type = "button";
  button.addEventListener("click", () => {
    list.append(...show(others));
    button.remove();
  });
  return [list, button];
}

function bar([label, share], isBest) {
  const filled = make("div", "");
  const track = make("div", "track", filled);
  track.setAttribute("aria-hidden", "true");
  requestAnimationFrame(() => { filled.style.width = `${100 * share}%`; });
  return make("li", isBest ? "best" : "", make("span", "", label),
    make("span", "share", percent(share)), track);
}

// --- start

function onKey(event) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    ask();
  }
}

async function start() {
  let pause = 0;
  at("search").addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(() => list(false), SEARCH_PAUSE);
  });
  at("more").addEventListener("click", () => list(true));
  at("form").addEventListener("keydown", onKey);
  at("form").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  await list(false);
  const first = state.shown.find((pack) => pack.loaded);
  if (first) state.chosen = [first.name];
  showChosen();
}

start();
