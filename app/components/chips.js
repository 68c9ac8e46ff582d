// A row of example prompts; see chips.py.
const row = element.querySelector(".lens-chips");

function draw() {
  const examples = (props.value && props.value.examples) || [];
  row.replaceChildren(
    ...examples.map((text) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = text;
      button.addEventListener("click", () => {
        props.value = { examples, chosen: text };
        trigger("select");
      });
      return button;
    }),
  );
}

watch("value", draw);
draw();
