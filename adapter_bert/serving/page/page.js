// The page of adapter-bert serve. Whatever a pack says of itself is shown as text, never as markup.
"use strict";

const PAGE_ROWS = 50;      // packs that are listed at once
const MOST_CHOSEN = 24;    // tasks that are asked side by side
const MOST_BARS = 6;       // labels that are shown before "all"
const FEW_LABELS = 8;      // labels that a task is listed with
const SEARCH_PAUSE = 200;  // milliseconds after the last key

const state = { packs: new Map(), shown: [], total: 0, chosen: [], asked: false, turn: 0, search: 0 };
const at = (id) => document.getElementById(id);

// An element with a class, and texts or elements in it.
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

async function fetchJson(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The server cannot be reached.");
  }
  const value = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(value.error || `The server answered with ${answer.status}.`);
  return value;
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
  all.append(make("p", "answers", `${pack.task}${pack.pair ? ", pairs" : ""}: ${labelsOf(pack)}`));
  const facts = [scoresOf(pack.metrics), sizeOf(pack.bytes), pack.license];
  all.append(make("p", "", facts.filter(Boolean).join(" \u00b7 ")), make("p", "", `Base: ${pack.base}`));
  if (!pack.loaded) all.append(make("p", "", pack.fits ? "In the hub, not loaded." : "In the hub, for another base."));
  return all;
}

function labelsOf(pack) {
  if (pack.head === "regression") return "a number";
  const others = pack.labels.length - FEW_LABELS;
  return pack.labels.slice(0, FEW_LABELS).join(", ") + (others > 0 ? ` and ${others} more` : "");
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
  const pairs = state.chosen.map((name) => state.packs.get(name).pair);
  at("second").hidden = pairs.every((pair) => pair === false);
  at("second-hint").textContent = secondHint(pairs);
  at("ask").disabled = !state.chosen.length;
}

function secondHint(pairs) {
  if (pairs.every((pair) => pair === true)) return "";
  return pairs.includes(true) ? "(for tasks of pairs)" : "(if the task takes pairs)";
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
    card.append(...answerOf(pack, await result(pack, texts)));
  } catch (error) {
    card.append(make("p", "wrong", error.message));
  }
  return card;
}

async function result(pack, texts) {
  const example = { text_a: texts.a };
  if (pack.pair === true && !texts.b.trim()) throw new Error("This task takes a pair: type a second text.");
  if (pack.pair !== false && texts.b.trim()) example.text_b = texts.b;
  const verb = pack.head === "regression" ? "regress" : "classify";
  const answer = await fetchJson(`/v1/models/${encodeURIComponent(pack.name)}:${verb}`, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ examples: [example] }) });
  return answer.results[0];
}

function answerOf(pack, value) {
  if (pack.head === "regression") return [make("p", "says", String(Number(value.toPrecision(4))))];
  const best = value.reduce((one, other) => other[1] > one[1] ? other : one);
  const sorted = value.length > MOST_BARS ? [...value].sort((one, other) => other[1] - one[1]) : value;
  const bars = make("ul", "bars", ...sorted.slice(0, MOST_BARS).map((one) => bar(one, one === best)));
  const parts = [make("p", "says", best[0]), bars];
  if (sorted.length > MOST_BARS) parts.push(allButton(bars, sorted.slice(MOST_BARS)));
  return parts;
}

function allButton(bars, others) {
  const button = make("button", "quiet", `${others.length} more labels`);
  button.type = "button";
  button.addEventListener("click", () => {
    bars.append(...others.map((one) => bar(one, false)));
    button.remove();
  });
  return button;
}

function bar([label, share], isBest) {
  const filled = make("div", "");
  const track = make("div", "track", filled);
  track.setAttribute("aria-hidden", "true");
  requestAnimationFrame(() => { filled.style.width = `${100 * share}%`; });
  return make("li", isBest ? "best" : "", make("span", "", label),
    make("span", "share", `${(100 * share).toFixed(1)} %`), track);
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
