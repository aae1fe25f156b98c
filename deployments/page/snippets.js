// The request of this page as others would send it.

export function curl(origin, hasKey) {
  const key = hasKey ? ` \\\n  -H "authorization: Bearer $LINGBOT_API_KEY"` : "";
  return `curl ${origin}v1/videos${key} \\
  -H 'content-type: application/json' \\
  -d @request.json`;
}

export function python(origin, hasKey) {
  const key = hasKey ? `, headers={"authorization": f"Bearer {os.environ['LINGBOT_API_KEY']}"}` : "";
  return `import json
${hasKey ? "import os\n" : ""}import time

import httpx

with httpx.Client(base_url="${origin}"${key}, timeout=60) as client:
    with open("request.json") as file:
        video = client.post("v1/videos", json=json.load(file)).raise_for_status().json()
    while video["status"] in ("queued", "in_progress"):
        time.sleep(1)
        video = client.get(f"v1/videos/{video['id']}").json()
    print(video["status"], video["error"])
    if video["status"] == "completed":
        with open("video.mp4", "wb") as file:
            file.write(client.get(f"v1/videos/{video['id']}/content").content)`;
}

export function save(name, blob) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
