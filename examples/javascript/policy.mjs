// Ask an ONNX model what to do in Taxi, in JavaScript: WebAssembly, in Node here, in a browser likewise.
//
// npm install --prefix examples/javascript
// node examples/javascript/policy.mjs [FOLDER]     FOLDER: what `deeptaxi export --all` wrote; out/exports

import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

function stop(line) {
  console.error(line);
  process.exit(1);
}

const folder = process.argv[2] ?? "out/exports";
const path = join(folder, "model.onnx");
if (!existsSync(path)) {
  stop(`${path} is not there. Type: deeptaxi export models/taxi-v4-dueling --all --out ${folder}`);
}
const ort = await import("onnxruntime-web").catch(() =>
  stop("onnxruntime-web is not installed. Type: npm install --prefix examples/javascript"),
);
const policy = await ort.InferenceSession.create(readFileSync(path));

const names = ["south", "north", "east", "west", "pick up", "drop off"];
const states = new Map([
  [1, "the passenger waits here"],
  [97, "the passenger is aboard, and this is the destination"],
  [328, "the passenger waits beyond a wall"],
  [-1, "no state of Taxi"],
  [500, "no state of Taxi"],
]);
const numbers = Int32Array.from(states.keys());
const { q_values, action } = await policy.run({ state: new ort.Tensor("int32", numbers, [numbers.length]) });
numbers.forEach((state, row) => {
  const best = Math.max(...q_values.data.slice(row * names.length, (row + 1) * names.length));
  const name = names[action.data[row]] ?? "no action";
  console.log(`state ${state}, ${states.get(state)}: ${name} (${action.data[row]}), Q = ${best.toFixed(2)}`);
});
