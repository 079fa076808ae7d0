import { useMutation, useQueryClient } from "@tanstack/react-query";
import { lazy, Suspense, type ReactNode } from "react";
import { Link } from "wouter";
import { api, asked, type Job, type JobEvent } from "../api/client";
import { useEvents, useJob, useModel } from "../api/hooks";
import { Card, Facts, Failure, Progress, Waiting } from "../parts/common";
import { go } from "../parts/route";
import { number, percent, seconds, when, words } from "../parts/words";

const JobResult = lazy(() => import("../results/result").then((made) => ({ default: made.JobResult })));
const Curves = lazy(() => import("../results/curves").then((made) => ({ default: made.Curves })));

export default function JobPage({ id }: { id: string }) {
  const { events, connected } = useEvents(id);
  const job = useJob(id, connected);
  if (job.error && !job.data) return <Failure error={job.error} />;
  if (!job.data) return <Waiting>Loading the job</Waiting>;
  return (
    <>
      <Title job={job.data} />
      {!connected && !job.data.done && <Waiting>Connection lost; trying again</Waiting>}
      {!job.data.done && <Running job={job.data} events={events} />}
      {job.data.error && <Failed job={job.data} />}
      {job.data.done && (
        <Suspense fallback={<Waiting>Loading the result</Waiting>}>
          <JobResult job={job.data} />
        </Suspense>
      )}
      <Story events={events} />
    </>
  );
}

function Title({ job }: { job: Job }) {
  const model = useModel(job.model);
  return (
    <>
      <h1>
        {model.data?.filename ?? "Job"} <span className={`status ${job.status}`}>{job.status}</span>
      </h1>
      <p className="soft">
        Job {job.id}, made {when(job.created_at)}.{" "}
        {job.sweep && <Link href={`/sweeps/${job.sweep}`}>Part of a sweep</Link>}
      </p>
      <Actions job={job} />
    </>
  );
}

interface Act {
  request: () => Promise<unknown>;
  then: () => void;
}

function Actions({ job }: { job: Job }) {
  const queries = useQueryClient();
  const path = { params: { path: { job_id: job.id } } };
  const act = useMutation({
    mutationFn: ({ request }: Act) => request(),
    onSuccess: (_, { then }) => then(),
  });
  const again = () => void queries.invalidateQueries({ queryKey: ["job", job.id] });
  return (
    <>
      <div className="row">
        {!job.done && (
          <button
            type="button"
            className="danger"
            disabled={job.cancel_requested}
            onClick={() =>
              act.mutate({ request: () => asked(api.POST("/v1/jobs/{job_id}/cancel", path)), then: again })
            }
          >
            {job.cancel_requested ? "Cancelling…" : "Cancel"}
          </button>
        )}
        {(job.status === "failed" || job.status === "cancelled") && (
          <button
            type="button"
            onClick={() =>
              // The page is loaded anew: the events of the next attempt follow those of this one.
              act.mutate({
                request: () => asked(api.POST("/v1/jobs/{job_id}/retry", path)),
                then: () => location.reload(),
              })
            }
          >
            Run it again
          </button>
        )}
        {job.done && (
          <button
            type="button"
            className="danger"
            onClick={() => {
              if (confirm("Delete this job and its files for good?")) {
                act.mutate({
                  request: () => asked(api.DELETE("/v1/jobs/{job_id}", path) as never),
                  then: () => go("/jobs"),
                });
              }
            }}
          >
            Delete
          </button>
        )}
      </div>
      <Failure error={act.error} />
    </>
  );
}

function Running({ job, events }: { job: Job; events: JobEvent[] }) {
  const history = events
    .filter((event) => event.kind === "epoch")
    .map((event) => event.data as { epoch: number; logs: Record<string, number | null> });
  const { progress } = job;
  return (
    <Card title="Now">
      <Progress share={progress?.share ?? 0} label="Progress of the job" />
      <div role="status">
        <Facts facts={now(job)} />
      </div>
      {job.waiting_reason && <p>{job.waiting_reason}</p>}
      {history.length > 0 && (
        <Suspense fallback={null}>
          <Curves history={history} />
        </Suspense>
      )}
    </Card>
  );
}

function now({ status, progress, queue_position, attempt }: Job): [string, ReactNode][] {
  if (status === "queued") {
    return [["Phase", "waiting"], ["Before it in the queue", number(queue_position ?? 0)]];
  }
  if (!progress) return [["Phase", "starting"]];
  const facts: [string, ReactNode][] = [
    ["Phase", progress.phase],
    ["Done", percent(progress.share)],
  ];
  if (progress.steps && progress.steps > 1) facts.push(["Cut", `${progress.step} of ${progress.steps}`]);
  if (progress.epochs) facts.push(["Epoch", `${progress.epoch ?? 0} of ${progress.epochs}`]);
  for (const [name, value] of Object.entries(progress.metrics ?? {})) {
    if (value !== null) facts.push([words(name), number(value)]);
  }
  if (progress.eta_seconds != null) facts.push(["Time left, about", seconds(progress.eta_seconds)]);
  if (attempt > 1) facts.push(["Attempt", number(attempt)]);
  return facts;
}

function Failed({ job }: { job: Job }) {
  const problem = job.error as { title?: string; detail?: string; fault?: string; retryable?: boolean };
  return (
    <Card title={problem.title ?? "It failed"}>
      <Failure error={problem.detail} />
      <p className="soft">
        {problem.fault === "client"
          ? "Another spec, model or data will help; the sentence above says which."
          : "This is the service's fault, not yours."}
        {problem.retryable && " Running it again may work."}
      </p>
    </Card>
  );
}

/** What happened, in order. */
function Story({ events }: { events: JobEvent[] }) {
  const told = events.filter((event) => event.kind !== "progress");
  if (told.length === 0) return null;
  return (
    <details className="card">
      <summary>What happened ({told.length} events)</summary>
      <ol className="story">
        {told.map((event) => (
          <li key={event.id}>
            <time dateTime={new Date(1000 * event.at).toISOString()}>
              {new Date(1000 * event.at).toLocaleTimeString("en")}
            </time>{" "}
            {sentence(event)}
          </li>
        ))}
      </ol>
    </details>
  );
}

function sentence({ kind, data }: JobEvent): string {
  const said = data as Record<string, unknown>;
  if (kind === "note") return String(said.text);
  if (kind === "phase") return String(said.phase);
  if (kind === "epoch") return `epoch ${String(said.epoch)}: ${figures(said.logs)}`;
  if (kind === "evaluation") {
    const { moment, ...metrics } = said as Record<string, { value?: number } | string>;
    const values = Object.fromEntries(
      Object.entries(metrics).map(([name, metric]) => [name, (metric as { value?: number }).value]),
    );
    return `measured ${String(moment)}: ${figures(values)}`;
  }
  const rest = Object.keys(said).length ? `: ${figures(said)}` : "";
  return `${words(kind)}${rest}`;
}

function figures(values: unknown): string {
  return Object.entries((values ?? {}) as Record<string, unknown>)
    .map(([name, value]) =>
      `${words(name)} ${typeof value === "number" ? number(value) : Array.isArray(value) ? value.join(", ") : String(value)}`)
    .join(", ");
}
