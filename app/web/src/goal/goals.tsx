import { useMutation, useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useEffect, useState } from "react";
import { api, asked, Problem, type Job, type Model, type Plan, type Spec, type Sweep as SweepMade } from "../api/client";
import { Card, Facts, Failure, Waiting } from "../parts/common";
import { go } from "../parts/route";
import { bytes, count, percent } from "../parts/words";
import { EFFORTS, EXPORTS, GOALS, specOf, type Choice, type Goal } from "./words";

const FullSpec = lazy(() => import("./full"));
const Sweep = lazy(() => import("./sweep").then((made) => ({ default: made.SweepBuilder })));
const CopyAs = lazy(() => import("../results/copy").then((made) => ({ default: made.CopyAs })));

type Way = "words" | "full" | "sweep";
const WAYS: [Way, string][] = [
  ["words", "In words"],
  ["full", "Full spec"],
  ["sweep", "Try many"],
];
const SETTLED_MS = 500;

/** Chooses what is wanted, shows what it would cut, and starts the job. */
export function Goals(props: { model: Model; data: string | null; start: Spec | null }) {
  const [way, setWay] = useState<Way>(props.start ? "full" : "words");
  const [choice, setChoice] = useState<Choice>(() => {
    const goal = GOALS[props.data ? 0 : 2] as Goal;
    return { goal, value: goal.start, epochs: 10, exports: ["litert"] };
  });
  const [spec, setSpec] = useState<Spec>(() =>
    props.start
      ? { ...props.start, model: props.model.id, dataset: props.data }
      : specOf(props.model.id, props.data, choice),
  );
  const plan = usePlan(spec, way !== "sweep");

  function choose(changed: Partial<Choice>) {
    const next = { ...choice, ...changed };
    setChoice(next);
    setSpec(specOf(props.model.id, props.data, next));
  }

  return (
    <Card title="What do you want?">
      <div className="row" role="group" aria-label="Way to say it">
        {WAYS.map(([name, title]) => (
          <button
            key={name}
            type="button"
            className={way === name ? "" : "quiet"}
            aria-pressed={way === name}
            onClick={() => setWay(name)}
          >
            {title}
          </button>
        ))}
      </div>
      {way === "words" && <InWords choice={choice} data={props.data} choose={choose} />}
      <Suspense fallback={<Waiting>Loading the form</Waiting>}>
        {way === "full" && (
          <FullSpec
            spec={spec}
            setSpec={setSpec}
            problem={plan.error instanceof Problem ? plan.error : null}
          />
        )}
        {way === "sweep" && <Sweep base={spec} onSubmit={startSweep} />}
      </Suspense>
      {way !== "sweep" && (
        <>
          <Foreseen plan={plan.data} error={plan.error} waiting={plan.isFetching} />
          <Start spec={spec} />
          <Suspense fallback={null}>
            <CopyAs spec={spec} kind="job" />
          </Suspense>
        </>
      )}
    </Card>
  );
}

/** The dry run of a spec that has not changed for a moment. */
function usePlan(spec: Spec, wanted: boolean) {
  const [settled, setSettled] = useState(spec);
  useEffect(() => {
    const timer = setTimeout(() => setSettled(spec), SETTLED_MS);
    return () => clearTimeout(timer);
  }, [spec]);
  return useQuery({
    queryKey: ["plan", settled],
    queryFn: ({ signal }) =>
      asked<Plan>(api.POST("/v1/specs/validate", { body: settled as never, signal })),
    enabled: wanted,
    retry: 1,
    staleTime: 60_000,
  });
}

function InWords(props: {
  choice: Choice;
  data: string | null;
  choose: (changed: Partial<Choice>) => void;
}) {
  const { choice, data, choose } = props;
  const { goal } = choice;
  return (
    <>
      <h3 id="goal">Goal</h3>
      <fieldset className="choices" aria-labelledby="goal">
        {GOALS.map((each) => (
          <label key={each.kind}>
            <input
              type="radio"
              name="goal"
              value={each.kind}
              checked={each.kind === goal.kind}
              disabled={each.needsData && !data}
              onChange={() => choose({ goal: each, value: each.start })}
            />{" "}
            <strong>{each.title}</strong>
            <br />
            <span className="soft">
              {each.says}
              {each.needsData && !data && " Needs data."}
            </span>
          </label>
        ))}
      </fieldset>
      <p className="row">
        <label className="row">
          {goal.label}
          <input
            type="number"
            min={goal.least}
            max={goal.most}
            step={goal.step}
            value={choice.value}
            onChange={(event) => choose({ value: Number(event.target.value) })}
          />
          {goal.unit}
        </label>
        {goal.most <= 100 && (
          <input
            type="range"
            aria-label={`${goal.label} … ${goal.unit}`}
            min={goal.least}
            max={goal.most}
            step={goal.step}
            value={choice.value}
            onChange={(event) => choose({ value: Number(event.target.value) })}
          />
        )}
      </p>
      {data && (
        <>
          <h3 id="effort">Training afterwards</h3>
          <div className="row" role="radiogroup" aria-labelledby="effort">
            {EFFORTS.map((each) => (
              <label key={each.name}>
                <input
                  type="radio"
                  name="effort"
                  checked={choice.epochs === each.epochs}
                  onChange={() => choose({ epochs: each.epochs })}
                />{" "}
                {each.name} <span className="soft">({each.says})</span>
              </label>
            ))}
          </div>
        </>
      )}
      <h3 id="exports">Files beside model.keras</h3>
      <div className="row" role="group" aria-labelledby="exports">
        {EXPORTS.map(([kind, title]) => (
          <label key={kind}>
            <input
              type="checkbox"
              checked={choice.exports.includes(kind)}
              onChange={(event) =>
                choose({
                  exports: event.target.checked
                    ? [...choice.exports, kind]
                    : choice.exports.filter((each) => each !== kind),
                })
              }
            />{" "}
            {title}
          </label>
        ))}
      </div>
    </>
  );
}

/** What the dry run foresees: nothing is queued by it. */
function Foreseen({ plan, error, waiting }: { plan?: Plan; error: unknown; waiting: boolean }) {
  return (
    <section aria-live="polite" aria-label="What this would cut">
      <h3>What this would cut</h3>
      {error ? <Failure error={error} /> : null}
      {!error && plan && (
        <>
          <Facts
            facts={[
              ["Parameters", change(plan.before.nonzero_parameters, plan.after.nonzero_parameters, count)],
              ["MACs", change(plan.before.macs, plan.after.macs, count)],
              ["Weights' bytes", change(plan.before.bytes, plan.after.bytes, bytes)],
            ]}
          />
          {plan.notes?.map((note) => (
            <p className="soft" key={note}>
              {note}
            </p>
          ))}
          {plan.waiting_reason && <p className="soft">{plan.waiting_reason}</p>}
        </>
      )}
      {waiting && <Waiting>Trying it without training</Waiting>}
    </section>
  );
}

function change(before: number, after: number, said: (value: number) => string): string {
  const less = before ? 1 - after / before : 0;
  return `${said(before)} → ${said(after)}${less > 0 ? ` (−${percent(less)})` : ""}`;
}

function Start({ spec }: { spec: Spec }) {
  const start = useMutation({
    mutationFn: () => asked<Job>(api.POST("/v1/jobs", { body: spec as never })),
    onSuccess: (job) => go(`/jobs/${job.id}`),
  });
  return (
    <>
      <p>
        <button type="button" disabled={start.isPending} onClick={() => start.mutate()}>
          {start.isPending ? "Starting…" : "Prune"}
        </button>
      </p>
      <Failure error={start.error} />
    </>
  );
}

async function startSweep(sweep: object): Promise<void> {
  const made = await asked<SweepMade>(api.POST("/v1/sweeps", { body: sweep as never }));
  go(`/sweeps/${made.id}`);
}
