import { useQueries } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useLocation } from "wouter";
import type { Job } from "../api/client";
import { useJobs, watchedJob } from "../api/hooks";
import { Choose } from "../parts/choose";
import { Card, Failure, Waiting } from "../parts/common";
import { count, jobName, when, words } from "../parts/words";
import { Bars } from "../results/bars";
import {
  flat,
  intervalText,
  layerAfter,
  LAYER_MEASURES,
  type LayerMeasure,
  lowerIsBetter,
  type Measure,
  measuresOf,
  metricsOf,
  metricText,
  valueText,
} from "../results/figures";
import { Scroll } from "../parts/scroll";
import "../style/results.css";

type Done = Job & { metrics: NonNullable<Job["metrics"]> };
const isDone = (job: Job): job is Done => job.metrics !== null;
const letter = (at: number): string => String.fromCharCode(65 + (at % 26));

/** Jobs side by side. */
export default function ComparePage({ ids }: { ids: string[] }) {
  const wanted = [...new Set(ids.filter(Boolean))];
  const answers = useQueries({
    queries: wanted.map((id) => watchedJob(id, 2000)),
  });
  const jobs = answers.flatMap((answer) => (answer.data ? [answer.data] : []));
  const done = jobs.filter(isDone);
  return (
    <>
      <h1>Compare jobs</h1>
      {answers.map((answer, at) => (
        <Failure key={wanted[at]} error={answer.error} />
      ))}
      {answers.some((answer) => answer.isPending) && <Waiting>Looking for the jobs</Waiting>}
      <Chosen jobs={jobs} ids={wanted} />
      {jobs.length > 1 && <Differences jobs={jobs} />}
      {done.length > 0 && <Figures jobs={done} all={jobs} />}
      {done.length > 1 && <BarsOf jobs={done} all={jobs} />}
      {done.length > 1 && <LayersOf jobs={done} all={jobs} />}
    </>
  );
}

const address = (ids: string[]): string => `/compare/${ids.join(",")}`;

function Chosen({ jobs, ids }: { jobs: Job[]; ids: string[] }) {
  const [, go] = useLocation();
  const [other, setOther] = useState("");
  const recent = useJobs();
  const more = (recent.data?.pages ?? [])
    .flatMap((page) => page.items)
    .filter((job) => job.status === "succeeded" && !ids.includes(job.id));
  return (
    <Card title="Jobs">
      <ul className="chosen">
        {jobs.map((job, at) => (
          <li key={job.id} className="row">
            <strong className="letter">{letter(at)}</strong>
            <Link href={`/jobs/${job.id}`}>{jobName(job)}</Link>
            <span className={`status ${job.status}`}>{job.status}</span>
            <span className="soft">{when(job.created_at)}</span>
            {ids.length > 1 && (
              <button type="button" className="quiet" onClick={() => go(address(ids.filter((id) => id !== job.id)))}>
                Remove<span className="hidden"> {letter(at)}</span>
              </button>
            )}
          </li>
        ))}
      </ul>
      <Failure error={recent.error} />
      <form
        className="row"
        onSubmit={(event) => {
          event.preventDefault();
          if (other) go(address([...ids, other]));
          setOther("");
        }}
      >
        <label className="inline grow">
          <span>Add</span>
          <select value={other} onChange={(event) => setOther(event.target.value)}>
            <option value="">{more.length > 0 ? "a recent job…" : "(there is no other that succeeded)"}</option>
            {more.map((job) => (
              <option key={job.id} value={job.id}>
                {jobName(job)}, {when(job.created_at)}, {job.id.slice(-6)}
              </option>
            ))}
          </select>
        </label>
        <button type="submit" disabled={!other}>
          Compare
        </button>
      </form>
    </Card>
  );
}

function Heads({ jobs, all }: { jobs: Job[]; all: Job[] }) {
  return jobs.map((job) => (
    <th key={job.id} scope="col" className="number">
      {letter(all.indexOf(job))}
    </th>
  ));
}

function Differences({ jobs }: { jobs: Job[] }) {
  const specs = jobs.map((job) => flat(job.spec));
  const all = [...new Set(specs.flatMap(Object.keys))];
  // Left out says as much as null; a part that is null in one job is told by its fields in another.
  const paths = all.filter(
    (path) =>
      new Set(specs.map((spec) => JSON.stringify(spec[path] ?? null))).size > 1 &&
      !all.some((other) => other.startsWith(`${path}.`)),
  );
  return (
    <Card title="What differs in what was asked">
      {paths.length === 0 ? (
        <p>Nothing: the specs are the same.</p>
      ) : (
        <Scroll label="Fields that differ">
          <table className="compared">
            <thead>
              <tr>
                <th scope="col">Field</th>
                <Heads jobs={jobs} all={jobs} />
              </tr>
            </thead>
            <tbody>
              {paths.map((path) => (
                <tr key={path}>
                  <th scope="row">
                    <code>{path}</code>
                  </th>
                  {jobs.map((job, at) => (
                    <td key={job.id} className="number">
                      {valueText(specs[at]?.[path])}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
    </Card>
  );
}

function Figures({ jobs, all }: { jobs: Done[]; all: Job[] }) {
  const afters = jobs.map((job) => job.metrics.after);
  const metrics = [...new Set(afters.flatMap(metricsOf))];
  return (
    <Card title="What came of it">
      <Scroll label="Figures of the jobs">
        <table className="compared">
          <thead>
            <tr>
              <th scope="col">Figure</th>
              {sameBefore(jobs) && (
                <th scope="col" className="number">
                  Before
                </th>
              )}
              <Heads jobs={jobs} all={all} />
            </tr>
          </thead>
          <tbody>
            {metrics.map((name) => (
              <FigureRow
                key={name}
                name={words(name)}
                values={afters.map((after) => after.evaluation[name]?.value ?? null)}
                lower={lowerIsBetter(name)}
                text={(value) => metricText(name, value)}
                small={afters.map((after) => {
                  const figure = after.evaluation[name];
                  return figure ? intervalText(name, figure) : "";
                })}
                before={sameBefore(jobs) ? (jobs[0]?.metrics.before.evaluation[name]?.value ?? null) : undefined}
              />
            ))}
            {measuresOf(afters).map((measure) => (
              <FigureRow
                key={measure.key}
                name={measure.name}
                values={afters.map(measure.of)}
                lower
                text={measure.text}
                before={sameBefore(jobs) && jobs[0] ? measure.of(jobs[0].metrics.before) : undefined}
              />
            ))}
          </tbody>
        </table>
      </Scroll>
      {jobs.length > 1 && <p className="soft">✓ is the best of its row.</p>}
      {!sameBefore(jobs) && <p className="soft">The jobs began with different models.</p>}
    </Card>
  );
}

const sameBefore = (jobs: Done[]): boolean => new Set(jobs.map((job) => job.model)).size === 1;

function FigureRow(props: {
  name: string;
  values: (number | null)[];
  lower: boolean;
  text: (value: number) => string;
  small?: string[];
  before?: number | null;
}) {
  const there = props.values.filter((value) => value !== null);
  const best = props.lower ? Math.min(...there) : Math.max(...there);
  const differ = there.some((value) => value !== best);
  return (
    <tr>
      <th scope="row">{props.name}</th>
      {props.before !== undefined && (
        <td className="number soft">{props.before === null ? "–" : props.text(props.before)}</td>
      )}
      {props.values.map((value, at) => {
        const wins = differ && value === best;
        return (
          <td key={at} className={wins ? "number best" : "number"}>
            {value === null ? "–" : props.text(value)}
            {wins && (
              <>
                <span aria-hidden="true"> ✓</span>
                <span className="hidden"> best</span>
              </>
            )}
            {props.small?.[at] && <small className="soft">{props.small[at]}</small>}
          </td>
        );
      })}
    </tr>
  );
}

function BarsOf({ jobs, all }: { jobs: Done[]; all: Job[] }) {
  const measures = measuresOf(jobs.map((job) => job.metrics.after));
  const [key, setKey] = useState("macs");
  const measure = measures.find((each) => each.key === key) ?? (measures[0] as Measure);
  const befores = jobs.map((job) => measure.of(job.metrics.before));
  const longest = Math.max(...befores.map((value) => value ?? 0), ...jobs.map((job) => measure.of(job.metrics.after) ?? 0));
  return (
    <Card title="Side by side">
      <Choose label="Show" value={measure.key} options={measures.map(({ key, name }) => [key, name])} set={setKey} />
      <Bars
        label={measure.name}
        line={sameBefore(jobs) && befores[0] ? "before" : undefined}
        bars={jobs.flatMap((job, at) => {
          const value = measure.of(job.metrics.after);
          const one = sameBefore(jobs) && befores[0] ? befores[0] : longest;
          return value === null
            ? []
            : [
                {
                  key: job.id,
                  name: `${letter(all.indexOf(job))}: ${jobName(job)}`,
                  share: one > 0 ? value / one : 0,
                  text: `${befores[at] ? `${measure.text(befores[at])} → ` : ""}${measure.text(value)}`,
                },
              ];
        })}
      />
    </Card>
  );
}

function LayersOf({ jobs, all }: { jobs: Done[]; all: Job[] }) {
  const [measure, setMeasure] = useState<LayerMeasure>("nonzero");
  const names = [...new Set(jobs.flatMap((job) => job.metrics.per_layer.map((layer) => layer.name)))];
  const rows = names
    .map((name) => ({
      name,
      layers: jobs.map((job) => job.metrics.per_layer.find((layer) => layer.name === name)),
    }))
    .filter(({ layers }) => new Set(layers.map((layer) => (layer ? layerAfter(layer, measure) : null))).size > 1);
  return (
    <Card title="Layers that differ">
      <Choose label="Show" value={measure} options={LAYER_MEASURES} set={setMeasure} />
      {rows.length === 0 ? (
        <p>None: all layers have as many.</p>
      ) : (
        <Scroll label="Layers that differ" tall>
          <table>
            <thead>
              <tr>
                <th scope="col">Layer</th>
                <Heads jobs={jobs} all={all} />
              </tr>
            </thead>
            <tbody>
              {rows.map(({ name, layers }) => (
                <tr key={name}>
                  <th scope="row">{name}</th>
                  {layers.map((layer, at) => (
                    <td key={at} className="number">
                      {layer ? count(layerAfter(layer, measure)) : "–"}
                      {layer?.units_after !== null && layer?.units_after !== undefined && (
                        <small className="soft">{layer.units_after} units</small>
                      )}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </Scroll>
      )}
    </Card>
  );
}
