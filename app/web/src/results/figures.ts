// What is read out of a job's figures, for tables and charts alike.
import type { State } from "../api/client";
import type { LayerFigure, LatencyValue, Metric } from "./types";
import { bytes, count, milliseconds, number, words } from "../parts/words";

/** Metrics of which less is better; of the others, more is. */
const LOWER_IS_BETTER = new Set(["loss", "mean_squared_error", "mean_absolute_error"]);
/** Metrics that are shares of the samples, and read as percents. */
const SHARES = new Set(["accuracy", "top_5_accuracy"]);

/** The name without the output that it belongs to: "digit_accuracy" is an accuracy. */
const bare = (metric: string): string =>
  [...SHARES, ...LOWER_IS_BETTER].find((name) => metric === name || metric.endsWith(`_${name}`)) ??
  metric;
export const isShare = (metric: string): boolean => SHARES.has(bare(metric));
export const lowerIsBetter = (metric: string): boolean => LOWER_IS_BETTER.has(bare(metric));
export const metricText = (metric: string, value: number | null | undefined): string =>
  value === null || value === undefined
    ? "no number"
    : isShare(metric)
      ? `${(100 * value).toFixed(2)} %`
      : number(value);

/** The metric that models are compared by comes first, the loss last. */
export const metricsOf = (state: State | null | undefined): string[] =>
  Object.keys(state?.evaluation ?? {}).sort((a, b) => Number(a === "loss") - Number(b === "loss"));

export function intervalText(metric: string, value: Metric): string {
  const ends = value.interval;
  return ends ? ends.map((end) => metricText(metric, end)).join(" to ") : "";
}

/** Something of a model that there should be less of. */
export interface Measure {
  key: string;
  name: string;
  of: (state: State) => number | null;
  text: (value: number) => string;
}

const runtimes: Record<string, string> = {
  keras: "Keras",
  litert: "LiteRT",
  litert_sparse: "LiteRT, sparse kernels",
  onnxruntime: "ONNX Runtime",
};
const threads = (each: LatencyValue): string =>
  each.runtime === "keras" ? "" : each.threads === 1 ? ", 1 thread" : `, ${each.threads} threads`;
export const latencyName = (each: LatencyValue): string =>
  `${runtimes[each.runtime] ?? each.runtime}, batch of ${each.batch_size}${threads(each)}`;
export const sameSetting = (one: LatencyValue, other: LatencyValue): boolean =>
  one.runtime === other.runtime &&
  one.batch_size === other.batch_size &&
  one.threads === other.threads;

const COUNTS: Measure[] = [
  { key: "parameters", name: "Parameters", of: (s) => s.parameters, text: count },
  { key: "nonzero", name: "Parameters not zero", of: (s) => s.nonzero_parameters, text: count },
  { key: "macs", name: "MACs per sample", of: (s) => s.macs, text: count },
];

/** All that at least one of the models was measured by, sizes first. */
export function measuresOf(states: State[]): Measure[] {
  const exports = new Set(states.flatMap((state) => Object.keys(state.bytes)));
  const settings: LatencyValue[] = [];
  for (const each of states.flatMap((state) => state.latency)) {
    if (!settings.some((known) => sameSetting(known, each))) settings.push(each);
  }
  return [
    ...COUNTS,
    ...[...exports].map((name) => ({
      key: `bytes.${name}`,
      name: `File: ${words(name)}`,
      of: (state: State) => state.bytes[name] ?? null,
      text: bytes,
    })),
    ...settings.map((setting) => ({
      key: `latency.${latencyName(setting)}`,
      name: `Time: ${latencyName(setting)}`,
      of: (state: State) =>
        state.latency.find((each) => sameSetting(each, setting))?.p50_ms ?? null,
      text: milliseconds,
    })),
  ];
}

/** As the service's verdicts: what is less than this many times better is noise to people. */
const NOTICEABLE = 1.05;
export const isLess = (before: number, after: number): boolean => before >= NOTICEABLE * after;
export const isFaster = (each: LatencyValue): boolean =>
  (each.speed_up_interval?.[0] ?? 0) >= NOTICEABLE;
export const isSlower = (each: LatencyValue): boolean =>
  (each.speed_up_interval?.[1] ?? Infinity) <= 1 / NOTICEABLE;

/** For each point whether no other is at least as good in both and better in one. */
export function onFront(points: { x: number; y: number }[], yLowerIsBetter: boolean): boolean[] {
  const sign = yLowerIsBetter ? -1 : 1;
  return points.map(
    (one) =>
      !points.some(
        (other) =>
          other.x <= one.x &&
          sign * other.y >= sign * one.y &&
          (other.x < one.x || sign * other.y > sign * one.y),
      ),
  );
}

export type LayerMeasure = "parameters" | "nonzero" | "macs";
export const LAYER_MEASURES: [LayerMeasure, string][] = [
  ["parameters", "Parameters"],
  ["nonzero", "Parameters not zero"],
  ["macs", "MACs"],
];
export const layerBefore = (layer: LayerFigure, measure: LayerMeasure): number =>
  measure === "macs" ? layer.macs_before : layer.parameters_before;
export const layerAfter = (layer: LayerFigure, measure: LayerMeasure): number =>
  measure === "macs"
    ? layer.macs_after
    : measure === "nonzero"
      ? layer.nonzero_after
      : layer.parameters_after;

/** Leaves of a spec by the path of their field. */
export function flat(value: unknown, path = ""): Record<string, unknown> {
  if (value === null || typeof value !== "object" || Array.isArray(value)) return { [path]: value };
  return Object.assign(
    {},
    ...Object.entries(value).map(([name, each]) => flat(each, path ? `${path}.${name}` : name)),
  ) as Record<string, unknown>;
}

export const valueText = (value: unknown): string =>
  value === undefined
    ? "–"
    : value === null
      ? "none"
      : Array.isArray(value)
        ? value.map(valueText).join(", ")
        : typeof value === "string"
          ? words(value)
          : JSON.stringify(value);
