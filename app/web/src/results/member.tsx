import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef } from "react";
import { Link, useLocation } from "wouter";
import type { ComparedJob, State } from "../api/client";
import { jobQuery } from "../api/hooks";
import { DownloadButton, Facts, Failure } from "../parts/common";
import { words } from "../parts/words";
import { intervalText, measuresOf, metricsOf, metricText, valueText } from "./figures";

/** What sets a job of a sweep apart from the others. */
export const memberName = (job: ComparedJob): string =>
  Object.entries(job.varied)
    .map(([path, value]) => `${words(path.split(".").slice(-2).join(" "))} ${valueText(value)}`)
    .join(", ") || job.job;

/** One model of a sweep, and what can be done with it. */
export function Panel(props: { member: ComparedJob; before: State | null; close: () => void }) {
  const { member, before, close } = props;
  const head = useRef<HTMLHeadingElement>(null);
  useEffect(() => head.current?.focus(), []);
  const after = member.after;
  return (
    <section
      className="panel"
      aria-labelledby="panel-head"
      onKeyDown={(event) => {
        if (event.key === "Escape") close();
      }}
    >
      <h3 id="panel-head" ref={head} tabIndex={-1}>
        {memberName(member)}
      </h3>
      {after && (
        <Facts
          facts={[
            ...metricsOf(after).map((name): [string, string] => {
              const figure = after.evaluation[name];
              const range = figure ? intervalText(name, figure) : "";
              return [words(name), `${metricText(name, figure?.value)}${range ? ` (${range})` : ""}`];
            }),
            ...measuresOf([after]).map((measure): [string, string] => {
              const [was, is] = [before ? measure.of(before) : null, measure.of(after)];
              return [measure.name, `${was === null ? "" : `${measure.text(was)} → `}${is === null ? "–" : measure.text(is)}`];
            }),
          ]}
        />
      )}
      <div className="row actions">
        <MemberActions member={member} />
        <button type="button" className="quiet" onClick={close}>
          Close
        </button>
      </div>
    </section>
  );
}

export function MemberActions({ member }: { member: ComparedJob }) {
  const named = <span className="hidden"> of {memberName(member)}</span>;
  return (
    <span className="row">
      {member.status === "succeeded" && (
        <>
          <DownloadButton url={`/v1/jobs/${member.job}/artifacts/model.keras`} name="model.keras">
            Download model.keras{named}
          </DownloadButton>
          <StartFrom member={member} />
        </>
      )}
      <Link href={`/jobs/${member.job}`}>Open job{named}</Link>
    </span>
  );
}

/** Leads to the model with this job's spec; which model it is only the job itself says. */
function StartFrom({ member }: { member: ComparedJob }) {
  const queries = useQueryClient();
  const [, go] = useLocation();
  const start = useMutation({
    mutationFn: () => queries.ensureQueryData(jobQuery(member.job)),
    onSuccess: (job) => go(`/models/${job.model}?from=${job.id}`),
  });
  return (
    <>
      <button type="button" className="quiet" onClick={() => start.mutate()}>
        Start from this<span className="hidden">: {memberName(member)}</span>
      </button>
      <Failure error={start.error} />
    </>
  );
}
