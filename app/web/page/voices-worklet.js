// Capture and playback on the audio thread: resampling, muting, and a small adaptive jitter buffer.
// Plain script without imports, since not every browser loads modules into worklets.

const WIRE_RATE_HZ = 24000;
const BLOCK = 480; // samples sent at once: 20 ms
const PHASES = 128; // kernel entries between two samples
const LOBES = 12; // zero crossings of the kernel on each side
const RAMP = 64; // samples over which sound is faded in and out

// A ring read at another rate through a windowed sinc; `step` is input samples per output sample.
class SincRing {
  constructor(inRateHz, outRateHz, size = 1 << 18) {
    const scale = Math.min(1, outRateHz / inRateHz) * 0.94;
    this.half = Math.ceil(LOBES / scale);
    this.step = inRateHz / outRateHz;
    this.ring = new Float32Array(size);
    this.mask = size - 1;
    this.kernel = new Float32Array(this.half * PHASES + 2);
    for (let i = 0; i <= this.half * PHASES; i++) {
      const t = i / PHASES, x = Math.PI * t * scale;
      const window = Math.cos(Math.PI * t / (2 * this.half)) ** 2;
      this.kernel[i] = scale * window * (x ? Math.sin(x) / x : 1);
    }
    this.written = this.half; // silence before the first sample, so that it is read at once
    this.at = 0;
  }

  write(samples) {
    for (let i = 0; i < samples.length; i++) this.ring[this.written++ & this.mask] = samples[i];
  }

  // input samples that can be read before more is needed
  left() { return this.written - this.half - this.at; }

  ahead(samples) { return this.ring[(Math.floor(this.at) + samples) & this.mask]; }

  read(speed = 1) {
    const base = Math.floor(this.at), offset = this.at - base;
    let sum = 0;
    for (let i = -this.half + 1; i <= this.half; i++) {
      const place = Math.abs(i - offset) * PHASES, entry = place | 0, part = place - entry;
      if (entry >= this.half * PHASES) continue;
      const weight = this.kernel[entry] * (1 - part) + this.kernel[entry + 1] * part;
      sum += weight * this.ring[(base + i) & this.mask];
    }
    this.at += this.step * speed;
    return sum;
  }
}

class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new SincRing(sampleRate, WIRE_RATE_HZ, 1 << 14);
    this.silence = new Float32Array(128);
    this.gain = 1;
    this.muted = false;
    this.begin();
    this.port.onmessage = ({ data }) => {
      if (data.muted !== undefined) this.muted = data.muted;
    };
  }

  begin() {
    this.block = new Int16Array(BLOCK);
    this.filled = 0;
    this.power = 0;
    this.peak = 0;
  }

  process(inputs) {
    this.resampler.write(inputs[0]?.[0] ?? this.silence); // no microphone: the talk goes on in silence
    while (this.resampler.left() >= 1) this.take(this.resampler.read());
    return true;
  }

  take(sample) {
    const target = this.muted ? 0 : 1;
    this.gain += Math.max(-1 / RAMP, Math.min(1 / RAMP, target - this.gain));
    sample = Math.max(-1, Math.min(1, sample * this.gain));
    this.power += sample * sample;
    this.peak = Math.max(this.peak, Math.abs(sample));
    this.block[this.filled++] = Math.round(sample * 32767);
    if (this.filled === BLOCK) {
      const rms = Math.sqrt(this.power / BLOCK);
      this.port.postMessage({ pcm: this.block.buffer, rms, peak: this.peak }, [this.block.buffer]);
      this.begin();
    }
  }
}

// Plays frames as they come. The buffer is as deep as the measured jitter asks for: deeper after a
// short underrun, shallower in quiet times. Excess is left out where Moshi is silent, or melts by playing
// up to 1 % faster; only a great excess is cut out of speech.
const MIN_MARGIN_MS = 8, MAX_MARGIN_MS = 80;
const STALL_MS = 80; // later than this is a stall, which no buffer should be deep enough for
const TOLERANCE_MS = 4, CUT_MS = 160, WINDOW_FRAMES = 16;
const QUIET = 0.004, QUIET_SAMPLES = 600; // -48 dBFS for 25 ms

class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.ring = new SincRing(WIRE_RATE_HZ, sampleRate);
    this.marginMs = 12;
    this.underruns = 0;
    this.skippedMs = 0;
    this.playing = false;
    this.waiting = 0; // input samples of silence before a start
    this.gain = 0;
    this.speed = 1;
    this.excess = 0; // samples in the buffer that jitter doesn't need
    this.cut = false; // fading out to skip them
    this.quiet = 0; // samples since the last loud one
    this.marks = []; // [position, frame]: whose first sample is where
    this.dryS = 0;
    this.listen();
    this.measure();
    this.port.onmessage = ({ data }) => this.arrive(data);
  }

  ms(samples) { return samples * 1000 / WIRE_RATE_HZ; }

  listen() {
    this.lowMs = Infinity; // least left in the buffer when a frame came
    this.count = 0;
  }

  measure() {
    this.power = 0;
    this.peak = 0;
    this.samples = 0;
  }

  arrive({ pcm, frame }) {
    if (this.playing) {
      this.lowMs = Math.min(this.lowMs, this.ms(Math.max(0, this.ring.left())));
      if (++this.count >= WINDOW_FRAMES) this.adapt();
    } else {
      this.restart();
    }
    this.marks.push([this.ring.written, frame]);
    const samples = new Float32Array(pcm.length);
    for (let i = 0; i < pcm.length; i++) samples[i] = pcm[i] / 32768;
    this.ring.write(samples);
  }

  restart() {
    const lateMs = (currentTime - this.dryS) * 1000;
    if (this.underruns && lateMs < STALL_MS) this.marginMs = Math.min(MAX_MARGIN_MS, this.marginMs + Math.min(lateMs, 20) + 2);
    this.playing = true;
    this.waiting = this.marginMs * WIRE_RATE_HZ / 1000;
  }

  adapt() {
    const excessMs = this.lowMs - this.marginMs;
    this.excess = excessMs > TOLERANCE_MS ? excessMs * WIRE_RATE_HZ / 1000 : 0;
    this.cut = excessMs > CUT_MS;
    this.speed = 1 + Math.max(-0.005, Math.min(0.01, Math.abs(excessMs) > TOLERANCE_MS ? excessMs / 2000 : 0));
    this.marginMs = Math.max(MIN_MARGIN_MS, this.marginMs * 0.97);
    this.listen();
  }

  process(_, outputs) {
    const out = outputs[0][0];
    for (let i = 0; i < out.length; i++) out[i] = this.next(i);
    this.samples += out.length;
    if (this.samples >= sampleRate / 50) this.report();
    return true;
  }

  next(i) {
    if (!this.playing) return 0;
    if (this.waiting > 0) {
      this.waiting -= this.ring.step;
      return 0;
    }
    const left = this.ring.left();
    if (left < 1) return this.underrun();
    const target = left > RAMP && !this.cut ? 1 : 0; // fade out before the data ends
    this.gain += Math.max(-1 / RAMP, Math.min(1 / RAMP, target - this.gain));
    if (this.excess > 0 && (this.quiet > QUIET_SAMPLES || (this.cut && this.gain <= 0))) this.skip();
    while (this.marks.length && this.ring.at >= this.marks[0][0]) {
      const [, frame] = this.marks.shift();
      this.port.postMessage({ played: frame, atS: currentTime + i / sampleRate });
    }
    const sample = this.ring.read(this.speed) * this.gain;
    this.quiet = Math.abs(sample) < QUIET ? this.quiet + 1 : 0;
    this.power += sample * sample;
    this.peak = Math.max(this.peak, Math.abs(sample));
    return sample;
  }

  underrun() { // ran dry: start again when the next frame comes
    this.playing = false;
    this.gain = 0;
    this.speed = 1;
    this.excess = 0;
    this.cut = false;
    this.underruns++;
    this.dryS = currentTime;
    this.listen();
    return 0;
  }

  skip() { // leave out the excess; in silence only as far as the silence goes
    const most = Math.min(this.excess, this.ring.left() - 2 * RAMP);
    let skipped = 0;
    while (skipped < most && (this.cut || Math.abs(this.ring.ahead(skipped)) < QUIET)) skipped++;
    this.ring.at += skipped;
    this.excess = this.cut || skipped >= most ? 0 : this.excess - skipped;
    if (!this.excess) this.speed = 1;
    this.cut = false;
    this.quiet = 0;
    this.skippedMs += this.ms(skipped);
    this.listen();
  }

  report() {
    this.port.postMessage({
      rms: Math.sqrt(this.power / this.samples), peak: this.peak, underruns: this.underruns, skippedMs: this.skippedMs,
      bufferMs: this.playing ? this.ms(Math.max(0, this.ring.left())) : 0,
    });
    this.measure();
  }
}

registerProcessor("moshi-capture", Capture);
registerProcessor("moshi-playback", Playback);
