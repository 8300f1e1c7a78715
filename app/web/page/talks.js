// Talks that were saved from this browser, and those that the server offers: which one the next talk goes on with.
// The server tells nobody what a talk is called but the page that saved it, so the names are kept here.

import { clock } from "./transcript.js";

const STORE = "moshi-talks", MOST = 10;
const $ = (id) => document.getElementById(id);

export class SavedTalks {
  constructor() {
    this.kept = read(); // [{name, savedMs}], the last one first
    this.offered = null; // by the server: [{name, seconds}]
  }

  // Those that are still there; what the server offers is chosen, once.
  async offer(offered) {
    if (this.offered) return;
    this.offered = offered ?? [];
    for (const { name, seconds } of this.offered) this.add(name, `${title(name)}, ${clock(seconds)}`);
    if (this.offered.length) $("resume").selectedIndex = 1;
    for (const { name, savedMs } of this.kept) {
      const answer = await fetch(`/api/talks/${encodeURIComponent(name)}`).catch(() => null);
      if (answer?.ok) this.add(name, `${when(savedMs)}, ${clock((await answer.json()).seconds)}`);
    }
  }

  add(name, said) {
    if ([...$("resume").options].some((option) => option.value === name)) return;
    $("resume").add(new Option(said, name));
    $("talks").hidden = false;
  }

  saved(name, seconds) {
    const savedMs = Date.now();
    this.kept = [{ name, savedMs }, ...this.kept].slice(0, MOST);
    try { localStorage.setItem(STORE, JSON.stringify(this.kept)); } catch { /* a private window */ }
    this.add(name, `${when(savedMs)}, ${clock(seconds)}`);
  }

  // What the next conversation is asked for. A talk goes on as it was held: nothing else is then.
  query(wished) {
    const name = $("resume").value;
    if (!name) return wished;
    return { resume: name, ...(wished.record && { record: wished.record }) };
  }
}

const when = (ms) => `Saved ${new Date(ms).toLocaleString([], { dateStyle: "medium", timeStyle: "short" })}`;
const title = (name) => name.replace(/(_talk\d+.*)?\.talk\.safetensors$/, "");

function read() {
  try {
    const kept = JSON.parse(localStorage.getItem(STORE));
    return Array.isArray(kept) ? kept.filter((one) => typeof one?.name === "string").slice(0, MOST) : [];
  } catch { return []; }
}
