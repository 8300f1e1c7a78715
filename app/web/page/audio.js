// The microphone and the speaker of this browser, behind two worklet nodes.

// Why there can be no talk here, or "" if there can.
export function obstacle() {
  if (!window.isSecureContext || !navigator.mediaDevices)
    return "Browsers give the microphone only to pages that come over https, and this one came over http. Ask whoever "
      + "runs Moshi for its https address; on the computer that runs it, localhost works too.";
  if (!window.AudioWorkletNode) return "This browser is too old to talk with Moshi. A newer one, or another, will do.";
  return "";
}

const REASONS = {
  NotAllowedError: "The microphone is not allowed. Allow it in the address bar, and for the browser in the "
    + "system's privacy settings, then press the button again.",
  NotFoundError: "No microphone was found. Plug one in, then press the button again.",
  NotReadableError: "The microphone can't be opened; another program may hold it.",
  OverconstrainedError: "The chosen microphone is gone. Choose another in the settings.",
};

export function explain(error) { return REASONS[error.name] ?? `${error.name}: ${error.message}`; }

export class Audio {
  // Call in a click: browsers let sound begin there only.
  constructor() {
    this.context = new AudioContext({ latencyHint: "interactive" });
    this.context.resume();
  }

  async open({ microphone, speaker, echo, noise }) {
    const wish = { channelCount: 1, echoCancellation: echo, noiseSuppression: noise, autoGainControl: false };
    if (microphone) wish.deviceId = { exact: microphone };
    const ready = this.context.audioWorklet.addModule("/voices-worklet.js");
    this.stream = await navigator.mediaDevices.getUserMedia({ audio: wish });
    await ready;
    await this.useSpeaker(speaker);
    this.capture = new AudioWorkletNode(this.context, "moshi-capture", { numberOfOutputs: 0, channelCount: 1,
      channelCountMode: "explicit" });
    this.playback = new AudioWorkletNode(this.context, "moshi-playback", { numberOfInputs: 0, outputChannelCount: [1] });
    this.source = this.context.createMediaStreamSource(this.stream);
    this.ears = this.analyser();
    this.voice = this.analyser();
    this.source.connect(this.capture);
    this.source.connect(this.ears);
    this.playback.connect(this.voice);
    this.playback.connect(this.context.destination);
  }

  // Tells when the system stops the sound, as iOS does for a call, and when it is back. Sound that was
  // taken away may begin again only once the page is looked at or touched.
  watch(told) {
    const { context } = this;
    const resume = () => {
      if (context.state !== "running" && context.state !== "closed") context.resume().catch(() => {});
    };
    let stopped = false;
    context.addEventListener("statechange", () => {
      const is = context.state !== "running";
      if (is !== stopped && context.state !== "closed") told(stopped = is);
    });
    this.watching = new AbortController();
    const { signal } = this.watching;
    for (const event of ["pointerup", "keyup"]) window.addEventListener(event, resume, { signal });
    document.addEventListener("visibilitychange", () => document.hidden || resume(), { signal });
  }

  analyser() {
    return new AnalyserNode(this.context, { fftSize: 2048, smoothingTimeConstant: 0.4, minDecibels: -95, maxDecibels: -25 });
  }

  // The page's other devices, while the talk goes on.
  async useMicrophone({ microphone, echo, noise }) {
    const wish = { channelCount: 1, echoCancellation: echo, noiseSuppression: noise, autoGainControl: false };
    if (microphone) wish.deviceId = { exact: microphone };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: wish });
    this.source.disconnect();
    this.stream.getTracks().forEach((track) => track.stop());
    this.stream = stream;
    this.source = this.context.createMediaStreamSource(stream);
    this.source.connect(this.capture);
    this.source.connect(this.ears);
  }

  async useSpeaker(speaker) {
    if (this.context.setSinkId) await this.context.setSinkId(speaker || "").catch(() => {});
  }

  // When a sample rendered at context time `atS` sounds, on the clock of performance.now().
  soundsAtMs(atS) {
    const stamp = this.context.getOutputTimestamp?.();
    if (stamp?.performanceTime > 0) return stamp.performanceTime + (atS - stamp.contextTime) * 1000;
    const behind = this.context.outputLatency || this.context.baseLatency || 0;
    return performance.now() + (atS - this.context.currentTime + behind) * 1000;
  }

  facts() {
    const is = this.stream.getAudioTracks()[0]?.getSettings() ?? {};
    const on = [["echoCancellation", "echo cancelled"], ["noiseSuppression", "noise suppressed"]];
    return [`${Math.round(this.context.sampleRate / 100) / 10} kHz`,
      ...on.filter(([key]) => is[key]).map(([, said]) => said)].join(", ");
  }

  close() {
    this.watching?.abort();
    this.stream?.getTracks().forEach((track) => track.stop());
    if (this.context.state !== "closed") this.context.close();
  }
}

export async function devices() {
  const all = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  const named = (kind) => all.filter((device) => device.kind === kind && device.deviceId && device.label);
  return { microphones: named("audioinput"), speakers: named("audiooutput") };
}
