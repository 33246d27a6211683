// An agent on the page: where it is, its returns, its Q values as bars, and what may happen next.

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
      const look = map.columns > 8 ? "play-map wide" : "play-map";
      this.svg = drawing("svg", { class: look, viewBox: `${-left} ${-top} ${size.join(" ")}`, role: "img" });
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
    if (ending !== null) return [element("li", { class: "play-end" }, capital(`${this.describeStep()}.`))];
    const count = outcomesOf(state, action);
    const from = first[state * A + action];
    const order = [...Array(count).keys()].sort((a, b) => probability(from + b) - probability(from + a));
    this.outcomesTitle.textContent =
      `After ${data.actions[action]}` + (count === 1 ? ", for certain" : ": what may happen, and how likely");
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
  describeStep() {
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
