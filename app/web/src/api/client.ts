// The service's public HTTP API, typed by its own OpenAPI document.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

type Schemas = components["schemas"];
export type Model = Schemas["ModelResource"];
export type Dataset = Schemas["DatasetResource"];
export type Job = Schemas["JobResource"];
export type Sweep = Schemas["SweepResource"];
export type ComparedJob = Schemas["ComparedJob"];
export type Metrics = Schemas["Metrics"];
export type State = Schemas["State"];
export type Artifact = Schemas["ArtifactResource"];
export type Analysis = Schemas["ModelAnalysis"];
export type AnalysedLayer = Schemas["AnalysedLayer"];
export type Plan = Schemas["Plan"];
export type JobEvent = Schemas["Event"];
export type Upload = Schemas["UploadResource"];
export type Page<Of> = { items: Of[]; next_cursor?: string | null };
export type Capabilities = Schemas["Capabilities"];
export type Spec = Record<string, unknown>;

/** The folder that the page was loaded from: the service may stand below a path of its proxy. */
export const ROOT = new URL(".", document.baseURI).href.replace(/\/$/, "");

/** A problem document (RFC 9457) or a request without an answer. */
export class Problem extends Error {
  constructor(
    readonly status: number,
    message: string,
    readonly field: string | null = null,
    /** Each fault of a spec, by its field. */
    readonly findings: { field: string | null; detail: string }[] = [],
  ) {
    super(message);
  }

  static of(status: number, body: unknown): Problem {
    const said = (body ?? {}) as {
      detail?: string;
      title?: string;
      field?: string | null;
      errors?: { field: string | null; detail: string }[];
    };
    const message = said.detail ?? said.title ?? `The service answered ${status}.`;
    const field = said.field ?? null;
    return new Problem(status, message, field, said.errors ?? [{ field, detail: message }]);
  }
}

const KEY = "secateur.key";
/** The API key lives as long as the tab: other people may use this browser later. */
export const apiKey = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (key: string) =>
    key ? sessionStorage.setItem(KEY, key) : sessionStorage.removeItem(KEY),
};

export function authorization(): Record<string, string> {
  const key = apiKey.get();
  return key ? { Authorization: `Bearer ${key}` } : {};
}

export const api = createClient<paths>({ baseUrl: ROOT });
api.use({
  onRequest({ request }) {
    for (const [name, value] of Object.entries(authorization())) request.headers.set(name, value);
    // Sent once however often it is tried: a repeated submit is answered with the first job.
    if (request.method === "POST" && !request.headers.has("Idempotency-Key")) {
      request.headers.set("Idempotency-Key", crypto.getRandomValues(new Uint32Array(4)).join("-"));
    }
    return request;
  },
});

/** The body of an answer, or its problem thrown. The type is named where it is asked: what
 * openapi-fetch infers makes tuples into lists. */
export async function asked<T>(
  answer: Promise<{ data?: unknown; error?: unknown; response: Response }>,
): Promise<T> {
  let got;
  try {
    got = await answer;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem(0, "The service does not answer. Is it running, and is the network there?");
  }
  if (!got.response.ok) throw Problem.of(got.response.status, got.error);
  return got.data as T;
}

/** Fetches with the key and hands the file to the browser to save. */
export async function download(url: string, name: string): Promise<void> {
  const response = await fetch(ROOT + url, { headers: authorization() });
  if (!response.ok) throw Problem.of(response.status, await response.json().catch(() => null));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
