// The controls of the player, and the slider over the snapshots of the training.

// ---- controls ----------------------------------------------------------------------------------------------------

const select = byId("play-start");
const stateInput = byId("play-state");
const drawButton = byId("play-draw");
const live = byId("play-live");
let draw = 1;
let timer = null;

const over = () => panels.every((panel) => panel.episode.ending !== null);

function changed(quiet = false) {
  for (const panel of panels) panel.show();
  const longest = Math.max(...panels.map((panel) => panel.episode.step));
  const dead = { first: longest === 0, back: longest === 0, step: over(), run: over(), last: over() };
  for (const [id, now] of Object.entries(dead)) {
    byId(`play-${id}`).setAttribute("aria-disabled", String(now)); // a disabled button would lose the focus
  }
  if (!quiet) announce();
}

function announce() {
  const [one, other] = panels.map((panel) => panel.describeStep());
  const both = one === other && panels[0].episode.step === panels[1].episode.step;
  const sentences = both ? [`Both: ${one}.`] : panels.map((panel) => `${panel.title}: ${panel.describeStep()}.`);
  live.replaceChildren(...sentences.map((text) => element("span", {}, `${text} `)));
}

function pause() {
  if (timer !== null) clearInterval(timer);
  timer = null;
  byId("play-run").textContent = "Play";
}

function begin(start, recording) {
  pause();
  for (const panel of panels) {
    const found = recording === null ? null : recording[panel.key];
    panel.episode.begin(found === null ? start : found[0], found, draw);
  }
  drawButton.hidden = recording !== null || !byChance;
  changed();
}

const byChance = counts.some((count) => count > 1);

function startFrom(state) {
  stateInput.value = String(state);
  const option = [...select.options].find((one) => one.value === `state ${state}`);
  select.value = option ? option.value : "";
  begin(state, null);
}

function fillStarts() {
  const group = (label, options) => {
    if (options.length) select.append(element("optgroup", { label }, ...options));
  };
  group(
    data.watch ? `as ${data.watch} plays it` : "as watch plays it",
    data.recordings.map((one) => element("option", { value: `seed ${one.seed}` }, `seed ${one.seed}`)),
  );
  const starts = data.starts.states.slice(0, MOST_STARTS);
  group(
    data.starts.states.length > MOST_STARTS ? "start states (the first)" : "start states",
    starts.map((state) => element("option", { value: `state ${state}` }, describe(state))),
  );
  select.append(element("option", { value: "", hidden: true }, "another state"));
}

function startAsSelected() {
  const [kind, which] = select.value.split(" ");
  if (kind === "seed") {
    stateInput.value = "";
    begin(0, data.recordings.find((one) => String(one.seed) === which));
  } else if (kind === "state") {
    startFrom(Number(which));
  }
}

function step() {
  for (const panel of panels) panel.episode.forward();
  changed();
}

function back() {
  pause();
  const longest = Math.max(...panels.map((panel) => panel.episode.step));
  for (const panel of panels) if (panel.episode.step === longest && longest > 0) panel.episode.back();
  changed();
}

function toStart() {
  pause();
  for (const panel of panels) panel.episode.replay(0);
  changed();
}

function toEnd() {
  pause();
  for (const panel of panels) while (panel.episode.ending === null) panel.episode.forward();
  changed();
}

function run() {
  if (timer !== null) {
    pause();
    announce();
    return;
  }
  byId("play-run").textContent = "Pause";
  timer = setInterval(() => {
    for (const panel of panels) panel.episode.forward();
    changed(true);
    if (over()) {
      pause();
      announce();
    }
  }, PACE);
}

const KEYS = { ArrowRight: step, ArrowLeft: back, Home: toStart, End: toEnd };
byId("play").addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.altKey || event.ctrlKey || event.metaKey) return;
  const act = KEYS[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});

// ---- the training ------------------------------------------------------------------------------------------------

function showTraining() {
  const { updates, policies, evaluations, of, kept } = data.snapshots;
  const slider = byId("play-snapshot");
  const down = map.layers.length;
  const across = map.layers[0].length;
  const gap = 0.9 * CELL;
  const [left, top, right, bottom] = edge;
  const layerWidth = map.columns * CELL + gap + (map.places ? 0 : left);
  const layerHeight = map.rows * CELL + gap + (map.places ? 0 : bottom);
  const margin = down > 1 ? 60 : 6;
  const head = across > 1 ? 60 : 6;
  const width = margin + across * layerWidth - gap + 6;
  const height = head + down * layerHeight - gap + 6;
  const look = across > 1 || map.columns > 8 ? "play-map wide" : "play-map";
  const svg = drawing("svg", { class: look, viewBox: `0 0 ${width} ${height}`, role: "img" });
  const views = [];
  map.layers.forEach((row, y) =>
    row.forEach((layer, x) => {
      const view = layerGroup(layer, null);
      const at = [margin + (map.places ? 0 : left) + x * layerWidth, head + y * layerHeight];
      view.group.setAttribute("transform", `translate(${at.join(" ")})`);
      svg.append(view.group);
      axisLabels(svg, ...at);
      const middle = { "font-size": 40, "text-anchor": "middle" };
      if (y === 0 && across > 1) {
        svg.append(drawing("text", { x: at[0] + (map.columns * CELL) / 2, y: head - 20, ...middle }, map.across[x]));
      }
      if (x === 0 && down > 1) {
        const turn = `translate(${margin - 22} ${at[1] + (map.rows * CELL) / 2}) rotate(-90)`;
        svg.append(drawing("text", { transform: turn, ...middle }, map.down[y]));
      }
      views.push(view);
    }),
  );
  byId("play-snapshot-map").replaceChildren(svg);
  const states = [];
  for (let state = 0; state < S; state++) if (isReachable(state)) states.push(state);
  const actionIn = (index, state) => parseInt(policies[index][state], 36);
  const show = () => {
    const index = Number(slider.value);
    const moved = (state) => index > 0 && actionIn(index, state) !== actionIn(index - 1, state);
    for (const view of views) drawPolicy(view, (state) => actionIn(index, state), moved);
    const wrong = states.filter((state) => !isOptimal(state, actionIn(index, state))).length;
    const parts = [`${wrong.toLocaleString("en")} of ${states.length.toLocaleString("en")} states have a wrong action`];
    if (index > 0) parts.push(`${states.filter(moved).length.toLocaleString("en")} changed since the snapshot before`);
    const found = evaluations[index];
    if (found) {
      parts.push(`${found[1]} of ${found[2]} start states are played optimally`);
      if (found[0] !== null) parts.push(`value ${number(found[0])}`);
    }
    const saved = updates[index] === kept ? " (the weights that were kept)" : "";
    const text = `Update ${updates[index].toLocaleString("en")}${saved}: ${parts.join("; ")}.`;
    byId("play-snapshot-text").textContent = text;
    slider.setAttribute("aria-valuetext", `update ${updates[index]}`);
    svg.setAttribute("aria-label", `Policy map. ${text}`);
  };
  slider.max = String(updates.length - 1);
  slider.value = slider.max;
  slider.addEventListener("input", show);
  const skipped = of > updates.length ? ` ${updates.length} of ${of} snapshots are here.` : "";
  byId("play-snapshot-note").textContent =
    `A sign on a hatched cell is a wrong action, a dashed border one that changed since the snapshot before.${skipped}`;
  byId("play-training").hidden = false;
  show();
}

// ---- begin -------------------------------------------------------------------------------------------------------

document.body.append(patterns());
byId("play-agents").append(...panels.map((panel) => panel.root));
fillStarts();
stateInput.max = String(S - 1);
select.addEventListener("change", startAsSelected);
stateInput.addEventListener("change", () => {
  const state = Number(stateInput.value);
  const known = stateInput.value !== "" && Number.isInteger(state) && state >= 0 && state < S;
  if (known) startFrom(state);
  else live.textContent = `There is no state ${stateInput.value}: states are 0 to ${S - 1}.`;
});
drawButton.addEventListener("click", () => {
  draw += 1;
  begin(panels[0].episode.start, null);
});
for (const [id, act] of Object.entries({ first: toStart, back, step: () => { pause(); step(); }, run, last: toEnd })) {
  byId(`play-${id}`).addEventListener("click", act);
}
const notes = [
  q === null ? "▶ is what the policy takes, ✓ is optimal." : "▶ is greedy, = is tied with it, ✓ is optimal.",
  "All bars have one scale: from the lowest to the highest value of any state, with a line at 0.",
  star === null ? "" : `An orange line is Q* at the discount of the training, ${data.training_discount}.`,
  `The bars of the optimal agent are Q* at the discount of the objective, ${data.discount}.`,
  "Return: the sum of the rewards. Still possible: with the best actions from here on, in the mean.",
  map === null ? "" : "The disk on the map is where the agent is, with its next action; on a hatched cell the action is wrong.",
  "Click on an action to take it instead, on an answer to let it happen, or on a cell of the map to start there.",
  "Keys: → steps, ← goes back, Home and End go to the start and the end.",
];
byId("play-note").replaceChildren(...notes.filter((text) => text).map((text) => element("li", {}, text)));
byId("player").hidden = false;
select.selectedIndex = 0;
startAsSelected();
performance.mark("player-ready");
setTimeout(() => {
  if (computeLevels()) for (const panel of panels) panel.show();
  setTimeout(() => {
    if (data.snapshots !== null) showTraining();
    performance.mark("player-complete");
  }, 0);
}, 0);
