// The page: buttons, keys and figures around one Talk.

import { explain, obstacle } from "./audio.js";
import { Origin } from "./origin.js";
import { CLOSE_FAILED } from "./protocol.js";
import { FAILED, KEYLESS, LOST, MACHINE, MARKED, RESUMED, SAVED, SILENCED, UNMARKED, WRITTEN, sentence } from "./said.js";
import { Settings } from "./settings.js";
import { Stage } from "./stage.js";
import { Talk } from "./talk.js";
import { SavedTalks } from "./talks.js";
import { Transcript, clock } from "./transcript.js";

const $ = (id) => document.getElementById(id);
const stage = new Stage($("voices"));
const transcript = new Transcript($("transcript"));
const settings = new Settings(changed);
const talks = new SavedTalks();
new Origin();
const REFUSED = 1006; // as browsers say of a socket that never opened
const LEVELS_EVERY_MS = 50; // blocks of sound come every 20 ms; each picture costs the machine that Moshi may run on
let talk = null, last = null, muted = false, saves = false, begunMs = 0, shownMs = 0, recording = "";
let levels = { moshi: 0, you: 0 }, levelsShownMs = 0;

const SAID = { idle: "Ready when you are", connecting: "Connecting", talking: "Moshi is listening" };
const TALK_DOES = { idle: "Talk", connecting: "Hang up", waiting: "Stop waiting", talking: "Hang up" };

function show(state, said = SAID[state]) {
  document.body.dataset.state = state;
  $("status").textContent = said;
  $("talk").setAttribute("aria-label", TALK_DOES[state]);
  $("mute").disabled = $("hold").disabled = state !== "talking";
  $("clock").hidden = state !== "talking";
  $("save").hidden = state !== "talking" || !saves;
  $("resume").disabled = state !== "idle";
}

function warn(text) {
  $("alert-text").textContent = text;
  $("alert").hidden = !text;
  $("take-over").hidden = $("leave").hidden = true;
  $("alert-close").hidden = false;
}

async function start(options = {}) {
  const problem = obstacle();
  if (problem) return warn(problem);
  warn("");
  $("trust").hidden = true;
  show("connecting");
  last?.forget();
  const mine = talk = last = new Talk({ waiting, started, word, yourWord, saved, level, heard, figures, notice: warn, silenced, ended });
  try {
    await mine.start(settings.sound(), { ...talks.query(settings.query()), wait: "1", ...options });
    settings.listDevices();
  } catch (error) {
    mine.hangUp();
    warn(explain(error));
  }
}

// Someone else talks: the server keeps a place, which is given up by leaving.
function waiting({ ahead, can_take_over: canTakeOver }) {
  const before = ahead === 1 ? "one other before you" : `${ahead} others before you`;
  show("waiting", ahead ? `Waiting, with ${before}` : "Waiting: you are next");
  warn(canTakeOver ? "The other visitor has gone quiet: you may take over."
    : "Someone else is talking with Moshi. Your talk begins when it is your turn.");
  $("take-over").hidden = !canTakeOver;
  $("leave").hidden = false;
  $("alert-close").hidden = true;
}

function started(facts) {
  warn("");
  transcript.clear();
  $("welcome").hidden = true;
  transcript.note(`${MACHINE} ${facts.mark === "none" ? UNMARKED : ""}`);
  if (facts.your_words) transcript.note(WRITTEN);
  if (facts.resumed) transcript.note(RESUMED);
  $("resume").value = ""; // once
  saves = facts.saves;
  $("downloads").hidden = $("get-you").hidden = true;
  recording = facts.recording;
  begunMs = performance.now();
  $("seed").textContent = facts.seed;
  $("mic-facts").textContent = talk.audio.facts();
  model(facts);
  setMuted(false);
  show("talking");
  stage.run({ moshi: talk.audio.voice, you: talk.audio.ears });
}

function ended(code, why) {
  const refused = !talk?.connected && code === REFUSED;
  $("save").disabled = false;
  stage.stop();
  transcript.finish();
  talk = null;
  levels = { moshi: 0, you: 0 };
  showLevels();
  show("idle", begunMs ? "The conversation has ended" : SAID.idle);
  warn("");
  if (refused) explainRefusal();
  else if (code === CLOSE_FAILED) warn(FAILED);
  else if (code !== 1000) warn(why ? sentence(why) : LOST);
  if (recording) offer(recording);
  begunMs = 0;
}

// A websocket that never opened though the page came from the same place: Safari takes a certificate for a page
// after a warning, and never for a socket.
async function explainRefusal() {
  if (location.protocol !== "https:" || !(await ask())) return warn(LOST);
  const authority = await fetch("/moshi-ca.crt", { method: "HEAD" }).catch(() => null);
  if (authority?.ok) $("trust").hidden = false;
  else warn("The browser refuses the connection: it doesn't trust the server's certificate.");
}

function offer(id) {
  for (const [link, file] of [["get-wav", "recording.wav"], ["get-vtt", "transcript.vtt"], ["get-jsonl", "transcript.jsonl"], ["get-you", "you.jsonl"]])
    $(link).href = `/api/recordings/${id}/${file}`;
  $("downloads").hidden = false;
  recording = "";
}

async function ask() {
  try {
    const answer = await fetch("/api/status");
    if (answer.ok) return await answer.json();
    warn(answer.status === 403 ? KEYLESS : sentence(await answer.text()));
  } catch {
    warn(LOST);
  }
}

function silenced(isSilent) {
  if (isSilent) warn(SILENCED);
  else if ($("alert-text").textContent === SILENCED) warn("");
}

// What the model takes is known once it is loaded.
function offerVoices(status) {
  settings.offer(status);
  talks.offer(status.talks);
  model(status);
  if (status.state === "loading") setTimeout(() => ask().then((now) => now && offerVoices(now)), 2000);
}

function model({ model, recipe, adapter, mark }) {
  $("mark").textContent = mark && (mark === "none" ? UNMARKED : MARKED);
  const names = [model?.split("/").pop(), recipe, adapter?.split("/").pop()];
  $("model").textContent = names.filter(Boolean).join(" · ");
  $("model").hidden = !model;
}

function word(piece, atS) { transcript.word(piece, atS); }

function yourWord(text, atS) {
  transcript.yourWord(text, atS);
  $("get-you").hidden = false;
}

function save() {
  if (!talk?.save()) return;
  $("save").disabled = true;
  $("status").textContent = "Saving the talk";
}

function saved({ name, seconds, message }) {
  $("save").disabled = false;
  if (document.body.dataset.state === "talking") $("status").textContent = muted ? "You are muted" : SAID.talking;
  if (!name) return warn(message);
  talks.saved(name, seconds);
  transcript.note(SAVED);
}

function heard(rms, atS) { transcript.heard(rms, atS); }

function level(voice, rms, peak) {
  stage.level(voice, peak);
  levels[voice] = rms;
  if (performance.now() - levelsShownMs >= LEVELS_EVERY_MS) showLevels();
}

function showLevels() {
  levelsShownMs = performance.now();
  for (const [voice, rms] of Object.entries(levels)) {
    const db = Math.max(-60, 20 * Math.log10(rms + 1e-6)), bar = $(`${voice}-level`);
    bar.firstElementChild.style.transform = `scaleX(${(db + 60) / 60})`;
    if (levelsShownMs - shownMs > 400) bar.setAttribute("aria-valuenow", Math.round(db));
  }
}

function figures() {
  const nowMs = performance.now();
  if (nowMs - shownMs < 500 || !talk) return;
  shownMs = nowMs;
  const sum = talk.meter.summary(), own = talk.figures;
  const put = (id, ms, digits = 0) => { $(id).textContent = Number.isFinite(ms) ? ms.toFixed(digits) : "–"; };
  put("added-p50", sum.addedP50);
  put("added-p95", sum.addedP95);
  put("step-p50", sum.computedP50);
  put("answer", sum.answer);
  put("buffer", own.bufferMs);
  put("round-trip", sum.roundTrip, 1);
  $("underruns").textContent = `${own.underruns}, ${Math.round(own.skippedMs)} ms`;
  $("dropped").textContent = `${Math.round((own.droppedFrames ?? 0) * 80)} ms`;
  $("added-p95").dataset.frames = sum.frames;
  $("clock").textContent = clock((nowMs - begunMs) / 1000);
  if (Number.isFinite(sum.answer))
    $("figures-line").textContent = `answers after ${sum.answer.toFixed(0)} ms · added ${sum.addedP50.toFixed(0)} ms`;
}

function setMuted(now) {
  muted = now;
  talk?.mute(now);
  $("mute").setAttribute("aria-pressed", now);
  $("mute").lastElementChild.textContent = now ? "Unmute" : "Mute";
  $("status").textContent = now ? "You are muted" : SAID.talking;
}

// Hold to talk: heard while pressed, muted after. Unmute gives the open microphone back.
function hold(pressed) {
  if (!talk?.ready) return;
  $("hold").setAttribute("aria-pressed", pressed);
  setMuted(!pressed);
  if (pressed) $("status").textContent = "Speak; let go when you are done";
}

function changed(id) {
  if (id === "theme") stage.colour();
  if (!talk?.ready) return;
  if (id === "speaker") talk.audio.useSpeaker($("speaker").value);
  if (["microphone", "echo", "noise"].includes(id))
    talk.audio.useMicrophone(settings.sound()).then(
      () => { if (talk) $("mic-facts").textContent = talk.audio.facts(); }, (error) => warn(explain(error)));
}

for (const id of ["talk", "leave"]) $(id).addEventListener("click", () => (talk ? talk.leave() : start()));
$("save").addEventListener("click", save);
$("mute").addEventListener("click", () => setMuted(!muted));
$("take-over").addEventListener("click", () => {
  talk?.hangUp();
  start({ takeover: "1" });
});
$("trust-reload").addEventListener("click", () => location.reload());
$("alert-close").addEventListener("click", () => {
  warn("");
  if (!talk) show("idle");
});
$("view").addEventListener("click", () => {
  stage.showsSpectrum = !stage.showsSpectrum;
  $("view").setAttribute("aria-pressed", stage.showsSpectrum);
  stage.draw();
});
$("hold").addEventListener("pointerdown", (event) => { $("hold").setPointerCapture(event.pointerId); hold(true); });
for (const end of ["pointerup", "pointercancel"]) $("hold").addEventListener(end, () => hold(false));
$("hold").addEventListener("contextmenu", (event) => event.preventDefault());

const typing = (event) => event.target.closest?.("input, select, textarea, dialog") || event.ctrlKey || event.metaKey || event.altKey;
const onButton = (event) => event.target.closest?.("button, a, summary") && event.target.id !== "hold";
addEventListener("keydown", (event) => {
  if (typing(event)) return;
  if (event.code === "Space" && !onButton(event) && talk?.ready) {
    event.preventDefault();
    if (!event.repeat) hold(true);
  } else if (event.key.toLowerCase() === "t" && !event.repeat) $("talk").click();
  else if (event.key.toLowerCase() === "m" && !event.repeat && !$("mute").disabled) $("mute").click();
  else if (event.key.toLowerCase() === "s" && !event.repeat && !$("save").hidden) save();
});
addEventListener("keyup", (event) => {
  if (event.code === "Space" && $("hold").getAttribute("aria-pressed") === "true") hold(false);
});
addEventListener("pagehide", () => {
  talk?.hangUp();
  last?.forget();
});

const problem = obstacle();
if (problem) {
  warn(problem);
  $("talk").disabled = true;
}
ask().then((status) => {
  if (!status) return;
  offerVoices(status);
  if (status.state === "loading") $("status").textContent = "The model is loading; you can press the button already";
  if (status.state === "failed") warn(FAILED);
});
