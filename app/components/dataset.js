// The field for one's own data; see dataset.py. Both files may come at once or one after the other.
const drop = element.querySelector(".lens-data-drop");
const input = element.querySelector("input");
const hint = element.querySelector(".lens-hint");
const message = element.querySelector(".lens-message");
const HINT = hint.textContent;
let chosen = {};

function say(sentence) {
  message.textContent = sentence || "";
  message.hidden = !sentence;
}

function show(value) {
  if (!value || value.rows || value.text) return; // our own
  chosen = {};
  hint.textContent = HINT;
  say(value.message);
}

function take(files) {
  say("");
  for (const file of files) {
    const kind = /\.zip$/i.test(file.name) ? "images" : /\.jsonl?$/i.test(file.name) ? "rows" : props.texts && /\.txt$/i.test(file.name) ? "text" : null;
    const text = props.texts ? ", or a text file" : "";
    if (!kind) return say(`Expected a JSON or JSONL file and a ZIP${text}, got “${file.name}”; choose ${text ? "such" : "these two"}.`);
    if (file.size > props.max_mib * 1048576) {
      const size = Math.round(file.size / 1048576);
      return say(`Expected a file of at most ${props.max_mib} MiB, got ${size} MiB in “${file.name}”; split it.`);
    }
    chosen[kind] = file;
  }
  if (chosen.text) return send(["text"]);
  if (chosen.rows && chosen.images) return send(["rows", "images"]);
  if (chosen.rows) hint.textContent = `${chosen.rows.name} is here; now the ZIP of its images`;
  else if (chosen.images) hint.textContent = `${chosen.images.name} is here; now the JSON or JSONL file`;
}

async function send(kinds) {
  hint.textContent = kinds.length > 1 ? "Checking rows and images …" : "Checking prompts …";
  const asData = async (file) => {
    const { path } = await upload(file);
    return { path, orig_name: file.name, meta: { _type: "gradio.FileData" } };
  };
  try {
    const sent = { rows: null, images: null, text: null, message: null };
    for (const kind of kinds) sent[kind] = await asData(chosen[kind]);
    props.value = sent;
    trigger("upload");
  } catch (error) {
    chosen = {};
    hint.textContent = HINT;
    say("The files could not be sent to the server; check that it is running, then choose them again.");
  }
}

input.addEventListener("change", () => {
  take([...input.files]);
  input.value = "";
});
drop.addEventListener("dragover", (event) => {
  event.preventDefault();
  drop.classList.add("lens-over");
});
drop.addEventListener("dragleave", () => drop.classList.remove("lens-over"));
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  drop.classList.remove("lens-over");
  take([...event.dataTransfer.files]);
});
watch("value", () => show(props.value));
