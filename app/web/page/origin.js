// Was a sound made by Moshi? A file that is dropped on the page or chosen is sent to the server, which looks at it.

import { KEYLESS, LOST, sentence } from "./said.js";
import { clock } from "./transcript.js";

const MOST_ROWS = 200; // of a table; the picture has all of them
const HIGHEST_Z = 25; // a bar of full height
const SVG = "http://www.w3.org/2000/svg";
const $ = (id) => document.getElementById(id);

export class Origin {
  constructor() {
    const box = $("origin");
    $("open-origin").addEventListener("click", () => box.showModal());
    $("origin-close").addEventListener("click", () => box.close());
    box.addEventListener("click", (event) => { if (event.target === box) box.close(); }); // beside it
    box.addEventListener("close", () => this.asking?.abort()); // the server stops looking, too
    $("origin-choose").addEventListener("change", ({ target }) => {
      if (target.files.length) this.look(target.files[0]);
      target.value = "";
    });
    this.watchDrops();
  }

  watchDrops() {
    const holdsFile = (event) => event.dataTransfer?.types.includes("Files");
    addEventListener("dragover", (event) => {
      if (!holdsFile(event)) return;
      event.preventDefault(); // else the browser leaves the page for the file
      $("drop-here").hidden = false;
    });
    addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop-here").hidden = true; });
    addEventListener("drop", (event) => {
      if (!holdsFile(event)) return;
      event.preventDefault();
      $("drop-here").hidden = true;
      if (event.dataTransfer.files.length) this.look(event.dataTransfer.files[0]);
    });
  }

  async look(file) {
    this.asking?.abort();
    const asking = this.asking = new AbortController();
    if (!$("origin").open) $("origin").showModal();
    $("origin-file").textContent = file.name;
    this.show(line("Looking at it ...", "wait"));
    const shown = await ask(file, asking.signal);
    if (!asking.signal.aborted) this.show(...shown);
  }

  show(...parts) { $("origin-answer").replaceChildren(...parts); }
}

// Elements: what the server says of the file, or the one line of what is wrong.
async function ask(file, signal) {
  try {
    const answer = await fetch(`/api/trace?name=${encodeURIComponent(file.name)}`, { method: "POST", body: file, signal });
    if (answer.ok) return report(await answer.json());
    return [line(answer.status === 403 ? KEYLESS : sentence(await answer.text()), "problem")];
  } catch {
    return [line(LOST, "problem")];
  }
}

function report(told) {
  const parts = [line(told.sentence, told.found ? "verdict found" : "verdict"), timeline(told)];
  parts.push(fact("Signature", told.signature));
  if (told.comment) parts.push(fact("The file says", told.comment));
  parts.push(...told.index.map((match) => fact("Index", match.line)));
  const found = told.windows.filter((each) => each.found);
  const rows = found.length ? found : told.together.filter((each) => each.found);
  if (rows.length) parts.push(table(rows.slice(0, MOST_ROWS), told.channels));
  return parts;
}

function line(text, kind) {
  const made = document.createElement("p");
  made.className = kind;
  made.textContent = text;
  return made;
}

function fact(name, text) {
  const made = line("", "fact"), bold = document.createElement("b");
  bold.textContent = `${name}: `;
  made.append(bold, text);
  return made;
}

function channelName(channel, channels) {
  if (channels === 1) return "Sound";
  return channels === 2 ? ["Left", "Right"][channel] : `Channel ${channel + 1}`;
}

// A strip for each channel: a bar for each 10 s, as high as its z, in colour where the mark is.
function timeline({ windows, channels, seconds }) {
  const figure = document.createElement("figure");
  for (const channel of new Set(windows.map((each) => each.channel))) {
    const mine = windows.filter((each) => each.channel === channel);
    figure.append(line(channelName(channel, channels), "fine"), strip(mine, seconds));
  }
  const axis = line("", "axis"), [from, to] = [document.createElement("span"), document.createElement("span")];
  [from.textContent, to.textContent] = [clock(0), clock(seconds)];
  axis.append(from, "A bar for 10 s, green where the mark is", to);
  figure.append(axis);
  return figure;
}

function strip(windows, seconds) {
  const svg = document.createElementNS(SVG, "svg"), marked = windows.filter((each) => each.found).length;
  svg.setAttribute("viewBox", `0 0 ${seconds || 1} 1`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `The mark is in ${marked} of ${windows.length} stretches`);
  for (const each of windows) {
    const bar = document.createElementNS(SVG, "rect"), title = document.createElementNS(SVG, "title");
    const tall = Math.min(1, Math.max(0.06, each.z / HIGHEST_Z)), room = 0.03 * each.seconds;
    bar.setAttribute("x", each.start_s + room);
    bar.setAttribute("width", each.seconds - 2 * room);
    bar.setAttribute("y", 1 - tall);
    bar.setAttribute("height", tall);
    bar.classList.toggle("found", each.found);
    title.textContent = `${clock(each.start_s)}: z ${each.z.toFixed(1)}, ${each.found ? each.what : "no mark"}`;
    bar.append(title);
    svg.append(bar);
  }
  return svg;
}

function table(rows, channels) {
  const details = document.createElement("details"), summary = document.createElement("summary");
  summary.textContent = "Where the mark is";
  const list = document.createElement("ul");
  for (const each of rows) {
    const item = document.createElement("li");
    item.textContent = `${clock(each.start_s)} to ${clock(each.start_s + each.seconds)}, `
      + `${channelName(each.channel, channels).toLowerCase()}: ${each.what}`;
    list.append(item);
  }
  details.append(summary, list);
  return details;
}
