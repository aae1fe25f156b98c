// One video: where it stands, and the video itself.

import { ApiError, apiKey, cancelVideo, videoEvents, videoFile } from "./api.js";
import { element, tell } from "./dom.js";
import { curl, python, save } from "./snippets.js";

const STAGES = ["text_encoder", "image_encoder", "vae_encoder", "denoiser", "vae_decoder"];
let shown = null; // ends the following of the job before

// Follows a video to its end; `body` is its request where this page sent it.
export async function showJob(video, body) {
  shown?.abort();
  const mine = (shown = new AbortController());
  reset(video, body);
  try {
    if (video.status === "completed" || video.status === "failed") return await finish(video, mine);
    for await (const { event, data } of videoEvents(video.id, mine.signal)) {
      if (mine.signal.aborted) return;
      if (event === "completed" || event === "failed") await finish(data, mine);
      else progress(event, data);
    }
  } catch (error) {
    if (!mine.signal.aborted) tell("job-error", describe(error));
  }
}

function reset(video, body) {
  element("job").hidden = false;
  element("job-title").textContent = `Video ${video.id}`;
  element("job-progress").value = video.progress;
  element("job-progress").hidden = false;
  for (const id of ["video", "download", "job-error"]) element(id).hidden = true;
  element("stages").replaceChildren();
  tell("job-status", video.status);
  element("cancel").hidden = false;
  element("cancel").onclick = () => cancelVideo(video.id).catch((error) => tell("job-error", describe(error)));
  const hasKey = apiKey.get() !== "";
  const origin = new URL(".", location.href).href;
  element("curl").textContent = curl(origin, hasKey);
  element("python").textContent = python(origin, hasKey);
  element("save-request").hidden = body === null;
  element("save-request").onclick = () => save("request.json", new Blob([JSON.stringify(body)]));
}

function progress(event, data) {
  if (event === "queued") {
    const wait = data.eta_seconds == null ? "" : `, about ${Math.ceil(data.eta_seconds)} s to go`;
    return tell("job-status", `Waiting, place ${data.queue_position ?? "?"} in the queue${wait}`);
  }
  const steps = data.total_steps ? `, step ${data.step} of ${data.total_steps}` : "";
  const eta = data.eta_seconds == null ? "" : `, about ${Math.ceil(data.eta_seconds)} s to go`;
  tell("job-status", `${data.stage}${steps}${eta}`);
  if (data.progress !== undefined) element("job-progress").value = data.progress;
  stages(data.stage);
}

function stages(now) {
  const at = STAGES.indexOf(now);
  element("stages").replaceChildren(
    ...STAGES.map((stage, index) => {
      const item = document.createElement("li");
      item.textContent = stage;
      item.className = index < at ? "done" : index === at ? "now" : "";
      return item;
    }),
  );
}

async function finish(video, mine) {
  element("cancel").hidden = true;
  element("job-progress").hidden = video.status !== "completed";
  element("stages").replaceChildren();
  if (video.status === "failed") {
    tell("job-status", "Failed");
    return tell("job-error", `${video.error.code}: ${video.error.message}`);
  }
  element("job-progress").value = 100;
  tell("job-status", `${video.size}, ${video.num_frames} frames, seed ${video.seed}`);
  const file = URL.createObjectURL(await videoFile(video.id));
  if (mine.signal.aborted) return URL.revokeObjectURL(file);
  mine.signal.addEventListener("abort", () => URL.revokeObjectURL(file));
  const player = element("video");
  player.src = file;
  player.hidden = false;
  player.play().catch(() => {}); // where a browser wants a click first, there is a button for it
  Object.assign(element("download"), { href: file, download: `${video.id}.mp4`, hidden: false });
}

const describe = (error) => (error instanceof ApiError && error.param ? `${error.param}: ${error.message}` : error.message);
