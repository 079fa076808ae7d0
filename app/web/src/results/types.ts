// Parts of the API's answers that the results are drawn from, as the hooks return them: openapi-fetch
// makes arrays of any length of the schema's pairs.
import type { useArtifacts, useJob, useSweep } from "../api/hooks";

export type Job = NonNullable<ReturnType<typeof useJob>["data"]>;
export type Sweep = NonNullable<ReturnType<typeof useSweep>["data"]>;
export type Artifact = NonNullable<ReturnType<typeof useArtifacts>["data"]>[number];
export type Metrics = NonNullable<Job["metrics"]>;
export type State = Metrics["after"];
export type ComparedJob = Sweep["jobs"][number];
export type LatencyValue = State["latency"][number];
export type Metric = State["evaluation"][string];
export type LayerFigure = Metrics["per_layer"][number];
export type SensitivityFigure = NonNullable<Metrics["sensitivity"]>;
export type TargetFigure = NonNullable<Metrics["target"]>;

export type Interval = [number, number];
export function intervalOf(ends: number[] | null | undefined): Interval | null {
  const [low, high] = ends ?? [];
  return low === undefined || high === undefined ? null : [low, high];
}

/** How far the interval goes below and above the value, never less than nothing. */
export const whiskers = (value: number, ends: Interval | null): Interval | undefined =>
  ends ? [Math.max(0, value - ends[0]), Math.max(0, ends[1] - value)] : undefined;

/** Of the training: `step` is the cut of the schedule that the epoch followed. */
export interface Epoch {
  epoch: number;
  step?: number | null;
  logs: Record<string, number | null>;
}
