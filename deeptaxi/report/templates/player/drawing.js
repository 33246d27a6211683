// Words, elements and maps, for the player of a report.

// ---- words and elements ------------------------------------------------------------------------------------------

function number(value, places = 4) {
  if (value === null || value === undefined) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  let text = Math.abs(value) >= 1e15 ? value.toPrecision(4) : value.toFixed(places);
  if (value !== 0 && Number(text) === 0) text = String(Number(value.toPrecision(2)));
  else if (text.includes(".") && !text.includes("e")) text = text.replace(/\.?0+$/, "");
  return (text === "-0" ? "0" : text).replace(/^-/, "−");
}
const signed = (value) => (value > 0 ? `+${number(value)}` : number(value));
const steps = (count) => `${count.toLocaleString("en")} step${count === 1 ? "" : "s"}`;
const capital = (text) => text[0].toUpperCase() + text.slice(1);
const percent = (chance) => `${number(100 * chance, chance < 0.01 ? 3 : 1)} %`;

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

function drawing(tag, attributes = {}, text = null) {
  const made = document.createElementNS("http:" + "//www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== null) made.textContent = text;
  return made;
}

// ---- maps --------------------------------------------------------------------------------------------------------

const CELL = 100; // units of a drawing per cell
const map = data.map;
const layerOf = new Map(); // [row of layers, column of layers, cell] by state
if (map !== null) {
  map.layers.forEach((row, down) =>
    row.forEach((layer, across) =>
      layer.states.forEach((state, cell) => layerOf.set(state, [down, across, cell])),
    ),
  );
}
const place = (cell) => [(cell % map.columns) * CELL + CELL / 2, Math.floor(cell / map.columns) * CELL + CELL / 2];

// Patterns are referred to by id, so the page has them once.
function patterns() {
  const size = { width: 14, height: 14 };
  const hatch = (id, color, width) => {
    const made = drawing("pattern", { id, ...size, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
    made.append(drawing("path", { d: "M0 0V14", style: `stroke:var(--${color});stroke-width:${width};fill:none` }));
    return made;
  };
  const svg = drawing("svg", { width: 0, height: 0, "aria-hidden": "true", style: "position:absolute" });
  const defs = drawing("defs");
  defs.append(hatch("play-hatch", "muted", 4), hatch("play-hatch-wrong", "vermillion", 4));
  svg.append(defs);
  return svg;
}

// One layer of the map as a group; `policy` decides the signs, `pick` is called with the state of a clicked cell.
function layerGroup(layer, pick) {
  const group = drawing("g");
  const width = map.columns * CELL;
  const height = map.rows * CELL;
  group.append(drawing("rect", { class: "ground", width, height }));
  const cells = [];
  layer.states.forEach((state, cell) => {
    const [x, y] = place(cell);
    const at = { x: x - CELL / 2, y: y - CELL / 2, width: CELL, height: CELL };
    const kind = isReachable(state) ? "cell" : "cell absent";
    group.append(drawing("rect", { class: kind, ...at }));
    cells.push(at);
  });
  for (const [row, column, kind] of map.kinds) {
    const at = cells[row * map.columns + column];
    if (kind === "hole") {
      group.append(drawing("circle", { class: "hole", cx: at.x + CELL / 2, cy: at.y + CELL / 2, r: 34 }));
    } else {
      group.append(drawing("rect", { class: kind === "start" ? "cell" : kind, ...at }));
    }
    if (kind === "start" || kind === "goal") {
      group.append(drawing("text", { x: at.x + 6, y: at.y + 94, "font-size": 21 }, kind));
    }
  }
  for (const [row, column, letter] of map.letters) {
    group.append(drawing("text", { x: column * CELL + 10, y: row * CELL + 33, "font-size": 30 }, letter));
  }
  for (const [mark, [row, column]] of Object.entries(layer.marks)) {
    if (mark === "destination") {
      const at = { x: column * CELL + 7, y: row * CELL + 7, width: CELL - 14, height: CELL - 14 };
      group.append(drawing("rect", { class: "destination", ...at }));
    } else {
      group.append(drawing("circle", { class: "passenger", cx: column * CELL + 80, cy: row * CELL + 24, r: 15 }));
    }
  }
  for (const [row, column, otherRow, otherColumn] of map.walls) {
    const line =
      row === otherRow
        ? { x1: otherColumn * CELL, x2: otherColumn * CELL, y1: row * CELL, y2: (row + 1) * CELL }
        : { x1: column * CELL, x2: (column + 1) * CELL, y1: otherRow * CELL, y2: otherRow * CELL };
    group.append(drawing("line", { class: "wall", ...line }));
  }
  group.append(drawing("rect", { class: "frame", width, height }));
  const marks = drawing("g");
  group.append(marks);
  if (pick) {
    layer.states.forEach((state, cell) => {
      if (!isReachable(state)) return;
      const target = drawing("rect", { class: "cell pick", ...cells[cell] });
      target.append(drawing("title", {}, `Start in ${describe(state)}`));
      target.addEventListener("click", () => pick(state));
      group.append(target);
    });
  }
  return { group, marks, cells, layer };
}

// Draw the action of each state, the wrong ones hatched, and those that changed with a border.
function drawPolicy(view, actionOf, changed = () => false) {
  const shapes = [];
  view.layer.states.forEach((state, cell) => {
    if (!isReachable(state)) return;
    const action = actionOf(state);
    const wrong = !isOptimal(state, action);
    const at = view.cells[cell];
    if (wrong) shapes.push(drawing("rect", { class: "wrong-cell", ...at }));
    if (changed(state)) {
      shapes.push(drawing("rect", { class: "changed", x: at.x + 5, y: at.y + 5, width: CELL - 10, height: CELL - 10 }));
    }
    const [x, y] = place(cell);
    const look = wrong ? "sign wrong" : "sign";
    shapes.push(drawing("path", { class: look, d: map.signs[action], transform: `translate(${x} ${y})` }));
  });
  view.marks.replaceChildren(...shapes);
}

// The labels of rows and columns, where these are no places.
function axisLabels(svg, x, y) {
  if (map.places) return;
  const label = (text, left, top, anchor) =>
    svg.append(drawing("text", { x: left, y: top, "font-size": 38, "text-anchor": anchor }, text));
  map.row[1].forEach((text, row) => label(text, x - 12, y + row * CELL + 64, "end"));
  map.column[1].forEach((text, column) => label(text, x + column * CELL + 50, y + map.rows * CELL + 46, "middle"));
  label(`→ ${map.column[0]}   ↓ ${map.row[0]}`, x, y + map.rows * CELL + 100, "start");
}
const edge = map === null || map.places ? [6, 6, 6, 6] : [150, 6, 6, 130]; // left, top, right, bottom
