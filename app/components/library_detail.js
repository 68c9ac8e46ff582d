// The panel of the row that is open, and saving files; comes before library.js and shares its scope. See library/page.py.
const panel = make("tr", "lens-detail");
panel.innerHTML = `<td colspan="7"><div class="lens-panel">
  <img class="lens-pixels" alt="" hidden />
  <div class="lens-words">
    <label class="lens-field"><span>Name</span><input type="text" maxlength="80" /></label>
    <label class="lens-field"><span>Note</span><textarea rows="2" maxlength="4000"></textarea></label>
  </div>
  <dl></dl>
  <div class="lens-actions" role="group" aria-label="This thing"></div>
</div></td>`;
const nameField = panel.querySelector("input");
const noteField = panel.querySelector("textarea");
let offered = ""; // the buttons that are there

function make(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

// What is being typed stays as it is.
function fillPanel(detail) {
  const other = panel.dataset.thing !== detail.id;
  panel.dataset.thing = detail.id;
  if (other || document.activeElement !== nameField) nameField.value = detail.name;
  if (other || document.activeElement !== noteField) noteField.value = detail.note;
  nameField.placeholder = detail.placeholder;
  const picture = panel.querySelector("img");
  picture.hidden = !detail.picture;
  if (detail.picture) picture.src = detail.picture;
  panel.querySelector("dl").replaceChildren(
    ...detail.facts.map(([term, value]) => {
      const fact = make("div");
      fact.append(make("dt", "", term), make("dd", "", value));
      return fact;
    }),
  );
  fillActions(detail);
}

function fillActions(detail) {
  const { id, links, exportable, deletable } = detail;
  const wanted = JSON.stringify([id, links, exportable, deletable]);
  if (wanted === offered) return; // a button under the pointer stays
  offered = wanted;
  const made = links.map(([label, query]) => {
    const link = make("a", "", label);
    link.href = lens.address(lens.withTheme(query));
    return link;
  });
  if (exportable) made.push(lens.button("Download", (event) => save([id], event.currentTarget)));
  if (deletable) made.push(lens.button("Delete", () => act("delete", [id])));
  panel.querySelector(".lens-actions").replaceChildren(...made);
}

const keepName = () => act("rename", [panel.dataset.thing], nameField.value);
nameField.addEventListener("change", keepName);
nameField.addEventListener("keydown", (event) => event.key === "Enter" && nameField.blur());
noteField.addEventListener("change", () => act("note", [panel.dataset.thing], noteField.value));

// Fetched rather than followed, so that a refusal is a sentence on the page.
async function save(ids, button) {
  button.disabled = true;
  try {
    const answer = await fetch("@export?" + new URLSearchParams({ ids: ids.join() }));
    if (!answer.ok) throw new Error(await answer.text());
    const name = /filename="([\w.-]+)"/.exec(answer.headers.get("Content-Disposition"));
    lens.download(name ? name[1] : "aia-lens", await answer.blob());
    say(".lens-message", "");
  } catch (error) {
    const lost = "Expected a file from the server, got none; check that it is running, then try again.";
    say(".lens-message", error.message.startsWith("Expected") || error.message.startsWith("That") ? error.message : lost);
  } finally {
    button.disabled = false;
  }
}
