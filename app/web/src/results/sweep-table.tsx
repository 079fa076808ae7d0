import type { ComparedJob, State, Sweep } from "../api/client";
import { useState } from "react";
import { percent, words } from "../parts/words";
import { measuresOf, metricsOf, metricText, valueText } from "./figures";
import { MemberActions, memberName } from "./member";
import { Scroll } from "../parts/scroll";

interface Column {
  key: string;
  name: string;
  value: (job: ComparedJob) => unknown;
  text: (job: ComparedJob) => string;
  number: boolean;
}

/** Every job of the sweep; the heads of the columns sort. */
export function SweepTable(props: { sweep: Sweep; chosen: string | null; choose: (id: string) => void }) {
  const { sweep } = props;
  const [by, setBy] = useState<{ key: string; down: boolean } | null>(null);
  const columns = columnsOf(sweep);
  const column = columns.find((each) => each.key === by?.key);
  const jobs = column ? sorted(sweep.jobs, column, by?.down ?? false) : sweep.jobs;
  return (
    <Scroll label="All jobs of the sweep" tall>
      <table className="sweep-jobs">
        <thead>
          <tr>
            <th scope="col">Look</th>
            {columns.map((each) => {
              const here = each.key === by?.key;
              return (
                <th
                  key={each.key}
                  scope="col"
                  className={each.number ? "number" : undefined}
                  aria-sort={here ? (by.down ? "descending" : "ascending") : "none"}
                >
                  <button
                    type="button"
                    className="sort"
                    onClick={() => setBy({ key: each.key, down: here ? !by.down : false })}
                  >
                    {each.name}
                    <span aria-hidden="true">{here ? (by.down ? " ↓" : " ↑") : ""}</span>
                  </button>
                </th>
              );
            })}
            <th scope="col">Actions</th>
          </tr>
        </thead>
        <tbody>
          {jobs.map((job) => (
            <tr key={job.job} className={job.job === props.chosen ? "chosen-row" : undefined}>
              <td>
                {job.after ? (
                  <button type="button" className="quiet" onClick={() => props.choose(job.job)}>
                    Figures<span className="hidden"> of {memberName(job)}</span>
                  </button>
                ) : (
                  "–"
                )}
              </td>
              {columns.map((each) => (
                <td key={each.key} className={each.number ? "number" : undefined}>
                  {each.text(job)}
                </td>
              ))}
              <td>
                <MemberActions member={job} />
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </Scroll>
  );
}

function columnsOf(sweep: Sweep): Column[] {
  const states = sweep.jobs.flatMap((job): State[] => (job.after ? [job.after] : []));
  const varied = [...new Set(sweep.jobs.flatMap((job) => Object.keys(job.varied)))];
  const metrics = [...new Set(states.flatMap(metricsOf))];
  return [
    ...varied.map((path) => ({
      key: path,
      name: words(path.split(".").slice(-2).join(" ")),
      value: (job: ComparedJob) => job.varied[path],
      text: (job: ComparedJob) => valueText(job.varied[path]),
      number: sweep.jobs.every((job) => typeof job.varied[path] === "number"),
    })),
    {
      key: "status",
      name: "Status",
      value: (job) => job.status,
      text: (job) => (job.status === "running" ? `running, ${percent(job.share)}` : job.status),
      number: false,
    },
    {
      key: "pareto",
      name: "Front",
      value: (job) => Number(job.pareto),
      text: (job) => (job.pareto ? "✓ yes" : job.after ? "no" : "–"),
      number: false,
    },
    ...metrics.map((name) => ({
      key: `metric.${name}`,
      name: words(name),
      value: (job: ComparedJob) => job.after?.evaluation[name]?.value,
      text: (job: ComparedJob) => (job.after ? metricText(name, job.after.evaluation[name]?.value) : "–"),
      number: true,
    })),
    ...measuresOf(states).map((measure) => ({
      key: measure.key,
      name: measure.name,
      value: (job: ComparedJob) => (job.after ? measure.of(job.after) : null),
      text: (job: ComparedJob) => {
        const value = job.after ? measure.of(job.after) : null;
        return value === null ? "–" : measure.text(value);
      },
      number: true,
    })),
  ];
}

/** By the column; jobs without a value come last either way. */
function sorted(jobs: ComparedJob[], column: Column, down: boolean): ComparedJob[] {
  const sign = down ? -1 : 1;
  return [...jobs].sort((one, other) => {
    const [a, b] = [column.value(one), column.value(other)];
    const missing = Number(a === null || a === undefined) - Number(b === null || b === undefined);
    if (missing !== 0 || a === null || a === undefined) return missing;
    if (typeof a === "number" && typeof b === "number") return sign * (a - b);
    return sign * String(a).localeCompare(String(b), "en", { numeric: true });
  });
}
