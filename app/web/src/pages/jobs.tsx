import { useState } from "react";
import { Link } from "wouter";
import { useJobs, useModel, useSweeps } from "../api/hooks";
import { Card, Failure, Progress, Waiting } from "../parts/common";
import { go } from "../parts/route";
import { Scroll } from "../parts/scroll";
import { jobName, percent, when } from "../parts/words";

export default function JobsPage() {
  const jobs = useJobs();
  const sweeps = useSweeps();
  const [chosen, setChosen] = useState<string[]>([]);
  const all = jobs.data?.pages.flatMap((page) => page.items);
  const toggle = (id: string) =>
    setChosen((ids) => (ids.includes(id) ? ids.filter((each) => each !== id) : [...ids, id]));
  return (
    <>
      <h1>Jobs</h1>
      <Failure error={jobs.error} />
      {jobs.isLoading && <Waiting>Loading</Waiting>}
      {all?.length === 0 && (
        <p>
          None yet. <Link href="/">Start with a model.</Link>
        </p>
      )}
      {all && all.length > 0 && (
        <Card title="Latest first">
          <Scroll label="Jobs">
            <table className="lines">
              <thead>
                <tr>
                  <th scope="col">Compare</th>
                  <th scope="col">Job</th>
                  <th scope="col">Status</th>
                  <th scope="col">Model</th>
                  <th scope="col">Goal</th>
                  <th scope="col">Made</th>
                </tr>
              </thead>
              <tbody>
                {all.map((job) => (
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
                    <td>
                      <ModelName id={job.model} />
                    </td>
                    <td>{jobName(job)}</td>
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
            </button>{" "}
            {jobs.hasNextPage && (
              <button type="button" disabled={jobs.isFetchingNextPage} onClick={() => void jobs.fetchNextPage()}>
                Older ones
              </button>
            )}
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

function ModelName({ id }: { id: string }) {
  const model = useModel(id);
  return <Link href={`/models/${id}`}>{model.data?.filename ?? id.slice(-8)}</Link>;
}
