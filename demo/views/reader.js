// Shows a document's pieces. Texts are set as text, so nothing in them is ever markup.
export default function ({ parentElement, data }) {
  const text = parentElement.querySelector(".text");
  const bar = parentElement.querySelector(".bar");
  text.setAttribute("aria-label", data.label);
  text.classList.toggle("passage", data.passage);
  const found = data.pieces.map(element);
  text.replaceChildren(...found);

  const show = (number) => {
    const marks = [...text.querySelectorAll(`[data-mark="${number}"]`)];
    text.querySelectorAll(".shown").forEach((mark) => mark.classList.remove("shown"));
    marks.forEach((mark) => mark.classList.add("shown"));
    if (marks.length > 0) {
      text.scrollTop = marks[0].offsetTop - text.offsetTop - text.clientHeight / 3;
    }
  };
  bar.replaceChildren(...(data.marks > 1 ? steps(data.marks, show) : []));
  show(0);
  text.focus({ preventScroll: true });
  // Once the drawer has its size.
  const resized = new ResizeObserver(() => {
    if (text.clientHeight > 0) {
      resized.disconnect();
      show(0);
    }
  });
  resized.observe(text);
  return () => resized.disconnect();
}

function element(piece) {
  if ("page" in piece) {
    const page = document.createElement("div");
    page.className = "page";
    page.textContent = `Page ${piece.page}`;
    return page;
  }
  const made = document.createElement(piece.mark === null ? "span" : "mark");
  made.textContent = piece.text;
  if (piece.mark !== null) {
    made.dataset.mark = piece.mark;
  }
  made.classList.toggle("heading", piece.heading);
  return made;
}

// Buttons that go from quote to quote.
function steps(count, show) {
  let current = 0;
  const label = document.createElement("span");
  label.setAttribute("role", "status");
  const go = (step) => {
    current = (current + step + count) % count;
    label.textContent = `Quote ${current + 1} of ${count}`;
    show(current);
  };
  const button = (sign, name, step) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = sign;
    made.setAttribute("aria-label", name);
    made.onclick = () => go(step);
    return made;
  };
  label.textContent = `Quote 1 of ${count}`;
  return [label, button("↑", "Previous quote", -1), button("↓", "Next quote", 1)];
}
