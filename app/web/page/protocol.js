// Messages of `/api/chat?codec=pcm`: one byte of type, then the payload (see app/web/protocol.py).

export const HANDSHAKE = 0, TEXT = 2, METADATA = 4, ERROR = 5, PING = 6, PCM = 16;
export const CLOSE_FAILED = 4500;
const PCM_HEADER_BYTES = 12;
const decoder = new TextDecoder();

export const SAVE = new TextEncoder().encode('\x04{"type":"save"}'); // the server compares them to the byte
export const HANG_UP = new TextEncoder().encode('\x04{"type":"hang-up"}');

export function pcmMessage(pcm) { // ArrayBuffer of int16 -> message
  const message = new Uint8Array(1 + pcm.byteLength);
  message[0] = PCM;
  message.set(new Uint8Array(pcm), 1);
  return message;
}

export function pingMessage(now) {
  const message = new DataView(new ArrayBuffer(9));
  message.setUint8(0, PING);
  message.setFloat64(1, now, true);
  return message.buffer;
}

// ArrayBuffer -> {kind, ...}; unknown kinds come without anything else and are to be ignored
export function parse(buffer) {
  const view = new DataView(buffer), kind = view.getUint8(0);
  const rest = () => decoder.decode(new Uint8Array(buffer, 1));
  if (kind === TEXT || kind === ERROR) return { kind, text: rest() };
  if (kind === METADATA) return { kind, data: JSON.parse(rest()) };
  if (kind === PING) return { kind, sentMs: view.getFloat64(1, true) };
  if (kind !== PCM) return { kind };
  return {
    kind,
    frame: view.getUint32(1, true),
    waitedMs: view.getFloat32(5, true),
    computedMs: view.getFloat32(9, true),
    pcm: new Int16Array(buffer.slice(1 + PCM_HEADER_BYTES)),
  };
}

export function chatUrl(options) {
  const url = new URL("/api/chat", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams({ codec: "pcm", ...options });
  return url;
}
