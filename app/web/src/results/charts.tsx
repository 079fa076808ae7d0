// Charts by recharts: loaded when the first of them is shown, not with the page.
import {
  CartesianGrid,
  ErrorBar,
  Line,
  LineChart,
  ReferenceLine,
  ResponsiveContainer,
  Scatter,
  ScatterChart,
  Tooltip,
  XAxis,
  YAxis,
} from "recharts";
import { number } from "../parts/words";

const AXIS = { stroke: "var(--soft)", tick: { fill: "var(--soft)", fontSize: 12 } };
const BOX = {
  contentStyle: { background: "var(--card)", border: "1px solid var(--line)", borderRadius: 8 },
  labelStyle: { color: "var(--ink)" },
  itemStyle: { color: "var(--ink)" },
};
const MARGIN = { top: 10, right: 14, bottom: 22, left: 4 };

export interface CurvePoint {
  epoch: number;
  training: number | null;
  validation: number | null;
}

/** One figure of the training over its epochs; `cuts` are epochs before which something was cut. */
export function CurveChart(props: {
  points: CurvePoint[];
  cuts: number[];
  logarithmic: boolean;
  /** Ends of the axis of values; chosen by the values when left out. */
  domain?: [number, number];
}) {
  const dot = props.points.length < 40;
  return (
    <ResponsiveContainer width="100%" height={210}>
      <LineChart data={props.points} margin={MARGIN} accessibilityLayer={false}>
        <CartesianGrid stroke="var(--line)" vertical={false} />
        <XAxis
          dataKey="epoch"
          type="number"
          domain={[1, Math.max(2, props.points.length)]}
          allowDecimals={false}
          label={{ value: "epoch", position: "insideBottom", offset: -12, fill: "var(--soft)", fontSize: 12 }}
          {...AXIS}
        />
        <YAxis
          width={48}
          scale={props.logarithmic ? "log" : "auto"}
          domain={props.domain ?? ["auto", "auto"]}
          tickFormatter={short}
          {...AXIS}
        />
        {props.cuts.map((epoch) => (
          <ReferenceLine key={epoch} x={epoch - 0.5} stroke="var(--mark)" strokeDasharray="2 3" />
        ))}
        <Tooltip formatter={(value) => number(Number(value))} labelFormatter={(at) => `Epoch ${at}`} {...BOX} />
        <Line
          dataKey="training"
          stroke="var(--before)"
          strokeWidth={2}
          strokeDasharray="6 4"
          dot={dot && { r: 2.5, fill: "var(--before)", strokeDasharray: "none" }}
          isAnimationActive={false}
        />
        <Line
          dataKey="validation"
          stroke="var(--leaf)"
          strokeWidth={2}
          dot={dot && { r: 3, fill: "var(--leaf)" }}
          isAnimationActive={false}
        />
      </LineChart>
    </ResponsiveContainer>
  );
}

/** On one line, and no longer than it must be. */
const tick = (text: string): string => text.replace(/\.0+(?=\D|$)/, "").replaceAll(" ", "\u00a0");

const short = (value: number): string =>
  Math.abs(value) >= 1000
    ? new Intl.NumberFormat("en", { notation: "compact" }).format(value)
    : String(Number(value.toPrecision(3)));

export interface TrialPoint {
  keep: number;
  value: number;
  error?: [number, number];
}

/** What each candidate of a search measured, over the share that it kept. */
export function TrialChart(props: { trials: TrialPoint[]; asked: number; y: string }) {
  return (
    <ResponsiveContainer width="100%" height={260}>
      <ScatterChart margin={MARGIN} accessibilityLayer={false}>
        <CartesianGrid stroke="var(--line)" />
        <XAxis
          dataKey="keep"
          name="kept"
          type="number"
          unit=" %"
          domain={[0, 100]}
          label={{ value: "share kept", position: "insideBottom", offset: -12, fill: "var(--soft)", fontSize: 12 }}
          {...AXIS}
        />
        <YAxis dataKey="value" name={props.y} type="number" width={52} domain={["auto", "auto"]} tickFormatter={short} {...AXIS} />
        <ReferenceLine
          y={props.asked}
          stroke="var(--mark)"
          strokeDasharray="5 4"
          ifOverflow="extendDomain"
          label={{ value: "asked", position: "insideTopRight", fill: "var(--mark)", fontSize: 12 }}
        />
        <Tooltip formatter={(value) => number(Number(value))} {...BOX} />
        <Scatter data={props.trials} fill="var(--leaf)" isAnimationActive={false}>
          <ErrorBar dataKey="error" direction="y" width={5} stroke="var(--soft)" isAnimationActive={false} />
        </Scatter>
      </ScatterChart>
    </ResponsiveContainer>
  );
}

export interface ParetoPoint {
  id: string;
  name: string;
  x: number;
  y: number;
  error?: [number, number];
  front: boolean;
}

interface ParetoProps {
  points: ParetoPoint[];
  before: { x: number; y: number } | null;
  x: { name: string; text: (value: number) => string };
  y: { name: string; text: (value: number) => string };
  chosen: string | null;
  choose: (id: string) => void;
}

/** Size or time against a metric; each point is a button. */
export function ParetoChart(props: ParetoProps) {
  const front = props.points.filter((point) => point.front).sort((a, b) => a.x - b.x);
  // The smallest first: the order that the Tab key goes through them.
  const points = [...props.points].sort((a, b) => a.x - b.x);
  return (
    <ResponsiveContainer width="100%" height={360}>
      <ScatterChart margin={{ ...MARGIN, bottom: 28 }} accessibilityLayer={false}>
        <CartesianGrid stroke="var(--line)" />
        <XAxis
          dataKey="x"
          type="number"
          domain={[0, "auto"]}
          tickFormatter={(value: number) => tick(props.x.text(value))}
          tickCount={5}
          minTickGap={18}
          label={{ value: props.x.name, position: "insideBottom", offset: -16, fill: "var(--soft)", fontSize: 12 }}
          {...AXIS}
        />
        <YAxis dataKey="y" type="number" width={58} domain={["auto", "auto"]} tickFormatter={(value: number) => tick(props.y.text(value))} tickCount={6} {...AXIS} />
        {props.before && (
          <Scatter
            data={[props.before]}
            shape={(at: { cx?: number; cy?: number }) => (
              <g aria-hidden="true">
                <rect x={(at.cx ?? 0) - 6} y={(at.cy ?? 0) - 6} width={12} height={12} fill="var(--before)" />
                <text x={(at.cx ?? 0) - 10} y={(at.cy ?? 0) + 20} textAnchor="end" fontSize={12} fill="var(--soft)">
                  before
                </text>
              </g>
            )}
            isAnimationActive={false}
          />
        )}
        <Scatter
          data={front}
          line={{ stroke: "var(--leaf)", strokeWidth: 2 }}
          lineJointType="linear"
          shape={() => <g />}
          isAnimationActive={false}
        />
        <Scatter
          data={points}
          shape={(at: Dot) => <PointButton {...at} {...props} />}
          isAnimationActive={false}
        >
          <ErrorBar dataKey="error" direction="y" width={5} stroke="var(--soft)" isAnimationActive={false} />
        </Scatter>
      </ScatterChart>
    </ResponsiveContainer>
  );
}

interface Dot {
  cx?: number;
  cy?: number;
  payload?: ParetoPoint;
}

function PointButton({ cx = 0, cy = 0, payload, chosen, choose, x, y }: Dot & ParetoProps) {
  if (!payload) return <g />;
  const here = payload.id === chosen;
  const said = `${payload.name}: ${x.name} ${x.text(payload.x)}, ${y.name} ${y.text(payload.y)}${
    payload.front ? ", on the front" : ""
  }`;
  return (
    <g
      className="point"
      role="button"
      tabIndex={0}
      aria-label={said}
      aria-pressed={here}
      onClick={() => choose(payload.id)}
      onKeyDown={(event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        choose(payload.id);
      }}
    >
      <title>{said}</title>
      <circle cx={cx} cy={cy} r={16} fill="transparent" />
      {here && <circle cx={cx} cy={cy} r={12} fill="none" stroke="var(--mark)" strokeWidth={3} />}
      <circle
        className="dot"
        cx={cx}
        cy={cy}
        r={payload.front ? 7 : 5.5}
        fill={payload.front ? "var(--leaf)" : "var(--card)"}
        stroke={payload.front ? "var(--leaf)" : "var(--before)"}
        strokeWidth={2}
      />
    </g>
  );
}
