// Settings: kept in this browser; the ones for the next conversation become query parameters.

import { devices } from "./audio.js";

const KEPT = ["microphone", "speaker", "echo", "noise", "record", "theme", "seed-wish", "persona", "persona-voice", "adapter",
  "text_temperature", "text_top_k", "audio_temperature", "audio_top_k"];
const STORE = "moshi-settings";
const $ = (id) => document.getElementById(id);
const valueOf = (input) => (input.type === "checkbox" ? input.checked : input.value);

export class Settings {
  constructor(changed) {
    this.kept = read();
    $("speaker-row").hidden = !("setSinkId" in (window.AudioContext?.prototype ?? {}));
    for (const id of KEPT) {
      const input = $(id);
      if (id in this.kept) input[input.type === "checkbox" ? "checked" : "value"] = this.kept[id];
      input.addEventListener("change", () => {
        this.keep(id, valueOf(input));
        changed(id);
      });
    }
    $("open-settings").addEventListener("click", () => $("settings").showModal());
    $("settings").addEventListener("click", (event) => {
      if (event.target === $("settings")) $("settings").close(); // a click beside it
    });
    navigator.mediaDevices?.addEventListener?.("devicechange", () => this.listDevices());
    this.listDevices();
    this.paint();
  }

  keep(id, value) {
    this.kept[id] = value;
    try { localStorage.setItem(STORE, JSON.stringify(this.kept)); } catch { /* a private window */ }
    if (id === "theme") this.paint();
  }

  paint() {
    const theme = $("theme").value;
    if (theme) document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  }

  // Names are known only once the microphone was allowed.
  async listDevices() {
    const { microphones, speakers } = await devices();
    for (const [id, list] of [["microphone", microphones], ["speaker", speakers]]) {
      const select = $(id), wanted = this.kept[id] ?? "";
      select.length = 1;
      for (const device of list) if (device.deviceId !== "default") select.add(new Option(device.label, device.deviceId));
      select.value = wanted;
      if (select.selectedIndex < 0) select.value = "";
    }
  }

  // Only a model that takes a persona is asked for one; its voices have names.
  offer({ personas, voices, adapters }) {
    $("who").hidden = !personas;
    $("adapters").hidden = !adapters?.length;
    for (const [id, names] of [["persona-voice", voices], ["adapter", adapters]]) {
      const select = $(id);
      select.length = 1;
      for (const name of names ?? []) select.add(new Option(name, name));
      select.value = this.kept[id] ?? "";
      if (select.selectedIndex < 0) select.value = "";
    }
  }

  sound() {
    return { microphone: $("microphone").value, speaker: $("speaker").value,
      echo: $("echo").checked, noise: $("noise").checked };
  }

  query() {
    const query = {};
    for (const id of KEPT.slice(-4)) if ($(id).value !== "" && $(id).validity.valid) query[id] = $(id).value;
    if ($("seed-wish").value !== "" && $("seed-wish").validity.valid) query.seed = $("seed-wish").value;
    if ($("record").checked) query.record = "1";
    if (!$("who").hidden && $("persona").value.trim() !== "") query.persona = $("persona").value.trim();
    if (!$("who").hidden && $("persona-voice").value !== "") query.voice = $("persona-voice").value;
    if (!$("adapters").hidden && $("adapter").value !== "") query.adapter = $("adapter").value;
    return query;
  }
}

function read() {
  try { return JSON.parse(localStorage.getItem(STORE)) ?? {}; } catch { return {}; }
}
