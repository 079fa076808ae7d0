import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "wouter";
import { api, asked, type Sweep } from "../api/client";
import { useSweep } from "../api/hooks";
import { Card, DownloadButton, Failure, Progress, Waiting } from "../parts/common";
import { when } from "../parts/words";
import { Front } from "../results/front";
import { memberName, Panel } from "../results/member";
import { SweepTable } from "../results/sweep-table";
import "../style/results.css";

/** A sweep: how far it is, its models as points, and as a table. */
export default function SweepPage({ id }: { id: string }) {
  const { data: sweep, error, isPending } = useSweep(id);
  const [chosen, setChosen] = useState<string | null>(null);
  if (isPending) return <Waiting>Looking for the sweep</Waiting>;
  if (!sweep) return <Failure error={error} />;
  const member = sweep.jobs.find((each) => each.job === chosen);
  return (
    <>
      <h1>{sweep.name ?? "Sweep"}</h1>
      <p className="soft">
        {sweep.jobs.length} jobs, begun {when(sweep.created_at)}
        {sweep.expires_at && `; the first of them is deleted on ${when(sweep.expires_at)}`}
      </p>
      <Failure error={error} />
      <Standing sweep={sweep} />
      <Card title="Which models are worth it">
        <Front sweep={sweep} chosen={chosen} choose={setChosen} />
        {member && <Panel key={member.job} member={member} before={sweep.before} close={() => setChosen(null)} />}
      </Card>
      <Card title="All jobs">
        <SweepTable sweep={sweep} chosen={chosen} choose={setChosen} />
        {sweep.jobs.some((job) => job.after) && (
          <p className="row">
            <DownloadButton url={`/v1/sweeps/${id}/table.csv`} name="table.csv">
              Table as CSV
            </DownloadButton>
            <DownloadButton url={`/v1/sweeps/${id}/plot.svg`} name="plot.svg">
              Plot as SVG
            </DownloadButton>
            <Link href={`/compare/${best(sweep).join(",")}`}>Compare the Pareto front side by side</Link>
          </p>
        )}
      </Card>
      <Errors sweep={sweep} />
    </>
  );
}

const MOST_SIDE_BY_SIDE = 6;
const best = (sweep: Sweep): string[] =>
  sweep.jobs
    .filter((job) => job.pareto)
    .slice(0, MOST_SIDE_BY_SIDE)
    .map((job) => job.job);

function Standing({ sweep }: { sweep: Sweep }) {
  const queries = useQueryClient();
  const act = useMutation({
    mutationFn: (what: "cancel" | "retry") => {
      const params = { params: { path: { sweep_id: sweep.id } } };
      return what === "cancel"
        ? asked(api.POST("/v1/sweeps/{sweep_id}/cancel", params))
        : asked(api.POST("/v1/sweeps/{sweep_id}/retry", params));
    },
    onSuccess: () => queries.invalidateQueries({ queryKey: ["sweep", sweep.id] }),
  });
  const counts = Object.entries(sweep.counts).filter(([, number]) => number > 0);
  const again = (sweep.counts.failed ?? 0) + (sweep.counts.cancelled ?? 0);
  return (
    <Card title={sweep.done ? "Done" : "Under way"}>
      {!sweep.done && <Progress share={sweep.share} label="Progress of the sweep" />}
      <p className="row" role="status">
        {counts.map(([status, number]) => (
          <span key={status} className={`status ${status}`}>
            {number} {status}
          </span>
        ))}
      </p>
      <p className="row">
        {!sweep.done && (
          <button type="button" className="danger" disabled={act.isPending} onClick={() => act.mutate("cancel")}>
            Cancel the jobs that are left
          </button>
        )}
        {again > 0 && (
          <button type="button" className="quiet" disabled={act.isPending} onClick={() => act.mutate("retry")}>
            Try the {again} that did not succeed again
          </button>
        )}
      </p>
      <Failure error={act.error} />
    </Card>
  );
}

function Errors({ sweep }: { sweep: Sweep }) {
  const failed = sweep.jobs.filter((job) => job.error);
  if (failed.length === 0) return null;
  return (
    <Card title="What went wrong">
      <ul>
        {failed.map((job) => (
          <li key={job.job}>
            <Link href={`/jobs/${job.job}`}>{memberName(job)}</Link>:{" "}
            {job.error}
          </li>
        ))}
      </ul>
    </Card>
  );
}
