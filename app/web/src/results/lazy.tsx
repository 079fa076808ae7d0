import { lazy, Suspense, type ReactNode } from "react";
import { Waiting } from "../parts/common";

export const CurveChart = lazy(() => import("./charts").then((all) => ({ default: all.CurveChart })));
export const TrialChart = lazy(() => import("./charts").then((all) => ({ default: all.TrialChart })));
export const ParetoChart = lazy(() => import("./charts").then((all) => ({ default: all.ParetoChart })));

/** A chart whose label says what it shows; `live` ones hold buttons, and are no mere picture. */
export function Chart(props: { label: string; height: number; live?: boolean; children: ReactNode }) {
  return (
    <div
      className="chart"
      role={props.live ? "group" : "img"}
      aria-label={props.label}
      style={{ minHeight: props.height }}
    >
      <Suspense fallback={<Waiting>Loading the chart</Waiting>}>{props.children}</Suspense>
    </div>
  );
}
