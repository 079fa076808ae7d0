import type { ComparedJob, State, Sweep } from "../api/client";
import { useState } from "react";
import { Choose } from "../parts/choose";
import { words } from "../parts/words";
import type { ParetoPoint } from "./charts";
import { lowerIsBetter, measuresOf, metricsOf, metricText, onFront } from "./figures";
import { Chart, ParetoChart } from "./lazy";
import { memberName } from "./member";
import { whiskers } from "./types";

type Ended = ComparedJob & { after: State };

/** Models by what they cost and how good they are; those that nothing beats are joined by a line. */
export function Front(props: { sweep: Sweep; chosen: string | null; choose: (id: string) => void }) {
  const { sweep } = props;
  const ended = sweep.jobs.filter((job): job is Ended => job.after !== null);
  const measures = measuresOf(ended.map((job) => job.after));
  const metrics = [...new Set(ended.flatMap((job) => metricsOf(job.after)))];
  const [x, setX] = useState("nonzero");
  const [y, setY] = useState("");
  const metric = metrics.includes(y) ? y : metrics[0];
  const measure = measures.find((each) => each.key === x) ?? measures[0];
  if (ended.length === 0) return <p className="soft">No job has succeeded yet.</p>;
  if (!measure || !metric) {
    return <p>No metric was measured, so there is nothing to weigh sizes against: a sweep with data has one.</p>;
  }
  const points = pointsOf(ended, measure.of, metric);
  const was = sweep.before ? measure.of(sweep.before) : null;
  const good = sweep.before?.evaluation[metric]?.value ?? null;
  const best = points.filter((point) => point.front).length;
  return (
    <>
      <p className="row">
        <Choose label="Across" value={measure.key} options={measures.map(({ key, name }) => [key, name])} set={setX} />
        <Choose label="Up" value={metric} options={metrics.map((each) => [each, words(each)])} set={setY} />
      </p>
      <Chart
        live
        height={360}
        label={`${measure.name} against ${words(metric)}: ${points.length} models, ${best} of them on the front. The table below has the same figures.`}
      >
        <ParetoChart
          points={points}
          before={was !== null && good !== null ? { x: was, y: good } : null}
          x={{ name: measure.name, text: measure.text }}
          y={{ name: words(metric), text: (value) => metricText(metric, value) }}
          chosen={props.chosen}
          choose={props.choose}
        />
      </Chart>
      <p className="soft key">
        <span className="key-front" aria-hidden="true" /> no other is better in both ·{" "}
        <span className="key-beaten" aria-hidden="true" /> another is ·{" "}
        <span className="key-square" aria-hidden="true" /> before pruning · lines: 95 % interval. Choose a point to
        download or go on with its model.
      </p>
    </>
  );
}

function pointsOf(jobs: Ended[], of: (state: State) => number | null, metric: string): ParetoPoint[] {
  const points = jobs.flatMap((job) => {
    const [x, figure] = [of(job.after), job.after.evaluation[metric]];
    const y = figure?.value ?? null;
    if (x === null || y === null) return [];
    const error = whiskers(y, figure?.interval);
    return [{ id: job.job, name: memberName(job), x, y, error }];
  });
  const front = onFront(points, lowerIsBetter(metric));
  return points.map((point, at) => ({ ...point, front: front[at] ?? false }));
}
