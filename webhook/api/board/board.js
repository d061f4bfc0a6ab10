"use strict";
// The readiness board. All that it shows is what the API answers to its reader's own token, and
// every text becomes a text node: nothing that somebody has written can become markup.

const PAUSE = 10000; // ms between two rounds
const GENTLY = 500; // ms between two Plans: each costs vSphere a read
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
let session = 0; // changes with each sign-in and sign-out, which ends the rounds of the one before
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

async function call(path) {
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  const answer = await fetch(`api/v1${path}`, { headers, cache: "no-store" });
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  const after = Number(answer.headers.get("Retry-After")) || 0;
  throw new Refused(answer.status, body.detail || `HTTP ${answer.status}`, after);
}

// What is there again and again, in one session.

async function rounds(mine) {
  let first = true;
  while (mine === session) {
    try {
      if (first) showRules(await call("/rules"));
      showProviders((await call("/providers")).providers);
      await round(mine, first);
      if (mine !== session) return;
      first = false;
      say("Live.");
      at("time").textContent = `As of ${new Date().toLocaleTimeString()}`; // not read out each time
      await wait(PAUSE);
    } catch (error) {
      if (mine !== session) return;
      if (error instanceof Refused && error.status === 401) {
        leave("The token is not valid any more: sign in again.");
        return;
      }
      say(`Not up to date, trying again: ${error.message}`);
      await wait(Math.max(PAUSE / 2, 1000 * (error.after || 0)));
    }
    while (document.hidden && mine === session) await wait(1000);
  }
}

async function round(mine, first) {
  const names = (await call("/plans")).plans.map((one) => `${one.namespace}/${one.name}`);
  for (const name of plans.keys()) if (!names.includes(name)) plans.delete(name);
  show();
  for (const name of names) {
    const found = await readiness(name);
    if (mine !== session) return;
    if (found === null) plans.delete(name);
    else plans.set(name, found);
    show();
    if (!first) await wait(GENTLY);
  }
}

async function readiness(name) {
  const [namespace, plan] = name.split("/").map(encodeURIComponent);
  try {
    return await call(`/plans/${namespace}/${plan}/readiness`);
  } catch (error) {
    if (error.status === 403 || error.status === 404) return null; // since the list was made
    throw error;
  }
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
function follow() {
  const target = location.hash ? document.getElementById(location.hash.slice(1)) : null;
  if (target?.tagName !== "DETAILS") return;
  target.open = true;
  target.querySelector("summary").focus();
}

// Who looks.

function enter() {
  session += 1;
  at("enter").hidden = true;
  at("board").hidden = false;
  at("leave").hidden = token === null; // signed in by a proxy, which has its own way out
  at("refused").textContent = "";
  say("Reading");
  rounds(session);
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
  try {
    await call("/rules");
  } catch (error) {
    leave(given === null && error.status === 401 ? "" : error.message);
    return;
  }
  enter();
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
window.addEventListener("hashchange", follow);
knock(null); // a proxy in front may have signed its reader in
