// The picture of both voices: Moshi above the line, you below; bars, or a spectrogram.

const COLUMN_PX = 5, COLUMN_S = 0.05; // bars: 100 pixels a second
const SPECTRUM_PX_PER_S = 90, TOP_HZ = 6000;
const SILENT_DB = -50; // what is softer has no bar

export class Stage {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.spectrum = document.createElement("canvas");
    this.showsSpectrum = false;
    this.still = matchMedia("(prefers-reduced-motion: reduce)");
    new ResizeObserver(() => this.resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.colour());
    this.clear();
    this.colour();
    this.resize();
  }

  clear() {
    this.columns = []; // {moshi, you} peaks, newest last
    this.now = { moshi: 0, you: 0 };
    this.begunMs = performance.now();
    this.drawnMs = this.paintedMs = this.begunMs;
    this.spectrum.getContext("2d")?.clearRect(0, 0, this.spectrum.width, this.spectrum.height);
  }

  colour() {
    const style = getComputedStyle(document.documentElement);
    this.colours = Object.fromEntries(["moshi", "you", "line", "dim"].map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
    this.shades = { moshi: shades(this.colours.moshi), you: shades(this.colours.you) };
    this.draw();
  }

  resize() {
    this.ratio = Math.min(2, devicePixelRatio || 1);
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.canvas.width = this.spectrum.width = Math.max(1, this.width * this.ratio);
    this.canvas.height = this.spectrum.height = Math.max(1, this.height * this.ratio);
    this.draw();
  }

  level(voice, peak) { this.now[voice] = Math.max(this.now[voice], peak); }

  run(analysers) {
    this.analysers = analysers;
    this.running = true;
    this.clear();
    const turn = (nowMs) => {
      if (!this.running) return;
      this.advance(nowMs);
      if (this.moves()) requestAnimationFrame(turn);
      else setTimeout(() => requestAnimationFrame(turn), 1000 * COLUMN_S - (nowMs - this.begunMs) % (1000 * COLUMN_S));
    };
    requestAnimationFrame(turn);
  }

  stop() {
    this.running = false;
    this.draw();
  }

  advance(nowMs) {
    const due = Math.floor((nowMs - this.begunMs) / (1000 * COLUMN_S)) - Math.floor((this.drawnMs - this.begunMs) / (1000 * COLUMN_S));
    for (let i = 0; i < Math.min(due, 400); i++) {
      this.columns.push({ ...this.now });
      this.now = { moshi: 0, you: 0 };
    }
    const most = Math.ceil(this.width / COLUMN_PX) + 2;
    if (this.columns.length > most) this.columns.splice(0, this.columns.length - most);
    if (due || this.showsSpectrum) {
      this.scrollSpectrum((nowMs - this.paintedMs) / 1000);
      this.paintedMs = nowMs;
    }
    this.drawnMs = nowMs;
    this.draw((nowMs - this.begunMs) / (1000 * COLUMN_S) % 1);
  }

  // Whether the picture changes between two columns: not where nothing is in it, or motion is unwanted.
  moves() {
    if (this.still.matches) return false;
    return this.showsSpectrum || this.columns.some(({ moshi, you }) => loudness(Math.max(moshi, you)) > 0);
  }

  draw(part = 0) {
    const draw = this.context, { width, height, ratio } = this;
    draw.setTransform(ratio, 0, 0, ratio, 0, 0);
    draw.clearRect(0, 0, width, height);
    const middle = Math.round(height / 2);
    draw.fillStyle = this.colours.line;
    draw.fillRect(0, middle, width, 1);
    if (this.showsSpectrum) draw.drawImage(this.spectrum, 0, 0, width, height);
    else this.drawBars(middle, this.still.matches ? 0 : part);
  }

  drawBars(middle, part) {
    const draw = this.context;
    draw.lineWidth = 3;
    draw.lineCap = "round";
    for (const [voice, side] of [["moshi", -1], ["you", 1]]) {
      draw.strokeStyle = this.colours[voice];
      draw.beginPath();
      this.columns.forEach((column, index) => {
        const x = this.width - (this.columns.length - index - 1 + part) * COLUMN_PX - 4;
        const tall = loudness(column[voice]) * (middle - 10);
        if (tall < 0.5) return;
        draw.moveTo(x, middle + side * 5);
        draw.lineTo(x, middle + side * (5 + tall));
      });
      draw.stroke();
    }
  }

  // Move the picture left by what has passed and paint the new columns: low tones at the line.
  scrollSpectrum(seconds) {
    this.owed = (this.owed ?? 0) + seconds * SPECTRUM_PX_PER_S * this.ratio;
    const step = Math.floor(this.owed), { width, height } = this.spectrum;
    if (step < 1 || !this.analysers) return;
    this.owed -= step;
    const draw = this.spectrum.getContext("2d"), middle = height / 2;
    draw.globalCompositeOperation = "copy";
    draw.drawImage(this.spectrum, -step, 0);
    draw.globalCompositeOperation = "source-over";
    for (const [voice, side] of [["moshi", -1], ["you", 1]]) {
      const analyser = this.analysers[voice], bins = new Uint8Array(analyser.frequencyBinCount);
      analyser.getByteFrequencyData(bins);
      const hz = analyser.context.sampleRate / 2 / bins.length;
      for (let y = 0; y < middle; y += 2) {
        const tone = mel(y / middle) / hz, level = bins[Math.min(bins.length - 1, Math.round(tone))];
        if (level < 12) continue;
        draw.fillStyle = this.shades[voice][level >> 3];
        draw.fillRect(width - step, side < 0 ? middle - y - 2 : middle + y, step, 2);
      }
    }
  }
}

function mel(part) { // 0..1 -> Hz, evenly spaced to the ear
  const top = Math.log1p(TOP_HZ / 700);
  return 700 * Math.expm1(part * top);
}

function loudness(peak) { // 0..1
  return Math.max(0, Math.min(1, 1 - 20 * Math.log10(peak + 1e-6) / SILENT_DB)) ** 1.3;
}

function shades(colour) {
  return Array.from({ length: 32 }, (_, n) => `color-mix(in srgb, ${colour} ${Math.round(100 * (n / 31) ** 1.2)}%, transparent)`);
}
