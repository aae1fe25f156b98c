// A request to begin with, of files that examples/make_inputs.py writes.

// Its picture as a file, and the form's fields by their ids.
export async function readExample() {
  const [picture, fields] = await Promise.all(["page/example.png", "page/example.json"].map((path) => fetch(path)));
  const image = new File([await picture.blob()], "example.png", { type: "image/png" });
  return { image, ...(await fields.json()) };
}
