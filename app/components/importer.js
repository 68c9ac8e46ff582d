// The import field; see importer.py.
const drop = element.querySelector(".lens-drop");
const input = element.querySelector("input");
const hint = element.querySelector(".lens-hint");
const message = element.querySelector(".lens-message");
const HINT = hint.textContent;

function say(text) {
  message.textContent = text;
  message.hidden = !text;
}

async function take(file) {
  if (!file) return;
  say("");
  const size = file.size / 1048576;
  if (size > props.max_mib) {
    return say(`Expected a file of at most ${props.max_mib} MiB, got ${Math.round(size)} MiB; export fewer things at once.`);
  }
  hint.textContent = "Importing …";
  try {
    const { path } = await upload(file);
    const serial = ((props.value && props.value.serial) || 0) + 1;
    props.value = { file: { path, orig_name: file.name, meta: { _type: "gradio.FileData" } }, serial };
    trigger("upload");
  } catch (error) {
    hint.textContent = HINT;
    say("The file could not be sent to the server; check that it is running, then choose the file again.");
  }
}

input.addEventListener("change", () => {
  take(input.files[0]);
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
  take(event.dataTransfer.files[0]);
});
watch("value", () => {
  if (!props.value || !props.value.file) hint.textContent = HINT;
});
