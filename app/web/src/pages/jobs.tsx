import { useState } from "react";
import { Link } from "wouter";
import { useJobs, useSweeps } from "../api/hooks";
import type { Job } from "../api/client";
import { Card, Failure, Progress, Waiting } from "../parts/common";
import { go } from "../parts/route";
import { Scroll } from "../parts/scroll";
import { percent, when, words } from "../parts/words";

export default function JobsPage() {
  const jobs = useJobs();
  const sweeps = useSweeps();
  const [chosen, setChosen] = useState<string[]>([]);
  const toggle = (id: string) =>
    setChosen((all) => (all.includes(id) ? all.filter((each) => each !== id) : [...all, id]));
  return (
    <>
      <h1>Jobs</h1>
      <Failure error={jobs.error} />
      {jobs.isLoading && <Waiting>Loading</Waiting>}
      {jobs.data?.items.length === 0 && (
        <p>
          None yet. <Link href="/">Start with a model.</Link>
        </p>
      )}
      {jobs.data && jobs.data.items.length > 0 && (
        <Card title="Latest first">
          <Scroll label="Jobs">
            <table>
              <thead>
                <tr>
                  <th scope="col">Compare</th>
                  <th scope="col">Job</th>
                  <th scope="col">Status</th>
                  <th scope="col">Goal</th>
                  <th scope="col">Made</th>
                </tr>
              </thead>
              <tbody>
                {jobs.data.items.map((job) => (
                  <tr key={job.id}>
                    <td>
                      <input
                        type="checkbox"
                        aria-label={`Compare ${job.id}`}
                        disabled={job.status !== "succeeded"}
                        checked={chosen.includes(job.id)}
                        onChange={() => toggle(job.id)}
                      />
                    </td>
                    <td>
                      <Link href={`/jobs/${job.id}`}>{job.id.slice(-8)}</Link>
                    </td>
                    <td>
                      <span className={`status ${job.status}`}>{job.status}</span>
                      {job.status === "running" && (
                        <Progress share={job.progress?.share ?? 0} label={`Progress of ${job.id}`} />
                      )}
                    </td>
                    <td>{goal(job)}</td>
                    <td>{when(job.created_at)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </Scroll>
          <p>
            <button
              type="button"
              disabled={chosen.length < 2}
              onClick={() => go(`/compare/${chosen.join(",")}`)}
            >
              Compare {chosen.length || ""} side by side
            </button>
          </p>
        </Card>
      )}
      {sweeps.data && sweeps.data.items.length > 0 && (
        <Card title="Sweeps">
          <ul>
            {sweeps.data.items.map((sweep) => (
              <li key={sweep.id}>
                <Link href={`/sweeps/${sweep.id}`}>{sweep.name ?? sweep.id.slice(-8)}</Link>, made{" "}
                {when(sweep.created_at)}: {sweep.done ? "done" : percent(sweep.share)}
              </li>
            ))}
          </ul>
        </Card>
      )}
    </>
  );
}

function goal({ spec }: Job): string {
  const { target, granularity } = spec.prune;
  const unit = typeof granularity === "string" ? granularity : granularity?.kind;
  if (!target) return words(unit ?? "");
  const { kind, ...settings } = target;
  const said = Object.entries(settings)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => `${words(name)} ${String(value)}`);
  return `${words(unit ?? "")}: ${words(kind ?? "")}, ${said.join(", ")}`;
}
