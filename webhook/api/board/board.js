"use strict";
// The readiness board. All that it shows is what the API answers to its reader's own token, and
// every text becomes a text node: nothing that somebody has written can become markup.

const PAUSES = [1000, 60000]; // ms until a stream that has ended is taken up again, doubling
const SILENCE = 60000; // ms, of a stream that tells something every 10 s or so
const HIDDEN = 60000; // ms after which a page that nobody looks at ends its stream
const PILES = ["matched", "missing", "wrong", "surplus", "unbound", "copying"];
const STATES = {
  "ready": "✓ ready", "not-ready": "✗ not ready", "undecided": "? undecided",
  "not-checked": "– not checked", "done": "✓ done",
};
const PROVIDERS = {
  "known": "known", "first-read": "being read for the first time",
  "recalled": "known from an earlier run only", "unreachable": "can't be reached",
};

const at = (id) => document.getElementById(id);
const wait = (ms) => new Promise((done) => setTimeout(done, ms));

let token = null; // in memory, and nowhere else
let session = 0; // changes with each sign-in and sign-out, which ends the stream of the one before
const plans = new Map(); // "namespace/name" to its readiness
let last = ""; // the JSON of all that is shown
const shown = new Map(); // the same to its <details> and the JSON that this was made of

class Refused extends Error {
  constructor(status, detail, after) {
    super(detail);
    this.status = status;
    this.after = after;
  }
}

function make(tag, given, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(given)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

async function request(path, signal) {
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  const answer = await fetch(`api/v1${path}`, { headers, cache: "no-store", signal });
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  const after = Number(answer.headers.get("Retry-After")) || 0;
  throw new Refused(answer.status, body.detail || `HTTP ${answer.status}`, after);
}

// The stream of news, taken up again whenever it ends, in one session.

async function follow(mine) {
  let failures = 0;
  while (mine === session) {
    try {
      await read(mine, () => { failures = 0; });
    } catch (error) {
      if (mine !== session) return;
      if (error instanceof Refused && error.status === 401) {
        leave("The token is not valid any more: sign in again.");
        return;
      }
      say(`Not up to date, trying again: ${error.message}`);
      const pause = Math.min(PAUSES[1], PAUSES[0] * 2 ** failures++) * (0.5 + Math.random() / 2);
      await wait(Math.max(pause, 1000 * (error.after || 0)));
    }
    while (document.hidden && mine === session) await wait(1000);
  }
}

// Until this page is hidden, or something else ends it, which it raises.
async function read(mine, good) {
  const ending = new AbortController();
  const live = { mine, ending, heard: Date.now(), seen: Date.now(), told: new Set() };
  const timer = setInterval(() => watch(live), 1000);
  try {
    const answer = await request("/readiness", ending.signal);
    await lines(answer.body.pipeThrough(new TextDecoderStream()), (line) => {
      live.heard = Date.now();
      if (mine === session) hear(JSON.parse(line), live, good);
    });
    throw new Error("the guard has ended the stream");
  } catch (error) {
    if (live.why !== HIDDEN) throw live.why ? new Error(live.why) : error;
    say("Paused while nobody looks.");
  } finally {
    clearInterval(timer);
    ending.abort();
  }
}

// A stream that nobody looks at, that has died on its way, or whose reader has signed out, ends.
function watch(live) {
  const now = Date.now();
  if (!document.hidden) live.seen = now;
  if (now - live.heard > SILENCE) live.why = "nothing has been heard for a while";
  else if (now - live.seen > HIDDEN) live.why = HIDDEN;
  if (live.why || live.mine !== session) live.ending.abort();
}

async function lines(stream, take) {
  let rest = "";
  const reader = stream.getReader();
  while (true) {
    const { done, value } = await reader.read();
    if (done) return;
    const pieces = (rest + value).split("\n");
    rest = pieces.pop();
    for (const line of pieces) take(line);
  }
}

function hear(news, live, good) {
  const key = (one) => `${one.namespace}/${one.name}`;
  if (news.type === "end") throw new Refused(news.status, news.detail, 0);
  else if (news.type === "providers") showProviders(news.providers);
  else if (news.type === "gone") plans.delete(key(news));
  else if (news.type === "plan") {
    plans.set(key(news.plan), news.plan);
    live.told.add(key(news.plan));
  } else if (news.type === "whole") {
    for (const name of plans.keys()) if (!live.told.has(name)) plans.delete(name);
    live.whole = true;
    good();
    say("Live.");
  }
  if (live.whole) at("time").textContent = `As of ${new Date().toLocaleTimeString()}`; // not read out
  if (news.type !== "providers") show();
}

// What is shown.

function say(text) {
  if (at("news").textContent !== text) at("news").textContent = text;
}

function show() {
  const words = at("words").value.trim().toLowerCase();
  const only = at("only").value;
  const place = at("place").value;
  const told = [...plans.values()];
  choices([...new Set(told.map((one) => one.namespace))].sort());
  const fits = told.filter((one) =>
    (!only || one.state === only) && (!place || one.namespace === place) &&
    (!words || searched(one).includes(words)));
  const waves = new Map();
  for (const one of fits) waves.set(one.wave, [...(waves.get(one.wave) || []), one]);
  const order = [...waves.keys()].sort((a, b) =>
    (a === "") - (b === "") || a.localeCompare(b, undefined, { numeric: true }));
  const count = `${fits.length} of ${told.length} Plans shown; ` +
    `${told.filter((one) => one.ready).length} ready`;
  if (at("count").textContent !== count) at("count").textContent = count;
  const json = JSON.stringify(fits);
  if (json === last) return; // what is read out stays where it is
  last = json;
  const sections = order.map((wave) => section(wave, waves.get(wave)));
  const focused = document.activeElement?.dataset?.key;
  at("waves").replaceChildren(...sections);
  if (focused) document.querySelector(`[data-key="${CSS.escape(focused)}"]`)?.focus();
}

function searched(plan) {
  const texts = [plan.namespace, plan.name, plan.targetNamespace, plan.wave];
  for (const vm of plan.vms) {
    texts.push(vm.id, vm.name);
    for (const pile of PILES) for (const one of vm[pile]) texts.push(one.pvc, one.diskSource);
  }
  return texts.filter(Boolean).join("\n").toLowerCase();
}

function choices(namespaces) {
  const select = at("place");
  const there = [...select.options].slice(1).map((one) => one.value);
  if (there.join() === namespaces.join()) return;
  const chosen = select.value;
  select.replaceChildren(select.options[0], ...namespaces.map((one) => new Option(one, one)));
  select.value = namespaces.includes(chosen) ? chosen : "";
}

function section(wave, some) {
  const vms = some.flatMap((plan) => plan.vms);
  const ready = vms.filter((vm) => vm.ready).length;
  const title = wave ? `Wave ${wave}` : "Without a wave";
  const key = (plan) => `${plan.namespace}/${plan.name}`;
  some.sort((a, b) => key(a).localeCompare(key(b)));
  return make("section", {},
    make("h3", {}, `${title}: ${ready} of ${vms.length} VMs ready`), ...some.map(card));
}

function card(plan) {
  const key = `${plan.namespace}/${plan.name}`;
  const json = JSON.stringify(plan);
  const before = shown.get(key);
  if (before?.json === json) return before.element;
  const open = new Set([...(before?.element.querySelectorAll("details[open]") || [])]
    .map((one) => one.dataset.name));
  const ready = plan.vms.filter((vm) => vm.ready).length;
  const element = make("details", { "data-name": key },
    summary(key, plan.state, key, `${ready} of ${plan.vms.length} VMs ready, PVCs in ` +
      (plan.targetNamespace || "no namespace")));
  if (plan.message) element.append(make("p", {}, plan.message));
  if (plan.findings.length) element.append(findings(plan.findings));
  for (const [index, vm] of plan.vms.entries()) element.append(machine(key, index, vm, open));
  element.open = before ? before.element.open : false;
  shown.set(key, { element, json });
  return element;
}

function summary(key, state, title, rest) {
  const line = make("summary", { "data-key": key },
    make("span", { class: `state ${state}` }, STATES[state] || state),
    make("strong", {}, title), make("span", { class: "faint" }, rest));
  return line;
}

function machine(plan, index, vm, open) {
  const name = `${plan} ${index}`;
  const state = vm.done ? "done" : vm.ready ? "ready" : "not-ready";
  const counts = PILES.filter((pile) => vm[pile].length)
    .map((pile) => `${vm[pile].length} ${pile}`).join(", ");
  const title = vm.name && vm.id ? `${vm.name} (${vm.id})` : vm.name || vm.id;
  const element = make("details", { "data-name": name },
    summary(name, state, title, counts ? `disks: ${counts}` : ""));
  if (vm.findings.length) element.append(findings(vm.findings));
  const disks = rows(vm);
  if (disks.length) {
    const head = ["Disk", "PVC", "State"].map((one) => make("th", { scope: "col" }, one));
    element.append(make("table", {}, make("caption", {}, `Disks of ${title}`),
      make("thead", {}, make("tr", {}, ...head)), make("tbody", {}, ...disks)));
  }
  element.open = open.has(name);
  return element;
}

// A PVC may be matched and unbound: one row with all that is true of it.
function rows(vm) {
  const merged = new Map();
  let hidden = 0;
  for (const pile of PILES) {
    for (const one of vm[pile]) {
      const key = one.pvc || one.diskSource || `hidden ${hidden++}`;
      const row = merged.get(key) || { ...one, piles: [] };
      row.piles.push(pile);
      merged.set(key, row);
    }
  }
  return [...merged.values()].map((row) => make("tr", {},
    make("td", {}, row.diskSource || "–"), make("td", {}, row.pvc || "–"),
    make("td", {}, ...row.piles.flatMap((pile, index) =>
      [index ? ", " : "", make("span", { class: pile }, pile)]))));
}

function findings(some) {
  return make("ul", {}, ...some.map((one) => {
    const known = document.getElementById(`rule-${one.rule}`);
    const rule = known ? make("a", { href: `#rule-${one.rule}` }, one.rule) : one.rule;
    return make("li", {}, make("strong", { class: one.action }, one.action),
      ` ${one.field}: ${one.message} (`, rule, ")");
  }));
}

function showProviders(some) {
  at("providers").replaceChildren(...some.filter((one) => one.type === "vsphere").map((one) => {
    const age = one.ageSeconds === null ? (one.state === "known" ? "from a snapshot file" : "")
      : `as of ${Math.round(one.ageSeconds)} s ago`;
    const state = make("span", { class: one.state === "known" ? "ready" : "undecided" },
      PROVIDERS[one.state] || one.state);
    const rest = [`${one.vms} VMs`, age, one.message].filter(Boolean).join(", ");
    return make("li", {}, `${one.namespace}/${one.name}: `, state, `, ${rest}`);
  }));
  if (!at("providers").children.length) {
    at("providers").append(make("li", {}, "No vSphere Provider that you may see"));
  }
}

function showRules({ rules }) {
  at("rules").replaceChildren(...rules.map((rule) => make("details", { id: `rule-${rule.id}` },
    make("summary", {}, make("strong", {}, rule.id), make("span", { class: "faint" }, rule.title)),
    make("dl", {}, ...Object.entries(rule.text).flatMap(([head, text]) =>
      [make("dt", {}, head), make("dd", {}, text)])))));
}

// A link to a rule opens it.
function reveal() {
  const target = location.hash ? document.getElementById(location.hash.slice(1)) : null;
  if (target?.tagName !== "DETAILS") return;
  target.open = true;
  target.querySelector("summary").focus();
}

// Who looks.

function enter(rules) {
  session += 1;
  at("enter").hidden = true;
  at("board").hidden = false;
  at("leave").hidden = token === null; // signed in by a proxy, which has its own way out
  at("refused").textContent = "";
  say("Reading");
  showRules(rules);
  follow(session);
}

function leave(why) {
  session += 1;
  token = null;
  plans.clear();
  shown.clear();
  last = "";
  for (const id of ["waves", "providers", "rules", "count", "time"]) at(id).replaceChildren();
  at("board").hidden = true;
  at("leave").hidden = true;
  at("enter").hidden = false;
  at("refused").textContent = why;
  say("Not signed in");
  at("token").focus();
}

async function knock(given) {
  token = given;
  let rules;
  try {
    rules = await (await request("/rules")).json();
  } catch (error) {
    leave(given === null && error.status === 401 ? "" : error.message);
    return;
  }
  enter(rules);
}

at("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = at("token").value.trim();
  at("token").value = "";
  knock(given);
});
at("leave").addEventListener("click", () => leave(""));
at("filters").addEventListener("input", show);
at("filters").addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("hashchange", reveal);
knock(null); // a proxy in front may have signed its reader in
