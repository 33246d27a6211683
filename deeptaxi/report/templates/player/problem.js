// The problem and its episodes, for the player of a report. Its parts become one script (report/page.py), in the order
// problem, drawing, panel, controls; later parts use what earlier ones define. It reads the JSON of #play-data, makes
// no request, and builds all elements from text, never from markup.

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

// Arrays are stored as their distinct values, and which of them each entry is: as digits, if there are few.
const digit = new Map([...data.alphabet].map((character, value) => [character, value]));
const unpack = (packed, count) =>
  Array.from({ length: count }, (_, index) => {
    if (packed.of === null) return packed.values[0];
    return packed.values[typeof packed.of === "string" ? digit.get(packed.of[index]) : packed.of[index]];
  });
const counts = unpack(data.outcomes.counts, S * A);
const first = new Int32Array(S * A + 1); // where the outcomes of each pair begin
counts.forEach((count, pair) => (first[pair + 1] = first[pair] + count));
const rewards = new Float64Array(first[S * A]);
const probabilities = new Float64Array(first[S * A]);
const terminal = new Uint8Array(first[S * A]);
const nextState = new Int32Array(first[S * A]);
const kinds = unpack(data.outcomes.kinds, first[S * A]);
for (let pair = 0; pair < S * A; pair++) {
  for (let k = first[pair]; k < first[pair + 1]; k++) {
    const [move, rewarded, chance, terminated] = kinds[k];
    nextState[k] = Math.floor(pair / A) + move;
    rewards[k] = rewarded;
    probabilities[k] = chance;
    terminal[k] = terminated;
  }
}
const reward = (k) => rewards[k];
const probability = (k) => probabilities[k];
const isAllowed = (state, action) => data.allowed === null || data.allowed[state * A + action] === "1";
const isOptimal = (state, action) => data.optimal[state * A + action] === "1";
const isReachable = (state) => data.reachable[state] === "1";
const outcomesOf = (state, action) => first[state * A + action + 1] - first[state * A + action];
const phrases = data.names === null ? [] : data.names.map((packed) => unpack(packed, S));
const stateName = (state) => phrases.map((phrase) => phrase[state]).join(", ");
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
