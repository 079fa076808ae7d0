// Parts of the API's answers that the results are drawn from.
import type { Metrics, State } from "../api/client";

export type LatencyValue = State["latency"][number];
export type Metric = State["evaluation"][string];
export type LayerFigure = Metrics["per_layer"][number];
export type SensitivityFigure = NonNullable<Metrics["sensitivity"]>;
export type TargetFigure = NonNullable<Metrics["target"]>;

export type Interval = [number, number];

/** How far the interval goes below and above the value, never less than nothing. */
export const whiskers = (value: number, ends: Interval | null | undefined): Interval | undefined =>
  ends ? [Math.max(0, value - ends[0]), Math.max(0, ends[1] - value)] : undefined;

/** Of the training: `step` is the cut of the schedule that the epoch followed. */
export interface Epoch {
  epoch: number;
  step?: number | null;
  logs: Record<string, number | null>;
}
