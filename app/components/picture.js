// The picture field. Its value is a PictureChoice (picture.py); every change replaces the whole value.
const drop = element.querySelector(".lens-drop");
const input = element.querySelector(".lens-file");
const preview = element.querySelector(".lens-preview");
const hint = element.querySelector(".lens-hint");
const clear = element.querySelector(".lens-clear");
const message = element.querySelector(".lens-message");
const gallery = element.querySelector(".lens-samples");
const HINT = hint.textContent;

for (const sample of props.samples) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.sample = sample.file;
  button.title = sample.title;
  button.setAttribute("aria-label", "Sample: " + sample.title);
  const image = document.createElement("img");
  image.src = sample.url;
  image.alt = "";
  button.append(image);
  button.addEventListener("click", () => {
    props.value = { sample: sample.file, preview: sample.url, questions: sample.questions };
    draw();
    trigger("select");
  });
  gallery.append(button);
}

function draw() {
  const value = props.value || {};
  const shown = value.preview || null;
  preview.hidden = !shown;
  if (shown) preview.src = shown;
  preview.classList.toggle("lens-pixels", !value.file);
  hint.hidden = Boolean(shown);
  hint.textContent = value.file && !shown && !value.message ? "Reading the image …" : HINT;
  clear.hidden = !shown;
  drop.dataset.empty = String(!shown);
  message.hidden = !value.message;
  message.textContent = value.message || "";
  for (const button of gallery.children) {
    button.setAttribute("aria-pressed", String(button.dataset.sample === value.sample));
  }
}

async function take(file) {
  if (!file) return;
  if (file.size > props.max_mib * 1048576) {
    const size = Math.round(file.size / 1048576);
    return refuse(`Expected an image of at most ${props.max_mib} MiB, got ${size} MiB; choose a smaller one.`);
  }
  try {
    const { path } = await upload(file);
    props.value = {
      file: { path, orig_name: file.name, meta: { _type: "gradio.FileData" } },
      questions: props.default_questions,
    };
    draw();
    trigger("upload");
  } catch (error) {
    refuse("The image could not be sent to the server; check that it is running, then choose the image again.");
  }
}

function refuse(sentence) {
  props.value = { message: sentence, questions: props.default_questions };
  draw();
}

input.addEventListener("change", () => {
  take(input.files[0]);
  input.value = "";
});
clear.addEventListener("click", (event) => {
  event.preventDefault();
  props.value = { questions: props.default_questions };
  draw();
  input.focus();
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
document.addEventListener("paste", (event) => {
  if (!element.isConnected || element.offsetParent === null) return; // another tab or task is in front
  const file = [...(event.clipboardData ? event.clipboardData.files : [])].find((f) => f.type.startsWith("image/"));
  if (!file) return;
  event.preventDefault();
  take(file);
});

watch("value", draw);
draw();
