// The live transcript: Moshi's words as they come, and a small picture of each thing you said (Moshi doesn't transcribe
// its listener), or your words in its place, where another model writes them down: they come later than they were said.

const PAUSE_S = 1.2; // silence after which Moshi's next word opens a new paragraph
const SPEECH_RMS = 0.006, START_BLOCKS = 5, END_BLOCKS = 30, BLOCK_S = 0.02;
const BARS = 40;
const EARLY_S = 1.0; // a word may begin so much before its speech was noticed
const SPOKEN_KEPT = 4; // turns of yours that late words still find

export function clock(seconds) {
  return `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
}

export class Transcript {
  constructor(box) {
    this.box = box;
    this.clear();
  }

  clear() {
    this.box.querySelectorAll(".turn").forEach((turn) => turn.remove());
    this.open = null; // Moshi's paragraph
    this.lastWordS = -Infinity;
    this.levels = [];
    this.loud = 0;
    this.quiet = 0;
    this.noise = 0.002;
    this.spoken = []; // {turn, sinceS, words}: the last times that you spoke
  }

  add(kind, atS) {
    const nearEnd = this.nearEnd();
    const turn = document.createElement("div");
    turn.className = `turn ${kind}`;
    if (atS !== undefined) {
      const time = document.createElement("time");
      time.textContent = clock(atS);
      turn.append(time);
    }
    this.box.append(turn);
    this.follow(nearEnd);
    return turn;
  }

  follow(wanted = this.nearEnd()) {
    if (wanted) this.box.scrollTop = this.box.scrollHeight;
  }

  word(piece, atS) {
    if (!this.open || atS - this.lastWordS > PAUSE_S) {
      const turn = this.add("moshi", atS);
      this.open = turn.appendChild(document.createElement("span"));
      piece = piece.trimStart();
    }
    this.lastWordS = atS;
    const nearEnd = this.nearEnd();
    this.open.textContent += piece;
    this.follow(nearEnd);
  }

  note(text) { this.add("note").textContent = text; }

  // One 20 ms block of the microphone; draws a turn when you have said something.
  heard(rms, atS) {
    this.noise += rms > this.noise ? this.noise * 0.004 : (rms - this.noise) * 0.2;
    const speech = rms > Math.max(SPEECH_RMS, 4 * this.noise);
    this.loud = speech ? this.loud + 1 : Math.max(0, this.loud - 0.5);
    this.quiet = speech ? 0 : this.quiet + 1;
    if (!this.you && this.loud >= START_BLOCKS) this.begin(atS);
    if (!this.you) return;
    this.levels.push(rms);
    if (this.quiet >= END_BLOCKS || this.levels.length > 3000) this.end();
  }

  begin(atS) {
    this.open = null; // Moshi's answer is a new paragraph
    this.you = this.add("you", atS - START_BLOCKS * BLOCK_S);
    this.you.append("You are speaking");
    this.levels = [];
    this.spoken = [...this.spoken, { turn: this.you, sinceS: atS, words: null }].slice(-SPOKEN_KEPT);
  }

  // A word of yours: under the last time that you spoke before it, or a turn of its own.
  yourWord(text, atS) {
    let spoken = this.spoken.findLast(({ sinceS }) => sinceS <= atS + EARLY_S);
    if (!spoken) { // before all that is known of
      this.open = null;
      spoken = { turn: this.add("you", atS), sinceS: atS, words: null };
      this.spoken[0]?.turn.before(spoken.turn);
      this.spoken.unshift(spoken);
    }
    const nearEnd = this.nearEnd();
    if (!spoken.words) {
      const heading = document.createElement("span");
      heading.className = "name";
      heading.textContent = "You";
      spoken.words = document.createElement("p");
      spoken.turn.replaceChildren(...spoken.turn.querySelectorAll("time"), heading, spoken.words);
      spoken.turn.classList.add("said");
      spoken.turn.removeAttribute("aria-label");
    }
    spoken.words.textContent += spoken.words.textContent ? ` ${text}` : text;
    this.follow(nearEnd);
  }

  nearEnd() { return this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 80; }

  end() {
    const spoken = this.levels.slice(0, Math.max(1, this.levels.length - this.quiet));
    const seconds = (spoken.length * BLOCK_S).toFixed(1);
    if (!this.you.classList.contains("said")) {
      this.you.lastChild.remove();
      this.you.append(picture(spoken), `${seconds} s`);
      this.you.setAttribute("aria-label", `You spoke for ${seconds} seconds`);
    }
    this.you = null;
    this.loud = 0;
    this.follow();
  }

  finish() { if (this.you) this.end(); }
}

// Levels -> an SVG of at most BARS bars.
function picture(levels) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const bars = Math.max(3, Math.min(BARS, Math.round(levels.length / 4)));
  svg.setAttribute("viewBox", `0 0 ${bars * 4} 22`);
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(svg.namespaceURI, "path");
  let d = "";
  for (let bar = 0; bar < bars; bar++) {
    const from = Math.floor((bar * levels.length) / bars), to = Math.floor(((bar + 1) * levels.length) / bars);
    const loudest = Math.max(0.001, ...levels.slice(from, Math.max(from + 1, to)));
    const height = Math.max(0.5, Math.min(10, (20 * Math.log10(loudest) + 50) / 4));
    d += `M${bar * 4 + 2} ${11 - height}v${2 * height}`;
  }
  path.setAttribute("d", d);
  svg.append(path);
  return svg;
}
