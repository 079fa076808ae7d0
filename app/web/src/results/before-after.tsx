import type { Metrics, State } from "../api/client";
import type { ReactNode } from "react";
import { bytes, milliseconds, number, words } from "../parts/words";
import { type Bar, Bars, left } from "./bars";
import {
  intervalText,
  isFaster,
  isLess,
  isSlower,
  latencyName,
  lowerIsBetter,
  metricsOf,
  metricText,
  sameSetting,
} from "./figures";
import { Scroll } from "../parts/scroll";
import type { LatencyValue, Metric } from "./types";

const UNCHANGED = 0.995;
const exact = new Intl.NumberFormat("en");

/** Whether less came out of it, in words: colour alone would not tell everybody. */
function change(before: number, after: number): string {
  if (before <= 0) return "";
  const share = after / before;
  if (share > 1 / UNCHANGED) return `${number(share)}× more`;
  if (share >= UNCHANGED) return "unchanged";
  return after > 0 ? `${number(Number((1 / share).toPrecision(3)))}× less` : "nothing left";
}

export function BeforeAfter({ metrics }: { metrics: Metrics }) {
  const { before, after } = metrics;
  const size = (name: string, one: number, other: number, text: (value: number) => string) => (
    <Row key={name} name={name} before={text(one)} after={text(other)} change={change(one, other)} />
  );
  const exports = Object.keys(after.bytes);
  return (
    <Scroll label="Figures before and after">
      <table className="before-after">
        <thead>
          <tr>
            <th scope="col">Figure</th>
            <th scope="col" className="number">Before</th>
            <th scope="col" className="number">After</th>
            <th scope="col" className="number">Change</th>
          </tr>
        </thead>
        <tbody>
          {size("Parameters", before.parameters, after.parameters, exact.format)}
          {size("Parameters not zero", before.nonzero_parameters, after.nonzero_parameters, exact.format)}
          {size("MACs per sample", before.macs, after.macs, exact.format)}
          {exports.map((name) => size(`File: ${words(name)}`, before.bytes[name] ?? 0, after.bytes[name] ?? 0, known))}
          {exports
            .filter((name) => (before.compressed_bytes[name] ?? 0) > 0)
            .map((name) =>
              size(`Compressed: ${words(name)}`, before.compressed_bytes[name] ?? 0, after.compressed_bytes[name] ?? 0, known),
            )}
          {metricsOf(after).map((name) => (
            <MetricRow key={name} name={words(name)} metric={name} before={before.evaluation[name]} after={after.evaluation[name]} />
          ))}
          {Object.entries(after.exported).flatMap(([file, figures]) =>
            Object.entries(figures)
              .filter(([name]) => name !== "loss")
              .map(([name, value]) => (
                <MetricRow
                  key={`${file}.${name}`}
                  name={`${words(name)} as ${words(file)}`}
                  metric={name}
                  before={before.exported[file]?.[name]}
                  after={value}
                />
              )),
          )}
          {after.latency.map((each) => (
            <TimeRow key={latencyName(each)} before={before.latency.find((one) => sameSetting(one, each))} after={each} />
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}

const known = (value: number): string => (value > 0 ? bytes(value) : "–");

function Row(props: { name: ReactNode; before: ReactNode; after: ReactNode; change: ReactNode }) {
  return (
    <tr>
      <th scope="row">{props.name}</th>
      <td className="number">{props.before}</td>
      <td className="number">{props.after}</td>
      <td className="number">{props.change}</td>
    </tr>
  );
}

function MetricRow(props: { name: string; metric: string; before?: Metric; after?: Metric }) {
  const cell = (value: Metric | undefined) =>
    value ? (
      <>
        {metricText(props.metric, value.value)}
        {value.interval && <small className="soft wrap">{intervalText(props.metric, value)}</small>}
      </>
    ) : (
      "–"
    );
  return (
    <Row
      name={props.name}
      before={cell(props.before)}
      after={cell(props.after)}
      change={metricChange(props.metric, props.before?.value, props.after?.value)}
    />
  );
}

function metricChange(metric: string, before?: number | null, after?: number | null): string {
  if (before === null || before === undefined || after === null || after === undefined) return "–";
  const better = lowerIsBetter(metric) ? after < before : after > before;
  if (after === before) return "unchanged";
  const points = metricText(metric, 0).endsWith("%");
  const size = points
    ? `${(100 * (after - before)).toFixed(2)} points`
    : number(Number((after - before).toPrecision(3)));
  return `${after > before ? "+" : ""}${size}, ${better ? "better" : "worse"}`;
}

function TimeRow({ before, after }: { before?: LatencyValue; after: LatencyValue }) {
  const cell = (value: LatencyValue | undefined) =>
    value ? (
      <>
        {milliseconds(value.p50_ms)}
        <small className="soft">p95 {milliseconds(value.p95_ms)}</small>
      </>
    ) : (
      "–"
    );
  return (
    <Row name={`Time: ${latencyName(after)}`} before={cell(before)} after={cell(after)} change={speedUp(after)} />
  );
}

function speedUp(after: LatencyValue): ReactNode {
  if (!after.speed_up) return "–";
  const [low, high] = after.speed_up_interval ?? [after.speed_up, after.speed_up];
  const said = isFaster(after) ? "× faster" : isSlower(after) ? "×, slower" : "×, not faster";
  return (
    <>
      {number(Number(after.speed_up.toPrecision(3)))}
      {said}
      {after.speed_up_interval && (
        <small className="soft">
          {number(Number(low.toPrecision(3)))} to {number(Number(high.toPrecision(3)))}
        </small>
      )}
    </>
  );
}

/** What is left of the sizes. */
export function SizeBars({ before, after }: { before: State; after: State }) {
  const bar = (name: string, one: number, other: number, text: (value: number) => string): Bar[] =>
    one > 0
      ? [
          {
            key: name,
            name,
            share: other / one,
            text: `${text(one)} → ${text(other)} (${left(other / one)})`,
            poor: !isLess(one, other),
          },
        ]
      : [];
  return (
    <Bars
      label="What is left of the sizes"
      line="before: 100 %"
      bars={[
        ...bar("Parameters not zero", before.nonzero_parameters, after.nonzero_parameters, exact.format),
        ...bar("Parameters", before.parameters, after.parameters, exact.format),
        ...bar("MACs", before.macs, after.macs, exact.format),
        ...Object.entries(after.bytes).flatMap(([name, size]) =>
          bar(`File: ${words(name)}`, before.bytes[name] ?? 0, size, bytes),
        ),
      ]}
    />
  );
}

/** The time that is left, by the median over pairs of neighbouring calls. */
export function TimeBars({ before, after }: { before: State; after: State }) {
  const bars = after.latency.flatMap((each): Bar[] => {
    const one = before.latency.find((other) => sameSetting(other, each));
    const share = each.speed_up ? 1 / each.speed_up : one ? each.p50_ms / one.p50_ms : null;
    if (share === null) return [];
    const interval = each.speed_up_interval;
    return [
      {
        key: latencyName(each),
        name: latencyName(each),
        share,
        interval: interval && interval[0] > 0 ? [1 / interval[1], 1 / interval[0]] : null,
        text: `${one ? `${milliseconds(one.p50_ms)} → ` : ""}${milliseconds(each.p50_ms)} (${left(share)})`,
        poor: !isFaster(each),
      },
    ];
  });
  return <Bars label="What is left of the time for one call" line="before: 100 %" bars={bars} />;
}
