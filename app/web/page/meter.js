// Latency figures over the last seconds, from the time stamps that messages and worklets carry.

const WINDOW_FRAMES = 250; // 20 s
export const BUILT_IN_MS = 160; // one 80 ms frame, and the 80 ms by which the model delays its voice

export function percentile(values, percent) {
  if (!values.length) return NaN;
  const ordered = [...values].sort((a, b) => a - b);
  return ordered[Math.min(ordered.length - 1, Math.floor((ordered.length * percent) / 100))];
}

export class LatencyMeter {
  constructor() {
    this.onTheWay = new Map(); // frame -> {arrivedMs, waitedMs, computedMs}
    this.added = [];
    this.computed = [];
    this.roundTrips = [];
    this.frames = 0;
  }

  arrived(frame, waitedMs, computedMs, nowMs) {
    this.onTheWay.set(frame, { nowMs, waitedMs, computedMs });
    if (this.onTheWay.size > 100) this.onTheWay.delete(this.onTheWay.keys().next().value);
  }

  roundTrip(ms) { this.keep(this.roundTrips, ms, 10); }

  roundTripMs() { return percentile(this.roundTrips, 50); }

  // One way back: half a round trip. Waited: at the server, in the pipeline, less the model's time.
  played(frame, soundsAtMs) {
    const message = this.onTheWay.get(frame);
    if (!message) return;
    this.onTheWay.delete(frame);
    const wayMs = (this.roundTripMs() || 0) / 2;
    this.keep(this.added, message.waitedMs + wayMs + soundsAtMs - message.nowMs, WINDOW_FRAMES);
    this.keep(this.computed, message.computedMs, WINDOW_FRAMES);
    this.frames++;
  }

  keep(values, value, most) {
    values.push(value);
    if (values.length > most) values.shift();
  }

  summary() {
    const addedP50 = percentile(this.added, 50), computedP50 = percentile(this.computed, 50);
    return {
      addedP50, addedP95: percentile(this.added, 95), computedP50,
      answer: BUILT_IN_MS + computedP50 + addedP50, frames: this.frames, roundTrip: this.roundTripMs(),
    };
  }
}
