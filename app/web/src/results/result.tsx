import { Link } from "wouter";
import { Card, Facts } from "../parts/common";
import { bytes, number, seconds, words } from "../parts/words";
import { BeforeAfter, SizeBars, TimeBars } from "./before-after";
import { CopyAs } from "./copy";
import { Curves } from "./curves";
import { Files } from "./files";
import { Layers } from "./layers";
import { SensitivityTable } from "./sensitivity";
import { TargetResult } from "./target";
import type { Job, Metrics } from "./types";
import "../style/results.css";

/** What came of a job that has succeeded. */
export function JobResult({ job }: { job: Job }) {
  const metrics = job.metrics;
  if (!metrics) return null;
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
      <Card title="Do the same from elsewhere">
        <CopyAs spec={job.spec as unknown as Record<string, unknown>} kind="job" />
      </Card>
    </>
  );
}

/** What somebody may have hoped for and did not get, with the reason where it is known. */
function Shortfalls({ metrics }: { metrics: Metrics }) {
  const { before, after } = metrics;
  const sentences: string[] = [];
  const zeros = after.nonzero_parameters < 0.95 * after.parameters;
  const kept = Object.keys(after.bytes).filter(
    (name) => (before.bytes[name] ?? 0) > 0 && (after.bytes[name] ?? 0) >= 0.99 * (before.bytes[name] ?? 0),
  );
  if (kept.length > 0) {
    const why = zeros
      ? " Zeros take as much room as other numbers: a compressed download gets smaller, or the export sparse_npz."
      : "";
    sentences.push(`Not smaller: ${kept.map((name) => words(name)).join(", ")}.${why}`);
  }
  const timed = after.latency.filter((each) => each.speed_up_interval);
  if (timed.length > 0 && timed.every((each) => (each.speed_up_interval?.[0] ?? 0) <= 1)) {
    const why =
      zeros && after.macs >= 0.99 * before.macs
        ? " Zeros are multiplied like other numbers; removing units or channels makes layers really smaller."
        : "";
    sentences.push(`Not surely faster in any of the measurements.${why}`);
  }
  if (!metrics.accuracy_measured) {
    sentences.push("Accuracy was not measured: that needs data that were held out of the training.");
  } else if (metrics.unlabelled) {
    sentences.push("The data have no targets: metrics say how often the answers are the original's.");
  }
  if (metrics.target && !metrics.target.met) sentences.push("The goal was not reached.");
  if (metrics.equality && !metrics.equality.holds) {
    sentences.push("The smaller model does not answer exactly as the one with the parts zeroed did.");
  }
  if (sentences.length === 0) return null;
  return (
    <ul className="shortfalls">
      {sentences.map((sentence) => (
        <li key={sentence}>{sentence}</li>
      ))}
    </ul>
  );
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
