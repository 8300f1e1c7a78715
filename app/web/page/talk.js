// One conversation: microphone -> socket -> speaker. Tells the page what happens through `on`.

import { Audio } from "./audio.js";
import { LatencyMeter } from "./meter.js";
import * as wire from "./protocol.js";
import { UNANSWERED } from "./said.js";

const FRAME_S = 0.08, BLOCK_S = 0.02, PING_EVERY_MS = 1000;
const SAVE_MS = 60000; // the longest that a disk may take
const LAST_WORDS_MS = 3000; // the server closes after one second
const MOST_UNSENT_BYTES = 48000; // a second of sound: older is useless to the model

export class Talk {
  constructor(on) {
    this.on = on; // {waiting, started, word, yourWord, saved, level, heard, figures, notice, silenced, ended}
    this.audio = new Audio();
    this.meter = new LatencyMeter();
    this.figures = { underruns: 0, skippedMs: 0, bufferMs: 0, unsent: 0 };
    this.atS = 0; // Moshi's time: frames so far
    this.spokenS = 0; // yours
    this.muted = false;
    this.over = false;
  }

  async start(sound, query) {
    await this.audio.open(sound);
    if (this.over) return this.audio.close();
    this.audio.watch(this.on.silenced);
    this.audio.capture.port.onmessage = ({ data }) => this.fromMicrophone(data);
    this.audio.playback.port.onmessage = ({ data }) => this.fromSpeaker(data);
    this.socket = new WebSocket(wire.chatUrl(query));
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => this.receive(wire.parse(data));
    this.socket.onopen = () => (this.connected = true);
    this.socket.onclose = ({ code, reason }) => this.end(code, this.lastError ?? reason);
  }

  receive(message) {
    const nowMs = performance.now();
    if (message.kind === wire.PCM) {
      this.atS = (message.frame + 1) * FRAME_S;
      this.meter.arrived(message.frame, message.waitedMs, message.computedMs, nowMs);
      this.audio.playback.port.postMessage({ pcm: message.pcm, frame: message.frame }, [message.pcm.buffer]);
    } else if (message.kind === wire.TEXT) {
      this.on.word(message.text, this.atS);
    } else if (message.kind === wire.METADATA) {
      this.tell(message.data);
    } else if (message.kind === wire.PING) {
      this.meter.roundTrip(nowMs - message.sentMs);
    } else if (message.kind === wire.ERROR) {
      this.lastError = message.text;
    }
  }

  tell(data) {
    if (data.type === "started") {
      this.ready = true; // what is sent before isn't heard
      this.pings = setInterval(() => this.ping(), PING_EVERY_MS);
      this.ping();
      this.on.started(data);
    } else if (data.type === "waiting") {
      this.on.waiting(data);
    } else if (data.type === "status") {
      this.figures.stepMs = data.step_ms_p50;
      this.figures.droppedFrames = data.dropped_frames;
    } else if (data.type === "your-word") {
      this.on.yourWord(data.text, data.at_s);
    } else if (data.type === "saved" || data.type === "not-saved") {
      clearTimeout(this.saving);
      this.saving = null;
      this.on.saved(data);
      if (this.leaving) this.hangUp();
    } else if (data.type === "notice") {
      this.on.notice(data.message);
    }
  }

  // The talk as it is now; false where it is being saved already. Who hangs up meanwhile is told first what it is called.
  save() {
    if (!this.ready || this.saving || this.socket.readyState !== WebSocket.OPEN) return false;
    this.saving = setTimeout(() => this.tell({ type: "not-saved", message: UNANSWERED }), SAVE_MS);
    this.socket.send(wire.SAVE);
    return true;
  }

  // After what is being saved.
  leave() {
    if (!this.saving) return this.hangUp();
    this.leaving = true;
  }

  ping() {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(wire.pingMessage(performance.now()));
  }

  fromMicrophone({ pcm, rms, peak }) {
    this.on.level("you", rms, peak);
    if (!this.ready || this.socket.readyState !== WebSocket.OPEN) return;
    this.spokenS += BLOCK_S;
    this.on.heard(rms, this.spokenS);
    if (this.socket.bufferedAmount > MOST_UNSENT_BYTES) this.figures.unsent++;
    else this.socket.send(wire.pcmMessage(pcm));
  }

  fromSpeaker(data) {
    if (data.played !== undefined) {
      this.meter.played(data.played, this.audio.soundsAtMs(data.atS));
      return;
    }
    this.on.level("moshi", data.rms, data.peak);
    Object.assign(this.figures, { underruns: data.underruns, skippedMs: data.skippedMs, bufferMs: data.bufferMs });
    this.on.figures();
  }

  mute(muted) {
    this.muted = muted;
    this.audio.capture?.port.postMessage({ muted });
  }

  // The talk is over at once; words of yours that are still on their way come until the server closes.
  hangUp() {
    const waits = !this.over && this.ready && this.socket.readyState === WebSocket.OPEN;
    if (waits) this.socket.send(wire.HANG_UP);
    this.end(1000, "", waits);
  }

  lastWord({ kind, data }) {
    if (kind === wire.METADATA && data.type === "your-word") this.on.yourWord(data.text, data.at_s);
  }

  // Another talk begins, or the page goes: nothing of this one is shown any more.
  forget() {
    clearTimeout(this.closing);
    if (!this.socket) return;
    this.socket.onmessage = null;
    this.socket.close();
  }

  end(code, why, waits = false) {
    if (this.over) return;
    this.over = true;
    clearInterval(this.pings);
    clearTimeout(this.saving);
    if (this.socket) {
      this.socket.onopen = this.socket.onclose = null;
      this.socket.onmessage = ({ data }) => this.lastWord(wire.parse(data));
    }
    if (waits) this.closing = setTimeout(() => this.forget(), LAST_WORDS_MS);
    else this.forget();
    this.audio.close();
    this.on.ended(code, why);
  }
}
