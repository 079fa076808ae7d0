// The grid of a sweep: values by the path of a field, each tried with each of the others'.
export type Grid = Record<string, unknown[]>;

/** As many as the service takes. */
export const MOST_JOBS = 500;

/** Different shares from one percentage to another, evenly apart, in whole percents. */
export function sharesBetween(from: number, to: number, steps: number): number[] {
  const all = Array.from({ length: steps }, (_, at) =>
    Math.round(steps === 1 ? to : from + ((to - from) * at) / (steps - 1)),
  );
  return [...new Set(all)].map((percent) => percent / 100);
}

export function gridOf(choice: {
  field: "remove" | "keep";
  shares: number[];
  granularities: string[];
  criteria: string[];
  seeds: number;
}): Grid {
  const { granularities, criteria, seeds } = choice;
  return {
    ...(granularities.length > 0 && { "prune.granularity": granularities }),
    ...(criteria.length > 0 && { "prune.criterion": criteria }),
    [`prune.target.${choice.field}`]: choice.shares,
    ...(seeds > 1 && { seed: Array.from({ length: seeds }, (_, at) => at) }),
  };
}

/** How many jobs the grid makes. */
export const size = (grid: Grid): number =>
  Object.values(grid).reduce((product, values) => product * values.length, 1);
