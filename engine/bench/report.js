// Adds a cursor and a stretch of time to pictures that are complete without it.
(() => {
  "use strict";
  const plots = [...document.querySelectorAll("[data-time]")];
  const tools = document.querySelector(".tools");
  const data = JSON.parse(document.getElementById("data").textContent);
  if (!plots.length || !tools) return;
  const [low, high] = plots[0].dataset.time.split(" ").map(Number);
  const [from, to] = tools.querySelectorAll("input");
  const said = tools.querySelector("output");
  const range = [low, high];
  tools.hidden = false;

  const time = (ms) => (ms === null ? "none" : ms >= 1000 ? (ms / 1000).toFixed(2) + " s" : ms.toFixed(1) + " ms");

  const ticks = (begin, end) => {
    const rough = (end - begin) / 6;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map((part) => part * power).find((each) => each >= rough * 0.9999);
    const places = [];
    for (let index = Math.ceil(begin / step - 1e-9); index * step <= end * (1 + 1e-12); index++) {
      places.push(Number((index * step).toPrecision(10)));
    }
    return places;
  };

  const show = () => {
    const span = (range[1] - range[0]) / (high - low);
    const view = `${(1000 * (range[0] - low)) / (high - low)} 0 ${1000 * span} 1000`;
    for (const plot of plots) {
      plot.querySelector("svg").setAttribute("viewBox", view);
      const labels = ticks(range[0], range[1]).map((value) => {
        const label = document.createElement("span");
        label.style.left = `${(100 * (value - range[0])) / (range[1] - range[0])}%`;
        label.textContent = String(value);
        return label;
      });
      const words = plot.querySelector(".acrosses");
      words.classList.toggle("many", labels.length > 5);
      words.replaceChildren(...labels);
    }
  };

  const choose = (moved) => {
    let begin = Number(from.value), end = Number(to.value);
    if (end - begin < 10) {
      if (moved === from) from.value = begin = Math.max(0, end - 10);
      else to.value = end = Math.min(1000, begin + 10);
    }
    range[0] = low + ((high - low) * begin) / 1000;
    range[1] = low + ((high - low) * end) / 1000;
    show();
  };
  from.addEventListener("input", () => choose(from));
  to.addEventListener("input", () => choose(to));

  const cursors = plots.map((plot) => {
    const cursor = document.createElement("div");
    cursor.className = "cursor";
    cursor.hidden = true;
    plot.querySelector(".field").append(cursor);
    return cursor;
  });

  const nearest = (at) => {
    let left = 0, right = data.requests.length - 1;
    while (left < right) {
      const middle = (left + right) >> 1;
      if (data.requests[middle][1] < at) left = middle + 1;
      else right = middle;
    }
    const before = data.requests[left - 1], after = data.requests[left];
    return before && at - before[1] < after[1] - at ? before : after;
  };

  const point = (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
    const at = range[0] + share * (range[1] - range[0]);
    for (const cursor of cursors) {
      cursor.hidden = false;
      cursor.style.left = `${100 * share}%`;
    }
    const request = data.requests.length ? nearest(at) : null;
    said.textContent = `${at.toFixed(2)} s` + (request === null ? "" :
      `. Request ${request[0]}, due at ${request[1].toFixed(2)} s: ` +
      (request[4] ? request[4] : `first token ${time(request[2])}, end ${time(request[3])}`));
  };
  const leave = () => {
    for (const cursor of cursors) cursor.hidden = true;
    said.textContent = "";
  };
  for (const plot of plots) {
    const field = plot.querySelector(".field");
    field.addEventListener("pointermove", point);
    field.addEventListener("pointerdown", point);
    field.addEventListener("pointerleave", leave);
  }
})();
