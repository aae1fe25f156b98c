// The server's API, as far as this page needs it.

export class ApiError extends Error {
  constructor(status, error) {
    super(error.message);
    this.status = status;
    this.code = error.code;
    this.param = error.param;
  }
}

const KEY = "lingbot-api-key";
export const apiKey = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (key) => (key ? sessionStorage.setItem(KEY, key) : sessionStorage.removeItem(KEY)),
};

async function send(path, options = {}) {
  const headers = new Headers(options.headers);
  if (apiKey.get()) headers.set("authorization", `Bearer ${apiKey.get()}`);
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  let error;
  try {
    ({ error } = await response.json());
  } catch {
    error = { message: `${response.status} ${response.statusText}` }; // a proxy's answer
  }
  throw new ApiError(response.status, error);
}

export async function createVideo(body) {
  const headers = { "content-type": "application/json", "idempotency-key": randomName() };
  const response = await send("v1/videos", { method: "POST", headers, body: JSON.stringify(body) });
  return response.json();
}

export const getVideo = async (id) => (await send(`v1/videos/${id}`)).json();
export const cancelVideo = async (id) => (await send(`v1/videos/${id}/cancel`, { method: "POST" })).json();
export const recentVideos = async () => (await (await send("v1/videos?limit=10")).json()).data;
export const readiness = async () => (await fetch("readyz")).json();

// Through fetch rather than by its address: a <video> cannot send the key.
export const videoFile = async (id) => (await send(`v1/videos/${id}/content`)).blob();

// Yields {event, data} until the job is over. A stream that breaks or that the server ends is taken
// up again where it was; EventSource would do that too, but cannot send the key.
export async function* videoEvents(id, signal) {
  let last = "";
  for (;;) {
    try {
      const headers = { accept: "text/event-stream", ...(last && { "last-event-id": last }) };
      const response = await send(`v1/videos/${id}/events`, { headers, signal });
      for await (const message of messages(response.body)) {
        last = message.id ?? last;
        yield message;
        if (message.event === "completed" || message.event === "failed") return;
      }
    } catch (error) {
      if (signal.aborted || (error instanceof ApiError && error.status < 500 && error.status !== 429)) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, 1000));
    if (signal.aborted) return;
  }
}

async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      const message = parse(block);
      if (message.data) yield { ...message, data: JSON.parse(message.data) };
    }
  }
}

function parse(block) {
  const message = {};
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon > 0) message[line.slice(0, colon)] = line.slice(colon + 1).trimStart();
  }
  return message;
}

function randomName() {
  const bytes = crypto.getRandomValues(new Uint8Array(16)); // randomUUID exists under https only
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
