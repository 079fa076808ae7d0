// Goals in plain words, and the specs that they stand for.
import type { Spec } from "../api/client";

export interface Goal {
  kind: string;
  title: string;
  says: string;
  /** What the number means, and where it may lie. */
  label: string;
  unit: string;
  start: number;
  least: number;
  most: number;
  step: number;
  needsData?: boolean;
  prune: (value: number) => Record<string, unknown>;
}

export const GOALS: Goal[] = [
  {
    kind: "accuracy_drop",
    title: "As small as possible",
    says: "Cuts, trains and measures until more would cost too much accuracy.",
    label: "Lose at most",
    unit: "points of accuracy",
    start: 1,
    least: 0,
    most: 20,
    step: 0.1,
    needsData: true,
    prune: (value) => ({ target: { kind: "accuracy_drop", max_points: value } }),
  },
  {
    kind: "latency",
    title: "Faster",
    says: "Real files are timed in turns until one is fast enough.",
    label: "Take at most",
    unit: "% of today's time",
    start: 50,
    least: 1,
    most: 99,
    step: 1,
    prune: (value) => ({ target: { kind: "latency", keep: share(value), runtime: "litert" } }),
  },
  {
    kind: "macs",
    title: "Less computation",
    says: "Counts multiply-accumulates: quick, and the same on every machine.",
    label: "Keep at most",
    unit: "% of the MACs",
    start: 50,
    least: 1,
    most: 99,
    step: 1,
    prune: (value) => ({ target: { kind: "macs", keep: share(value) } }),
  },
  {
    kind: "bytes",
    title: "Fits in a size",
    says: "Files are written until one is small enough.",
    label: "Take at most",
    unit: "KB as a .keras file",
    start: 500,
    least: 1,
    most: 10_000_000,
    step: 1,
    prune: (value) => ({ target: { kind: "bytes", max: Math.round(1000 * value) } }),
  },
  {
    kind: "channels",
    title: "Narrower layers",
    says: "Takes the same share of channels and units from each layer.",
    label: "Remove",
    unit: "% of the channels",
    start: 50,
    least: 1,
    most: 99,
    step: 1,
    prune: (value) => ({ target: { kind: "fraction", remove: share(value) } }),
  },
  {
    kind: "sparse",
    title: "Sparse",
    says: "Weights become zero: files compress well, but most runtimes get no faster by it.",
    label: "Set to zero",
    unit: "% of the weights",
    start: 90,
    least: 1,
    most: 99.9,
    step: 0.1,
    prune: (value) => ({ granularity: "weight", target: { kind: "fraction", remove: share(value) } }),
  },
];

export const EFFORTS = [
  { name: "quick", epochs: 3, says: "3 epochs" },
  { name: "normal", epochs: 10, says: "10 epochs" },
  { name: "thorough", epochs: 40, says: "40 epochs" },
];

export const EXPORTS: [string, string][] = [
  ["litert", "LiteRT (TensorFlow Lite)"],
  ["litert_dynamic_int8", "LiteRT, 8-bit weights"],
  ["onnx", "ONNX"],
  ["saved_model", "SavedModel (TF Serving)"],
];

function share(percent: number): number {
  return Number((percent / 100).toPrecision(6));
}

export interface Choice {
  goal: Goal;
  value: number;
  epochs: number;
  exports: string[];
}

export function specOf(model: string, data: string | null, choice: Choice): Spec {
  const spec: Spec = { model };
  if (data) spec.dataset = data;
  spec.prune = choice.goal.prune(choice.value);
  if (data) spec.fine_tune = { epochs: choice.epochs };
  spec.exports = ["keras", ...choice.exports];
  return spec;
}
