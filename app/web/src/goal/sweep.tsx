import { useMutation } from "@tanstack/react-query";
import { type ReactNode, useState } from "react";
import type { Spec } from "../api/client";
import { Failure } from "../parts/common";
import { percent, words } from "../parts/words";
import { CopyAs } from "../results/copy";
import { type Grid, gridOf, MOST_JOBS, sharesBetween, size } from "./grid";
import "../style/results.css";

interface SweepRequest {
  base: Spec;
  grid: Grid;
  name?: string;
}

const GOALS = {
  remove: ["fraction", "Share of the weights or units to remove"],
  macs: ["macs", "Share of the MACs to keep"],
  parameters: ["parameters", "Share of the parameters to keep"],
} as const;
type Goal = keyof typeof GOALS;

const GRANULARITIES: [string, string][] = [
  ["weight", "single weights (zeros)"],
  ["unit", "units"],
  ["channel", "channels"],
  ["layer", "whole blocks of layers"],
];
const CRITERIA: [string, string][] = [
  ["magnitude", "magnitude"],
  ["l1", "L1 norm"],
  ["l2", "L2 norm"],
  ["lamp", "LAMP"],
  ["geometric_median", "geometric median"],
  ["taylor", "Taylor (data)"],
  ["wanda", "Wanda (data)"],
  ["random", "random, as a control"],
];

/** A grid of jobs over one model, put together by sliders and boxes. */
export function SweepBuilder(props: { base: Spec; onSubmit: (sweep: SweepRequest) => Promise<void> }) {
  const [goal, setGoal] = useState<Goal>("remove");
  const [from, setFrom] = useState(30);
  const [to, setTo] = useState(90);
  const [steps, setSteps] = useState(4);
  const [granularities, setGranularities] = useState<string[]>([]);
  const [criteria, setCriteria] = useState<string[]>([]);
  const [seeds, setSeeds] = useState(1);
  const [name, setName] = useState("");
  const send = useMutation({ mutationFn: props.onSubmit });

  const shares = sharesBetween(from, to, steps);
  const grid = gridOf({ field: goal === "remove" ? "remove" : "keep", shares, granularities, criteria, seeds });
  const jobs = size(grid);
  const wrong = complaint(jobs, from, to, shares.length, steps);
  const sweep: SweepRequest = {
    base: withGoal(props.base, GOALS[goal][0]),
    grid,
    ...(name.trim() ? { name: name.trim() } : {}),
  };

  return (
    <form
      className="sweep-builder"
      onSubmit={(event) => {
        event.preventDefault();
        if (!wrong && !send.isPending) send.mutate(sweep);
      }}
    >
      <label className="stack">
        What is varied
        <select value={goal} onChange={(event) => setGoal(event.target.value as Goal)}>
          {Object.entries(GOALS).map(([key, [, text]]) => (
            <option key={key} value={key}>
              {text}
            </option>
          ))}
        </select>
      </label>
      <fieldset className="range">
        <legend>{GOALS[goal][1]}</legend>
        <Handle name="From" value={from} set={setFrom} />
        <Handle name="To" value={to} set={setTo} />
        <Whole name="Steps" value={steps} set={setSteps} />
        <p className="soft" role="status">
          {shares.map(percent).join(", ")}
        </p>
      </fieldset>
      <Boxes title="Granularities" hint="none: the one of the spec" all={GRANULARITIES} chosen={granularities} set={setGranularities} />
      <Boxes title="Criteria" hint="none: the one of the spec" all={CRITERIA} chosen={criteria} set={setCriteria} />
      <div className="row">
        <Whole name="Seeds" value={seeds} set={setSeeds} />
        <label className="stack grow">
          Name (optional)
          <input type="text" maxLength={200} value={name} onChange={(event) => setName(event.target.value)} />
        </label>
      </div>
      <p className={wrong ? "failure" : undefined} role="status">
        {wrong ?? (
          <>
            <strong>
              {jobs} {jobs === 1 ? "job" : "jobs"}
            </strong>
            : {describe(grid)}
          </>
        )}
      </p>
      <Failure error={send.error} />
      <button type="submit" disabled={Boolean(wrong) || send.isPending}>
        {send.isPending ? "Starting…" : `Start ${jobs} ${jobs === 1 ? "job" : "jobs"}`}
      </button>
      <details>
        <summary>The same as a command</summary>
        <CopyAs spec={sweep as unknown as Spec} kind="sweep" />
      </details>
    </form>
  );
}

function complaint(jobs: number, from: number, to: number, shares: number, steps: number): string | null {
  if (jobs > MOST_JOBS) {
    return `That makes ${jobs} jobs, and a sweep may have ${MOST_JOBS} at most: take fewer steps, boxes or seeds.`;
  }
  if (from > to) return "“From” is more than “To”: move one of the handles.";
  if (shares < steps && from !== to) return `There is no room for ${steps} different steps between ${from} % and ${to} %.`;
  return null;
}

const describe = (grid: Grid): string =>
  Object.entries(grid)
    .map(([path, values]) => `${values.length} × ${words(path.split(".").at(-1) ?? path)}`)
    .join(", ");

/** The base with a target of this kind, whose share the grid fills in. */
function withGoal(base: Spec, kind: string): Spec {
  const prune = (base.prune ?? {}) as Record<string, unknown>;
  return { ...base, prune: { ...prune, target: { kind } } };
}

/** A number from 1 to 20. */
function Whole({ name, value, set }: { name: string; value: number; set: (value: number) => void }) {
  return (
    <label className="stack">
      {name}
      <input
        type="number"
        min={1}
        max={20}
        value={value}
        onChange={(event) => set(Math.max(1, Math.min(20, event.target.valueAsNumber || 1)))}
      />
    </label>
  );
}

function Handle({ name, value, set }: { name: string; value: number; set: (value: number) => void }) {
  return (
    <label className="handle">
      <span>{name}</span>
      <input
        type="range"
        min={5}
        max={95}
        step={1}
        value={value}
        aria-valuetext={`${value} percent`}
        onChange={(event) => set(event.target.valueAsNumber)}
      />
      <output>{value} %</output>
    </label>
  );
}

function Boxes(props: {
  title: string;
  hint: ReactNode;
  all: [string, string][];
  chosen: string[];
  set: (chosen: string[]) => void;
}) {
  const { all, chosen, set } = props;
  return (
    <fieldset className="boxes">
      <legend>
        {props.title} <span className="soft">({props.hint})</span>
      </legend>
      {all.map(([key, text]) => (
        <label key={key} className="inline">
          <input
            type="checkbox"
            checked={chosen.includes(key)}
            // In the order of the list, whichever was ticked first.
            onChange={(event) =>
              set(all.map(([each]) => each).filter((each) => (each === key ? event.target.checked : chosen.includes(each))))
            }
          />
          {text}
        </label>
      ))}
    </fieldset>
  );
}
