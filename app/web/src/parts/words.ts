// Numbers and jobs as people read them.
import type { Job } from "../api/client";

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });
const plain = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });

export const count = (value: number): string => compact.format(value);
export const number = (value: number): string => plain.format(value);
export const percent = (share: number): string =>
  `${plain.format(Math.round(1000 * share) / 10)} %`;

export function bytes(value: number): string {
  for (const unit of ["B", "KB", "MB", "GB"]) {
    if (value < 1000 || unit === "GB") return `${plain.format(Number(value.toPrecision(3)))} ${unit}`;
    value /= 1000;
  }
  return "";
}

export function seconds(value: number): string {
  if (value < 60) return `${Math.max(1, Math.round(value))} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${Math.round(value % 60)} s`;
  return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} min`;
}

export const milliseconds = (value: number): string => `${plain.format(Number(value.toPrecision(3)))} ms`;
export const when = (iso: string): string =>
  new Date(iso).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });
export const words = (name: string): string => name.replaceAll("_", " ");

/** What tells a person most about a job: what is pruned, and to which goal. */
export function jobName(job: Job): string {
  const { granularity, target } = job.spec.prune;
  const kind = typeof granularity === "string" ? granularity : granularity.kind;
  if (!target) return words(kind);
  const goal = Object.entries(target).find(([name, value]) => name !== "kind" && typeof value === "number");
  const share = goal && (goal[0] === "remove" || goal[0] === "keep");
  return `${words(kind)}, ${words(target.kind)}${
    goal ? ` ${words(goal[0])} ${share ? percent(goal[1] as number) : count(goal[1] as number)}` : ""
  }`;
}
