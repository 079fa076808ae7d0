import type { Job, Metrics } from "../api/client";
import { Link } from "wouter";
import { Card, Facts } from "../parts/common";
import { bytes, number, seconds, words } from "../parts/words";
import { BeforeAfter, SizeBars, TimeBars } from "./before-after";
import { CopyAs } from "./copy";
import { Curves } from "./curves";
import { isFaster, isLess } from "./figures";
import { Files } from "./files";
import { Layers } from "./layers";
import { SensitivityTable } from "./sensitivity";
import { TargetResult } from "./target";
import "../style/results.css";

/** What came of a job: of one that did not succeed, its log and a way to start anew. */
export function JobResult({ job }: { job: Job }) {
  const metrics = job.metrics;
  if (!job.done) return null;
  if (!metrics) {
    return (
      <>
        <Card title="What can be done now">
          <p>
            <Link href={`/models/${job.model}?from=${job.id}`}>Start from this</Link>: change what was asked, and submit
            it anew. The log below tells how far the job came.
          </p>
        </Card>
        <Files job={job} />
        <Elsewhere job={job} />
      </>
    );
  }
  return (
    <>
      <Card title="Result">
        <ul className="verdict">
          {metrics.verdict.map((sentence) => (
            <li key={sentence}>{sentence}</li>
          ))}
        </ul>
        <Shortfalls metrics={metrics} />
        <p className="row actions">
          <Link href={`/models/${job.model}?from=${job.id}`}>Start from this</Link>
          <Link href={`/compare/${job.id}`}>Compare with…</Link>
        </p>
      </Card>
      <Files job={job} />
      <Card title="Before and after">
        <BeforeAfter metrics={metrics} />
      </Card>
      <div className="grid">
        <Card title="Size">
          <SizeBars before={metrics.before} after={metrics.after} />
        </Card>
        {metrics.after.latency.length > 0 && (
          <Card title="Time for one call">
            <TimeBars before={metrics.before} after={metrics.after} />
          </Card>
        )}
      </div>
      {metrics.target && (
        <Card title="Goal">
          <TargetResult target={metrics.target} />
        </Card>
      )}
      <Card title="Layers">
        <Layers layers={metrics.per_layer} />
      </Card>
      {metrics.history.length > 0 && (
        <Card title="Training">
          <Curves history={metrics.history} />
        </Card>
      )}
      {metrics.sensitivity && (
        <Card title="Sensitivity of the layers">
          <SensitivityTable figure={metrics.sensitivity} />
        </Card>
      )}
      <Card title="How it was done">
        {metrics.notes.length > 0 && (
          <ul>
            {metrics.notes.map((note) => (
              <li key={note}>{note}</li>
            ))}
          </ul>
        )}
        <How metrics={metrics} />
      </Card>
      <Elsewhere job={job} />
    </>
  );
}

function Elsewhere({ job }: { job: Job }) {
  return (
    <Card title="Do the same from elsewhere">
      <CopyAs spec={job.spec as unknown as Record<string, unknown>} kind="job" />
    </Card>
  );
}

/** What somebody may have hoped for and did not get, in short; the verdict has the reasons. */
function Shortfalls({ metrics }: { metrics: Metrics }) {
  const sentences = shortfalls(metrics);
  if (sentences.length === 0) return null;
  return (
    <ul className="shortfalls">
      {sentences.map((sentence) => (
        <li key={sentence}>{sentence}</li>
      ))}
    </ul>
  );
}

function shortfalls({ before, after, target, equality, accuracy_measured }: Metrics): string[] {
  const kept = Object.entries(after.bytes).filter(
    ([name, size]) => (before.bytes[name] ?? 0) > 0 && !isLess(before.bytes[name] ?? 0, size),
  );
  const timed = after.latency.filter((each) => each.speed_up_interval);
  return [
    ...(target && !target.met ? ["The goal was not reached."] : []),
    ...(kept.length > 0 ? [`Files not noticeably smaller: ${kept.map(([name]) => words(name)).join(", ")}.`] : []),
    ...(timed.length > 0 && !timed.some(isFaster) ? ["Not noticeably faster in any of the measurements."] : []),
    ...(accuracy_measured ? [] : ["Nobody knows yet how accurate it is."]),
    ...(equality && !equality.holds
      ? ["The smaller model does not answer exactly as the one with the parts zeroed did."]
      : []),
  ];
}

function How({ metrics }: { metrics: Metrics }) {
  const phases = Object.entries(metrics.phases_seconds);
  const whole = phases.reduce((sum, [, time]) => sum + time, 0);
  return (
    <>
      <Facts
        facts={[
          ["Took", seconds(whole)],
          ["Memory at its peak", bytes(metrics.peak_memory_bytes)],
          ["Seed", String(metrics.seed)],
          ["Device", metrics.device],
          ...(metrics.loss ? [["Loss", words(metrics.loss)] as [string, string]] : []),
          ...(metrics.equality
            ? [
                [
                  "Largest difference made by removing",
                  number(metrics.equality.max_abs_difference),
                ] as [string, string],
              ]
            : []),
        ]}
      />
      <p className="soft">
        {phases.map(([phase, time]) => `${words(phase)} ${seconds(time)}`).join(" · ")}
        <br />
        {Object.entries(metrics.versions)
          .map(([name, version]) => `${name} ${version}`)
          .join(" · ")}
      </p>
    </>
  );
}
