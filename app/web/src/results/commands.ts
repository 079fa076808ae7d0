// A spec as commands that submit it.
import type { Spec } from "../api/client";

export interface Where {
  server: string;
  /** Whether the service asks for a key, which the commands then read from the environment. */
  keyed: boolean;
}

/** One word for a POSIX shell, whatever is in it. */
export const quoted = (text: string): string =>
  /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;

const json = (value: unknown): string => JSON.stringify(value, null, 2);

export function curl(spec: Spec, kind: "job" | "sweep", { server, keyed }: Where): string {
  const key = keyed ? ` \\\n  -H "Authorization: Bearer $SECATEUR_API_KEY"` : "";
  return `curl --fail-with-body ${quoted(`${server}/v1/${kind}s`)}${key} \\\n  --json ${quoted(json(spec))}\n`;
}

export function python(spec: Spec, kind: "job" | "sweep", { server }: Where): string {
  const use =
    kind === "job"
      ? `    job = secateur.jobs.submit(spec)
    result = job.wait()
    print(result.verdict)
    result.download("model.keras", "model.keras")`
      : `    sweep = secateur.sweeps.submit(spec)
    sweep.wait()
    print(sweep.state.jobs)`;
  return `from app.client import Secateur

spec = ${literal(spec)}

with Secateur(${JSON.stringify(server)}) as secateur:
${use}
`;
}

/** The value as Python writes it. */
export function literal(value: unknown, indent = ""): string {
  if (value === null || value === undefined) return "None";
  if (value === true) return "True";
  if (value === false) return "False";
  const deeper = `${indent}    `;
  if (Array.isArray(value)) return `[${value.map((each) => literal(each, deeper)).join(", ")}]`;
  if (typeof value === "object") {
    const entries = Object.entries(value).map(
      ([name, each]) => `${deeper}${JSON.stringify(name)}: ${literal(each, deeper)},\n`,
    );
    return entries.length === 0 ? "{}" : `{\n${entries.join("")}${indent}}`;
  }
  // JSON's strings and numbers are Python's as well.
  return JSON.stringify(value);
}

interface Files {
  model: string;
  data: string | null;
  options: Record<string, unknown>;
}

/** The command line uploads files by their names, and takes the rest from a file. */
export function prune(spec: Spec, files: Files, where: Where): string {
  const { model: _model, dataset: _dataset, ...rest } = spec;
  const given = Object.fromEntries(
    Object.entries(files.options).filter(([, value]) => value !== null && value !== undefined),
  );
  const data = files.data
    ? ` --data ${quoted(files.data)}${
        Object.keys(given).length > 0 ? ` \\\n  --data-options ${quoted(JSON.stringify(given))}` : ""
      }`
    : "";
  return `${written("spec.json", rest)}
secateur prune ${quoted(files.model)}${data} \\\n  --spec spec.json -o pruned/ --server ${quoted(where.server)}\n`;
}

export const shellSweep = (spec: Spec, where: Where): string =>
  `${written("sweep.json", spec)}
secateur sweep --spec sweep.json -o pruned/ --server ${quoted(where.server)}\n`;

/** By a here-document, in which the shell replaces nothing; JSON holds no line that is its end. */
const written = (name: string, value: unknown): string => `cat > ${name} <<'END'\n${json(value)}\nEND`;
