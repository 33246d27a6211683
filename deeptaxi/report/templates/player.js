// The player of a report: steps the agent and an optimal policy through the transition table in the page.
// It reads the JSON of #play-data, makes no request, and builds all elements from text, never from markup.
"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("play-data").textContent);
  const S = data.states;
  const A = data.actions.length;
  const TIE = 1e-6; // relative, as in `deeptaxi watch`
  const MOST_LISTED = 8; // outcomes and start states that are listed
  const MOST_STARTS = 400;
  const MOST_WORK = 2e7; // outcomes to back up for the best return from every step on
  const PACE = 650; // milliseconds between two steps of Play

  // ---- the problem -------------------------------------------------------------------------------------------------

  // Arrays are stored as their distinct values, and which of them each entry is: as base-36 digits, if there are few.
  const unpack = (packed, count) =>
    Array.from({ length: count }, (_, index) => {
      if (packed.of === null) return packed.values[0];
      return packed.values[typeof packed.of === "string" ? parseInt(packed.of[index], 36) : packed.of[index]];
    });
  const counts = unpack(data.outcomes.counts, S * A);
  const first = new Int32Array(S * A + 1); // where the outcomes of each pair begin
  counts.forEach((count, pair) => (first[pair + 1] = first[pair] + count));
  const rewards = Float64Array.from(unpack(data.outcomes.reward, first[S * A]));
  const probabilities = Float64Array.from(unpack(data.outcomes.probability, first[S * A]));
  const terminal = Uint8Array.from(unpack(data.outcomes.terminated, first[S * A]));
  const nextState = Int32Array.from(unpack(data.outcomes.move, first[S * A]));
  for (let pair = 0; pair < S * A; pair++) {
    for (let k = first[pair]; k < first[pair + 1]; k++) nextState[k] += Math.floor(pair / A);
  }
  const reward = (k) => rewards[k];
  const probability = (k) => probabilities[k];
  const isAllowed = (state, action) => data.allowed === null || data.allowed[state * A + action] === "1";
  const isOptimal = (state, action) => data.optimal[state * A + action] === "1";
  const isReachable = (state) => data.reachable[state] === "1";
  const outcomesOf = (state, action) => first[state * A + action + 1] - first[state * A + action];
  const stateName = (state) =>
    data.names === null ? "" : data.names.of[state].map((phrase) => data.names.phrases[phrase]).join(", ");
  const describe = (state) => (data.names === null ? `state ${state}` : `state ${state}: ${stateName(state)}`);

  // Best mean return of the next h steps from each state, by backward induction; levels repeat once nothing changes.
  let levels = null;
  function computeLevels() {
    if (first[S * A] * data.horizon > MOST_WORK || S * data.horizon > MOST_WORK / 4) return false;
    const found = [new Float64Array(S)];
    for (let h = 1; h <= data.horizon; h++) {
      const before = found[h - 1];
      const value = new Float64Array(S);
      let same = true;
      for (let state = 0; state < S; state++) {
        let best = -Infinity;
        for (let action = 0; action < A; action++) {
          if (!isAllowed(state, action)) continue;
          let sum = 0;
          for (let k = first[state * A + action]; k < first[state * A + action + 1]; k++) {
            sum += probability(k) * (reward(k) + (terminal[k] ? 0 : before[nextState[k]]));
          }
          if (sum > best) best = sum;
        }
        value[state] = best;
        if (best !== before[state]) same = false;
      }
      if (same) break;
      found.push(value);
    }
    levels = found;
    return true;
  }
  const bestReturn = (state, steps) => levels[Math.min(steps, levels.length - 1)][state];

  // ---- episodes ----------------------------------------------------------------------------------------------------

  // A number in [0, 1) for step `step` of draw `draw`: both agents get the same ones (mulberry32).
  function uniform(draw, step) {
    let x = (Math.imul(draw, 0x9e3779b1) + Math.imul(step + 1, 0x85ebca6b)) | 0;
    x = (x + 0x6d2b79f5) | 0;
    let t = Math.imul(x ^ (x >>> 15), 1 | x);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  // An episode: its moves [action, outcome] determine it, so that a step back is a replay.
  class Episode {
    constructor(policy) {
      this.policy = policy;
      this.begin(0, null, 1);
    }

    begin(start, recording, draw) {
      Object.assign(this, { start, recording, draw, moves: [] });
      this.replay(0);
    }

    replay(count) {
      const moves = this.moves.slice(0, count);
      Object.assign(this, { moves: [], state: this.start, step: 0, total: 0, reward: null, ending: null });
      Object.assign(this, { loop: null, follows: this.recording !== null, drawn: 0, path: [this.start], chosen: null });
      this.met = new Map();
      this.look();
      for (const [action, outcome] of moves) this.take(action, outcome);
    }

    get action() {
      return this.chosen === null ? this.policy[this.state] : this.chosen;
    }

    // What `watch` checks before each step: loops of a policy that no chance can end, and the horizon.
    look() {
      if (!this.met.has(this.state)) this.met.set(this.state, this.step);
      const before = this.met.get(this.state);
      const loops = before < this.step && this.ending !== "terminated";
      this.loop = loops ? before : null;
      if (this.ending === null && loops && data.time_limit === null) this.ending = "loop";
      if (this.ending === null && this.step >= data.horizon) this.ending = "steps";
      if (this.ending === null && this.follows && this.step === this.recording[2]) this.ending = this.recording[3];
    }

    // The outcome that the environment gives next: recorded, or drawn.
    answer() {
      const count = outcomesOf(this.state, this.action);
      if (this.follows && this.action === this.policy[this.state]) {
        return count === 1 ? 0 : Number(this.recording[1][this.drawn]);
      }
      const draw = uniform(this.draw, this.step);
      const from = first[this.state * A + this.action];
      let sum = 0;
      for (let k = 0; k < count; k++) {
        sum += probability(from + k);
        if (draw < sum) return k;
      }
      return count - 1;
    }

    take(action, outcome) {
      if (this.ending !== null) return;
      this.chosen = action;
      if (this.follows) {
        if (action !== this.policy[this.state] || outcome !== this.answer()) this.follows = false;
        else if (outcomesOf(this.state, action) > 1) this.drawn += 1;
      }
      if (outcomesOf(this.state, action) > 1 || action !== this.policy[this.state]) this.met.clear();
      const k = first[this.state * A + action] + outcome;
      this.moves.push([action, outcome]);
      this.reward = reward(k);
      this.total += this.reward;
      this.step += 1;
      this.state = nextState[k];
      this.chosen = null;
      this.path.push(this.state);
      if (terminal[k]) this.ending = "terminated";
      else if (data.time_limit !== null && this.step >= data.time_limit) this.ending = "truncated";
      this.look();
    }

    forward() {
      if (this.ending === null) this.take(this.action, this.answer());
    }

    back() {
      this.replay(this.moves.length - 1);
    }
  }

  const ENDINGS = {
    terminated: "terminated",
    truncated: "was cut by the time limit",
    steps: "was stopped at the horizon",
    loop: "was stopped",
  };

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
    const hatch = (id, color, width) => {
      const made = drawing("pattern", { id, width: 14, height: 14, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
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

  function axisLabels(svg, x, y) {
    if (map.places) return;
    map.row[1].forEach((text, row) =>
      svg.append(drawing("text", { x: x - 12, y: y + row * CELL + 64, "font-size": 38, "text-anchor": "end" }, text)),
    );
    map.column[1].forEach((text, column) =>
      svg.append(
        drawing("text", { x: x + column * CELL + 50, y: y + map.rows * CELL + 46, "font-size": 38, "text-anchor": "middle" }, text),
      ),
    );
    const below = y + map.rows * CELL + 100;
    svg.append(drawing("text", { x, y: below, "font-size": 38 }, `→ ${map.column[0]}   ↓ ${map.row[0]}`));
  }
  const edge = map === null || map.places ? [6, 6, 6, 6] : [150, 6, 6, 130]; // left, top, right, bottom

  // ---- the two agents ----------------------------------------------------------------------------------------------

  // Q* `[S, A]` from the values of the states, by one backup; null for actions that are not allowed.
  function backUp(values, discount) {
    const found = new Array(S * A).fill(null);
    for (let pair = 0; pair < S * A; pair++) {
      if (!isAllowed(Math.floor(pair / A), pair % A)) continue;
      let sum = 0;
      for (let k = first[pair]; k < first[pair + 1]; k++) {
        const after = values[nextState[k]] ?? -Infinity; // no number: the best policy loses forever
        sum += probability(k) * (reward(k) + (terminal[k] ? 0 : discount * after));
      }
      found[pair] = sum;
    }
    return found;
  }
  const q = data.q;
  const qStar = backUp(data.value, data.discount);
  const star = data.training_value === null || q === null ? null : backUp(data.training_value, data.training_discount);
  const span = [0, 0]; // of all bars: one scale for all states and both agents
  for (let state = 0; state < S; state++) {
    if (!isReachable(state)) continue;
    for (let index = state * A; index < (state + 1) * A; index++) {
      for (const values of [q, qStar]) {
        const value = values === null ? null : values[index];
        if (value !== null && Number.isFinite(value)) {
          span[0] = Math.min(span[0], value);
          span[1] = Math.max(span[1], value);
        }
      }
    }
  }
  if (span[0] === span[1]) span[1] = span[0] + 1;
  const share = (value) => (100 * (value - span[0])) / (span[1] - span[0]);

  class Panel {
    constructor(key, title, policy, values, targets, symbol, targetName) {
      Object.assign(this, { key, title, values, targets, symbol, targetName });
      this.episode = new Episode(policy);
      this.layer = null;
      this.root = element("article", { class: `play-agent ${key}`, id: `play-${key}`, "aria-label": title });
      this.where = element("p", { class: "play-where" });
      this.total = element("dd", { "data-key": `${key}.return` });
      this.possible = element("dd");
      this.best = element("dd");
      const fact = (name, value) => element("div", {}, element("dt", {}, name), value);
      const returns = element(
        "dl",
        { class: "play-returns" },
        fact("return so far", this.total),
        fact("still possible", this.possible),
        fact("best from the start", this.best),
      );
      this.picture = element("div");
      this.valuesTitle = element("h4");
      this.actions = element("ul", { class: "play-actions" });
      this.scale = element("div", { class: "play-scale", "aria-hidden": "true" });
      if (values !== null) {
        this.scale.append(element("span", {}, ...span.map((end) => element("b", {}, number(end, 2)))));
      }
      this.outcomesTitle = element("h4");
      this.outcomes = element("ul", { class: "play-outcomes" });
      this.root.append(element("h3", {}, title), this.where, returns, this.picture);
      this.root.append(this.valuesTitle, this.actions, this.scale, this.outcomesTitle, this.outcomes);
    }

    show() {
      const episode = this.episode;
      const { state, step, total } = episode;
      this.root.dataset.state = state;
      this.root.dataset.step = step;
      this.root.dataset.return = String(total);
      this.root.dataset.ending = episode.ending ?? "";
      this.root.dataset.path = episode.path.join(" ");
      this.where.textContent = `Step ${step}, ${describe(state)}`;
      this.total.textContent = number(total);
      if (levels === null) {
        this.possible.textContent = this.best.textContent = "–";
      } else {
        const left = episode.ending === "terminated" ? 0 : bestReturn(state, Math.max(0, data.horizon - step));
        this.possible.textContent = number(total + left);
        this.best.textContent = number(bestReturn(episode.start, data.horizon));
        this.root.dataset.best = String(bestReturn(episode.start, data.horizon));
      }
      this.showMap();
      this.showActions();
      this.showOutcomes();
    }

    showMap() {
      if (map === null) return;
      const at = layerOf.get(this.episode.state);
      if (at === undefined && this.svg) {
        this.here.setAttribute("visibility", "hidden");
        return;
      }
      const [down, across, cell] = at ?? [0, 0, 0];
      if (this.layer !== `${down} ${across}`) {
        this.layer = `${down} ${across}`;
        this.view = layerGroup(map.layers[down][across], (chosen) => startFrom(chosen));
        drawPolicy(this.view, (state) => this.episode.policy[state]);
        const [left, top, right, bottom] = edge;
        const size = [map.columns * CELL + left + right, map.rows * CELL + top + bottom];
        this.svg = drawing("svg", { class: map.columns > 8 ? "play-map wide" : "play-map", viewBox: `${-left} ${-top} ${size.join(" ")}`, role: "img" });
        this.trail = drawing("polyline", { class: "trail" });
        this.here = drawing("g", { class: "here" });
        this.sign = drawing("path", { class: "take" });
        this.here.append(drawing("circle", { r: 37 }), this.sign);
        this.svg.append(this.view.group, this.trail, this.here);
        axisLabels(this.svg, 0, 0);
        this.picture.replaceChildren(this.svg);
      }
      const beside = [map.across[across], map.down[down]].filter((text) => text);
      const title = beside.length ? `Map, ${beside.join(", ")}` : "Map";
      this.svg.setAttribute("aria-label", `${title}: ${this.title} is in ${describe(this.episode.state)}`);
      this.here.setAttribute("visibility", at === undefined ? "hidden" : "visible");
      const [x, y] = place(cell);
      this.sign.setAttribute("d", this.episode.ending === null ? map.signs[this.episode.action] : "M-15 0H15");
      this.here.setAttribute("style", `transform:translate(${x}px,${y}px)`);
      if (!map.places) return; // on a chart of parts there are no ways
      const trail = this.episode.path.map((state) => layerOf.get(state)).filter((found) => found !== undefined);
      const seen = trail.slice(-300);
      this.trail.setAttribute("points", seen.map((found) => place(found[2]).join(",")).join(" "));
    }

    showActions() {
      const { state, ending, policy } = this.episode;
      const over = ending === "terminated";
      const row = this.values === null ? null : this.values.slice(state * A, (state + 1) * A);
      const best = row === null ? null : Math.max(...row.filter((value) => value !== null));
      this.valuesTitle.textContent = over
        ? "The episode is over; no action follows"
        : row === null
          ? "Its action; a policy has no Q values"
          : `${this.symbol} of each action here`;
      this.scale.hidden = over;
      this.actions.hidden = over;
      this.outcomesTitle.hidden = over;
      if (over) return;
      const known = this.actions.childElementCount === A ? [...this.actions.children] : null;
      const items = data.actions.map((name, action) => {
        const value = row === null ? null : row[action];
        const barred = !isAllowed(state, action) || (row !== null && value === null);
        const greedy = action === policy[state];
        const tied = !greedy && value !== null && best - value <= TIE * (1 + Math.abs(best));
        const optimal = isOptimal(state, action);
        const target = this.targets === null ? null : this.targets[state * A + action];
        const words = [
          name,
          row === null ? "" : barred ? "not allowed" : `${this.symbol} ${number(value, 3)}`,
          this.targets === null || target === null || barred ? "" : `${this.targetName} ${number(target, 3)}`,
          greedy ? "taken by the policy" : tied ? "tied with the greedy action" : "",
          optimal ? "optimal" : "",
        ];
        const item = known === null ? this.actionItem(action) : known[action];
        const button = item.firstChild;
        button.className = `play-action${greedy ? " greedy" : ""}`;
        button.setAttribute("aria-disabled", String(barred || ending !== null));
        button.setAttribute("aria-label", words.filter((word) => word).join(", "));
        button.setAttribute("aria-pressed", String(action === this.episode.action));
        button.title = `Take ${name} in the next step`;
        const [marks, , , track, shown] = button.children;
        marks.textContent = `${greedy ? "▶" : tied ? "=" : " "} ${optimal ? "✓" : " "}`;
        shown.textContent = row === null ? "" : barred ? "not allowed" : number(value, 3);
        const [fill, zero, tick] = track.children;
        track.hidden = row === null;
        if (row !== null) {
          const drawn = !barred && Number.isFinite(value);
          const ends = !drawn ? [0, 0] : [share(Math.min(0, value)), share(Math.max(0, value))];
          fill.style.left = `${ends[0]}%`;
          fill.style.width = `${Math.max(ends[1] - ends[0], drawn ? 0.6 : 0)}%`;
          zero.style.left = `${share(0)}%`;
          tick.hidden = target === null || barred || !Number.isFinite(target);
          if (!tick.hidden) tick.style.left = `${share(target)}%`;
        }
        return item;
      });
      if (known === null) this.actions.replaceChildren(...items);
    }

    actionItem(action) {
      const part = (name) => element("span", { class: name, "aria-hidden": "true" });
      const track = part("track");
      track.append(part("fill"), part("zero"), part("star"));
      const name = part("name");
      name.textContent = data.actions[action];
      const icon = part("icon");
      if (map !== null) {
        const svg = drawing("svg", { class: "play-map", viewBox: "-50 -50 100 100" });
        svg.append(drawing("path", { class: "sign", d: map.signs[action] }));
        icon.append(svg);
      }
      const button = element("button", { type: "button" }, part("marks"), icon, name, track, part("value"));
      button.addEventListener("click", () => {
        if (button.getAttribute("aria-disabled") === "true") return;
        this.episode.chosen = action;
        this.show();
      });
      return element("li", {}, button);
    }

    showOutcomes() {
      const focused = this.outcomes.contains(document.activeElement);
      this.outcomesTitle.textContent = "";
      this.outcomes.replaceChildren(...this.outcomeItems());
      if (focused) (this.outcomes.querySelector("button") ?? byId("play-step")).focus({ preventScroll: true });
    }

    outcomeItems() {
      const episode = this.episode;
      const { state, action, ending } = episode;
      if (ending !== null) return [element("li", { class: "play-end" }, `${this.told()}.`)];
      const count = outcomesOf(state, action);
      const from = first[state * A + action];
      const order = [...Array(count).keys()].sort((a, b) => probability(from + b) - probability(from + a));
      this.outcomesTitle.textContent =
        count === 1 ? `After ${data.actions[action]}, for certain` : `After ${data.actions[action]}: what may happen, and how likely`;
      const items = order.slice(0, MOST_LISTED).map((outcome) => {
        const k = from + outcome;
        const chance = probability(k);
        const where = nextState[k] === state && !terminal[k] ? "stays where it is" : describe(nextState[k]);
        const text = `${where}, reward ${signed(reward(k))}${terminal[k] ? ", the episode ends" : ""}`;
        const button = element(
          "button",
          { type: "button", class: "play-outcome", title: "Let this happen" },
          element("span", { class: "chance" }, percent(chance)),
          element("span", {}, text),
        );
        button.style.setProperty("--share", `${100 * chance}%`);
        button.setAttribute("aria-label", `Let this happen: ${percent(chance)}, ${text}`);
        button.addEventListener("click", () => {
          pause();
          episode.take(action, outcome);
          changed();
        });
        return element("li", {}, button);
      });
      if (count > MOST_LISTED) items.push(element("li", { class: "quiet small" }, `and ${count - MOST_LISTED} others`));
      return items;
    }

    // What the last step did, in words.
    told() {
      const { ending, step, total, loop, state, reward: last, moves } = this.episode;
      if (ending === null && step === 0) return `in ${describe(state)}`;
      const took = step === 0 ? "" : `took ${data.actions[moves[step - 1][0]]}, reward ${number(last)}; `;
      if (ending === null) return `${took}now in ${describe(state)}, return ${number(total)}`;
      const where = ending === "loop" ? `: the policy loops, as state ${state} was met at step ${loop} already` : "";
      return `${took}the episode ${ENDINGS[ending] ?? ending} after ${steps(step)}, return ${number(total)}${where}`;
    }
  }

  const panels = [
    new Panel("agent", "This agent", unpack(data.policy, S), q, star, "Q", "Q*"),
    new Panel("best", "An optimal agent", unpack(data.best, S), qStar, null, "Q*", ""),
  ];

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
    for (const [id, dead] of [["first", longest === 0], ["back", longest === 0], ["step", over()], ["last", over()], ["run", over()]]) {
      byId(`play-${id}`).setAttribute("aria-disabled", String(dead)); // a disabled button would lose the focus
    }
    if (!quiet) announce();
  }

  function announce() {
    const [one, other] = panels.map((panel) => panel.told());
    const both = one === other && panels[0].episode.step === panels[1].episode.step;
    const sentences = both ? [`Both: ${one}.`] : panels.map((panel) => `${panel.title}: ${panel.told()}.`);
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
    "Return: the sum of the rewards. Still possible: with the best actions from here on, in the mean over what may happen.",
    map === null ? "" : "On the map, the disk is where the agent is, with what it does next; a hatched cell has a wrong action.",
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
})();
